# %% [markdown]
# # 04 · Does quantization-aware training win back what rounding loses?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/04_qat.ipynb)
#
# Quantization-aware training (QAT) puts the rounding of the int8 file into the training graph, so that the weights learn to
# live with it. Done right, **the file has the same operations, size and speed as the post-training int8 file**, only its
# numbers are better. Done as often published (annotate convolutions, leave the rest alone) batch norms no longer fold and
# float islands remain. Both are made here, side by side.
#
# **Overall flow:** fold batch norms → give every tensor its rounding → fine-tune briefly → export by the same engine as
# `int8` → prove that flatbuffer and training graph agree → compare, paired.

# %% [markdown]
# On Colab, fetch the workbook first; anywhere else this cell does nothing.

# %%
import sys

if "google.colab" in sys.modules:
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")  # noqa: F821
    sys.path.insert(0, "edgeq")

# %% [markdown]
# One import cell; the training graph is built in `edgeq_lib/compress/qat.py`, the file made in `qat_export.py`.

# %%
import time
from typing import Literal

import numpy as np
import pandas as pd
from IPython.display import Markdown
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from edgeq_lib.analysis.tables import rows, variants_table
from edgeq_lib.compress.quantize import qat, qat_export
from edgeq_lib.data import dataset
from edgeq_lib.data.splits import draw_calibration
from edgeq_lib.measure.accuracy import check_parity, score
from edgeq_lib.models import training
from edgeq_lib.models.preprocessing import Preprocessing
from edgeq_lib.models.weights import load_float_model
from edgeq_lib.pipeline.runner import open_study
from edgeq_lib.plots.data import plot_learning_curves
from edgeq_lib.plots.variants import plot_drops
from edgeq_lib.tflite.inspect import inspect_file

# %% [markdown]
# ## Parameters
#
# A low learning rate and few epochs are enough: QAT repairs, it does not learn anew.

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to read and fill: runs/<study>
seed: NonNegativeInt = 0  # decides the order of images
epochs: PositiveInt = 5  # passes over the training images
learning_rate: PositiveFloat = 1e-5  # of the optimizer
optimizer: Literal["adam", "adamw", "sgd"] = "adam"  # of the fine-tuning
batch: PositiveInt = 32  # images a step
distil: bool = False  # learn from the float model's outputs, not from labels
limit_train: PositiveInt | None = None  # use only so many training images, class-balanced
io: Literal["int8", "uint8"] = "int8"  # type of the files' input and output: uint8 takes a camera's pixels
repeats: list[int] = []  # further seeds: other calibration images, another order, the same float model
selective: bool = True  # also make the published selective recipe, to show what it costs

# %% [markdown]
# ## 1 · The training graph
#
# Batch norms are folded into their convolutions (exact), swish and sigmoid become tensors of their own, and every tensor
# that the int8 file holds gets a rounding with the range that calibration saw.

# %%
shelf = open_study(study, stage="04_qat", needs="03_ptq")
images, baseline = dataset.load(shelf), shelf.read("baseline")
preprocess = Preprocessing(**baseline["preprocessing"])
float_model = load_float_model(shelf)

# %%
calibration_set = preprocess(images.calibration_images)
model = qat.quantize_aware(float_model, calibration_set)
print(f"{len(float_model.layers)} layers in the float model, {len(model.layers)} in the training graph")

# %% [markdown]
# ## 2 · Fine-tune
#
# Resumable, a checkpoint an epoch, the best epoch on validation kept (epoch 0 is the rounded network before any training, and
# may win), the learning rate falling to zero along a cosine.
# Images are augmented as in the float training. With `distil`, the float model's logits are the target and labels are not
# needed: it then repairs the float model's own answers.

# %%
chosen = draw_calibration(images.train.labels, limit_train or len(images.train.labels), seed)
train = dataset.Split(np.asarray(images.train.images[chosen]), images.train.labels[chosen]) if limit_train else images.train
recipe = {"data": images.manifest["fingerprint"], "parent": shelf.variant("float32").facts["sha256"], "epochs": epochs,
          "settings": [learning_rate, optimizer, batch, "logits" if distil else "labels", limit_train, baseline["augmentation"]]}
settings = {"epochs": epochs, "learning_rate": learning_rate, "optimizer": optimizer, "batch": batch, "schedule": "cosine",
            "augment": training.augmentation(**baseline["augmentation"]), "teacher": float_model if distil else None,
            "folder": shelf.folder / "training"}

# %%
history = training.fit(model, train, images.validation, preprocess, seed=seed, **settings,
                       key={**recipe, "graph": "full", "seed": seed, "calibration": images.calibration.tolist()})
plot_learning_curves(history)

