# %% [markdown]
# # 04 · Does quantization-aware training win back what rounding loses?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/04_qat.ipynb)
#
# Quantization-aware training (QAT) puts the rounding of the int8 file into the training graph, so that the weights learn to live with it. With $Q$ the rounding of weights and activations, it minimizes
#
# $$\min_{w} \; \mathbb{E}_{(x, y)} \; L\big(f(x;\, Q(w)),\, y\big), \qquad \partial Q(w) / \partial w := 1 \text{ inside the range,}$$
#
# where the target $y$ is the label, or (with `distil`) what float32 puts out. Done right, **the file has the same operations, size and speed as the post-training int8 file**; only its numbers are better. Done as often published (annotate convolutions, leave the rest alone) batch norms no longer fold and float islands remain. Both are made here, side by side.
#
# **Overall flow:** fold batch norms → give every tensor its rounding → fine-tune briefly → export by the same engine as `int8` → prove that flatbuffer and training graph agree → compare, paired.

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, fetch the workbook first
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")
    sys.path.insert(0, "edgeq")

import time
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
from IPython.display import Markdown
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

# %%
from edgeq_lib.analysis.tables import rows, variants_table
from edgeq_lib.compress.quantize import qat, qat_export
from edgeq_lib.compress.quantize.low_bit import limited
from edgeq_lib.compress.quantize.why_not import require
from edgeq_lib.data.splits import draw_calibration
from edgeq_lib.files import CannotTake
from edgeq_lib.measure.accuracy import check_parity, score
from edgeq_lib.models import training
from edgeq_lib.models.network import open_network
from edgeq_lib.plots.data import plot_learning_curves
from edgeq_lib.plots.variants import plot_drops
from edgeq_lib.stage import open_study
from edgeq_lib.tflite.inspect import inspect_file

# %% [markdown]
# ## Parameters
#
# A low learning rate and few epochs are enough: QAT corrects, it does not learn anew.

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to read and fill: runs/<study>
seed: NonNegativeInt = 0  # decides the order of images
epochs: PositiveInt = 2  # passes over the training images
learning_rate: PositiveFloat = 1e-5  # of the optimizer
optimizer: Literal["adam", "adamw", "sgd"] = "adam"  # of the fine-tuning
batch: PositiveInt = 32  # images per step
distil: bool = False  # learn from the float model's outputs, not from labels
limit_train: PositiveInt | None = None  # use only so many training images, class-balanced
io: Literal["int8", "uint8"] = "int8"  # type of input and output: uint8 takes a camera's pixels
repeats: list[int] = []  # further seeds: other calibration images, another order of images
selective: bool = False  # also make the published selective recipe, to show what it costs

# %% [markdown]
# ## 1 · The training graph
#
# Batch norms are folded into their convolutions (exact), swish and sigmoid become tensors of their own, and every tensor that the int8 file holds gets a rounding with the range that calibration saw.

# %%
stage = open_study(study, "04_qat", needs="03_ptq")
images, preprocess = stage.data, stage.preprocess
network = open_network(stage)
require(network, "04_qat")
float_model = network.keras
model = qat.quantize_aware(float_model, preprocess(images.calibration_images))
print(f"{len(float_model.layers)} layers in the float model, "
      f"{len(model.layers)} in the training graph")

# %% [markdown]
# ## 2 · Fine-tune, and export
#
# Resumable, one checkpoint per epoch. The best epoch on validation is kept (epoch 0 is the rounded network before any training, and may win). The learning rate falls to zero along a cosine. Images are augmented as in the float training. With `distil`, the float model's logits are the target and labels are not needed.

# %%
train = limited(images.train, limit_train, seed)
config = training.TrainingConfig(epochs, learning_rate, batch, seed, optimizer, "cosine",
                                 augmentation=stage.baseline["augmentation"])
fit = {"folder": stage.folder / "training", "teacher": float_model if distil else None}
key = {"data": images.manifest["fingerprint"], "parent": stage.float32.facts["sha256"],
       "epochs": epochs, "settings": [learning_rate, optimizer, batch,
                                      "logits" if distil else "labels", limit_train,
                                      stage.baseline["augmentation"]]}
facts = {"technique": "qat", "trained": "outputs" if distil else "labels", "scheme": "int8",
         "parent": "float32"}

# %% [markdown]
# The trained weights go through the same engine as the int8 PTQ file, which gets the ranges that training used. Training has its own chance: the calibration images, the order of the images. Each seed in `repeats` does it all again from the same float model, so that the spread can stand beside the differences claimed.

# %%
made, histories = [], {}
for one in [seed, *repeats]:
    drawn = images.calibration if one == seed else draw_calibration(
        images.train.labels, len(images.calibration), one)
    calibration_set, started = preprocess(images.train.images[drawn]), time.time()
    aware = model if one == seed else qat.quantize_aware(float_model, calibration_set)
    own = {**key, "graph": "full", "seed": one, "calibration": drawn.tolist()}
    histories[one] = training.fit(aware, train, images.validation, preprocess,
                                  replace(config, seed=one), key=own, **fit)
    exporting, file = time.time(), qat_export.export_int8(aware, calibration_set, io)
    spent = time.time() - exporting + sum(epoch["seconds"] for epoch in histories[one])
    repeat = {} if one == seed else {"kind": "repeat", "repeats": "qat_int8"}
    made.append(stage.save_variant(
        "qat_int8" if one == seed else f"qat_int8_seed{one}", file, **facts, **repeat,
        engine="litert-quantizer", seed=one, seconds=round(spent, 1)))
variant, *again = made

# %%
plot_learning_curves(histories[seed])

# %% [markdown]
# ## 3 · Is the file what training saw?
#
# Top-1 of the Keras graph and of the flatbuffer on the same images. Disagreements between classes that lie within one step of the output's scale are rounding, and counted apart. The baseline for this is how far the file is from itself: LiteRT's two sets of kernels, XNNPACK and its own, round the same sums in other ways.

# %%
sample = np.concatenate([images.validation.images[:1000], images.train.images[:1000]])[:1000]
agreement = check_parity(model, variant.model(), sample, preprocess)
pd.Series(agreement, name="training graph against flatbuffer").to_frame()

# %% [markdown]
# ## 4 · The published selective recipe
#
# With `selective`: convolutions and dense layers annotated, a no-op configuration elsewhere. It trains, but nothing folds. It gets the same data, epochs and learning rate.

# %%
compared = [variant]
try:
    usual = qat.quantize_aware_selective(float_model) if selective else None
except CannotTake as reason:
    usual = print(f"No selective recipe. {reason}")
if usual:
    trained = training.fit(usual, train, images.validation, preprocess, config,
                           key={**key, "graph": "selective", "seed": seed}, **fit)
    file = qat_export.export_selective(usual, preprocess(images.calibration_images))
    compared.append(stage.save_variant(
        "qat_selective", file, **facts, engine="converter", seed=seed,
        seconds=sum(epoch["seconds"] for epoch in trained)))

# %% [markdown]
# ## 5 · Same operations as the PTQ file?
#
# The number of each operation in the files. A file done right adds nothing; QUANTIZE, DEQUANTIZE, MUL or ADD beyond the PTQ file's are the price of ranges that are missing and batch norms that did not fold.

# %% tags=["nbval-check-output"]
has_int8 = (stage.folder / "variants" / "int8").exists()
reference = [stage.variant("int8")] if has_int8 else []
operations = pd.DataFrame(
    {each.name: inspect_file(each.model())["ops"] for each in [*reference, *compared]})
operations.fillna(0).astype(int)

# %% [markdown]
# ## 6 · What does it buy?
#
# On validation, paired with float32. The int8 PTQ file stands beside, since that is what QAT must beat.

# %%
for each in [*compared, *again]:
    score(stage, each, images, preprocess)
table = variants_table([stage.float32, *reference, *compared])
table

# %%
plot_drops(rows([stage.float32, *reference, *compared]))

# %% [markdown]
# Seed by seed (nothing when `repeats` is empty):

# %%
variants_table(made) if again else Markdown("*No repeats were asked for.*")

# %% [markdown]
# ## What we know now

# %%
row, beside = table.loc["qat_int8"], table.loc["int8"] if reference else None
ptq = "" if beside is None else (
    f"; int8 without training dropped {beside['drop']:+.2f} ({beside['drop 95 %']})")
differ = f""" (of {agreement['disagreements']} others, {agreement['within one step']} differ by
at most one output step)""" if agreement["disagreements"] else ""
Markdown(f"""After {len(histories[seed]) - 1} epochs **qat_int8** gets {row['top-1 %']:.2f} % on
validation, a drop of {row['drop']:+.2f} points ({row['drop 95 %']}){ptq}. Training graph and
flatbuffer agree on {agreement['top-1 agreement %']:.1f} % of {agreement['images']} images{differ}.
LiteRT's two sets of kernels agree about the file on
{agreement['between kernels: top-1 agreement %']:.1f} %.""")

# %% [markdown]
# **Papers:** Jacob et al., [arXiv 1712.05877](https://arxiv.org/abs/1712.05877) (QAT, and why batch norms fold first). Bengio et al., [arXiv 1308.3432](https://arxiv.org/abs/1308.3432) (the straight-through gradient). Hinton et al., [arXiv 1503.02531](https://arxiv.org/abs/1503.02531) (distillation). Nagel et al., [arXiv 2203.11086](https://arxiv.org/abs/2203.11086) (weights that oscillate between two codes).

# %%
stage.finish({"variants": [each.name for each in compared], "agreement": agreement})