# %% [markdown]
# ## 3 · Export
#
# The trained float weights go through the same engine as the int8 PTQ file, which gets the ranges that training used. With
# `io: uint8` an op at either door moves pixels and scores by 128; nothing else changes. What training learned from is kept
# beside the file: without labels, only what learned from float32's outputs can be made.

# %%
started, file = time.time(), qat_export.export_int8(model, calibration_set, io)
learned = {"technique": "qat", "trained": "outputs" if distil else "labels"}
variant = shelf.shelve("qat_int8", file, **learned, scheme="int8", engine="litert-quantizer", parent="float32",
                       seed=seed, seconds=round(time.time() - started + sum(epoch["seconds"] for epoch in history), 1))
made = [variant]

# %% [markdown]
# Is the file what training saw? Top-1 of the Keras graph and of the flatbuffer on the same images; disagreements between
# classes that lie within one step of the output's scale are rounding, and counted apart. The yardstick is how far the file is
# from itself: LiteRT's two sets of kernels, XNNPACK and its own, round the same sums in other ways.

# %%
sample = np.concatenate([images.validation.images[:1000], images.train.images[:1000]])[:1000]
agreement = check_parity(model, file, sample, preprocess)
pd.Series(agreement, name="training graph against flatbuffer").to_frame()

# %% [markdown]
# ## 4 · The published selective recipe
#
# Convolutions and dense layers annotated, a no-op configuration elsewhere. It trains, but nothing folds. It gets the same
# data, epochs and learning rate.

# %%
if selective:
    usual = qat.quantize_aware_selective(float_model)
    trained = training.fit(usual, train, images.validation, preprocess, seed=seed, **settings,
                           key={**recipe, "graph": "selective", "seed": seed})
    made.append(shelf.shelve("qat_selective", qat_export.export_selective(usual, calibration_set), **learned, scheme="int8",
                             engine="converter", parent="float32", seed=seed, seconds=sum(e["seconds"] for e in trained)))

# %% [markdown]
# ## 5 · The same with other seeds
#
# Training has its own chance: the calibration images, the order of the images. Each seed in `repeats` does it all again from
# the same float model, so that the spread can stand beside the differences claimed.

# %%
again = []
for other in repeats:
    drawn = draw_calibration(images.train.labels, len(images.calibration), other)
    redone = qat.quantize_aware(float_model, preprocess(images.train.images[drawn]))
    past = training.fit(redone, train, images.validation, preprocess, seed=other, **settings,
                        key={**recipe, "graph": "full", "seed": other, "calibration": drawn.tolist()})
    again.append(shelf.shelve(f"qat_int8_seed{other}", qat_export.export_int8(redone, preprocess(images.train.images[drawn]), io),
                              kind="repeat", repeats="qat_int8", **learned, scheme="int8", engine="litert-quantizer",
                              parent="float32", seed=other, seconds=sum(epoch["seconds"] for epoch in past)))

# %% [markdown]
# ## 6 · Same operations as the PTQ file?
#
# The number of each operation in the files. A file done right adds nothing; QUANTIZE, DEQUANTIZE, MUL or ADD beyond the
# PTQ file's are the price of ranges that are missing and batch norms that did not fold.

# %% tags=["nbval-check-output"]
reference = [shelf.variant("int8")] if (shelf.folder / "variants" / "int8").exists() else []
operations = pd.DataFrame({each.name: inspect_file(each.model())["ops"] for each in [*reference, *made]})
operations.fillna(0).astype(int)

# %% [markdown]
# ## 7 · What does it buy?
#
# On validation, paired with float32. The int8 PTQ file stands beside, since that is what QAT must beat.

# %%
for each in [*made, *again]:
    score(shelf, each, images, preprocess)
table = variants_table([shelf.variant("float32"), *reference, *made])
table

# %%
plot_drops(rows([shelf.variant("float32"), *reference, *made]))

# %% [markdown]
# Seed by seed (nothing when `repeats` is empty):

# %%
variants_table([variant, *again]) if again else Markdown("*No repeats were asked for.*")

# %% [markdown]
# ## What we know now

# %%
row = table.loc["qat_int8"]
beside = table.loc["int8"] if reference else None
Markdown(f"""After {len(history) - 1} epochs **qat_int8** gets {row['top-1 %']:.2f} % on validation, a drop of {row['drop']:+.2f} points
({row['drop 95 %']}){f"; int8 without training dropped {beside['drop']:+.2f} ({beside['drop 95 %']})" if reference else ""}.
Training graph and flatbuffer agree on {agreement['top-1 agreement %']:.1f} % of {agreement['images']} images;
{agreement['within one step']} of the {agreement['disagreements']} disagreements lie within one output step. LiteRT's two sets of
kernels agree about the file on {agreement['between kernels: top-1 agreement %']:.1f} %.""")

# %%
shelf.finish({"variants": [each.name for each in made], "agreement": agreement})
