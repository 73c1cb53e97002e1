# %% [markdown]
# # 31 · What does QKeras really do below eight bits, with and without fine-tuning?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/31_qkeras.ipynb)
#
# "QKeras models of fewer than eight bits lose more than 95 % of their accuracy", a published comparison found. QKeras is a library of quantizers, not a method: what it loses depends on how they are set, and on whether the network is trained with them, which is what the library is for. Its `quantized_bits` rounds a weight $w$ to $N$ bits with a scale $\alpha$,
#
# $$\hat w = \alpha \cdot \operatorname{clip}\big(\operatorname{round}(2^{N-1} w / \alpha),\, -2^{N-1} + 1,\, 2^{N-1} - 1\big) / 2^{N-1},$$
#
# and $\alpha = 1$, the default range, fits a weight of any other size badly. Here recipe and training are both varied, everything else being equal: the same float weights, the same images, the same few epochs.
#
# **Overall flow:** a QKeras model for each recipe and width, straight from the float weights → the same fine-tuned towards float32's outputs, without labels → one table → the integer-only file with the weights that QKeras found → the shelf.
#
# *What this notebook is not:* training from scratch with quantizers in place, as QKeras's own papers do for chips of their own. The rule of every choice is that of `11_ptq_recovery`; test images are not looked at.

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, fetch the workbook first
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")
    sys.path.insert(0, "edgeq")

import dataclasses
import time

import pandas as pd
from IPython.display import Markdown
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

# %%
from edgeq_lib.analysis.tables import variants_table
from edgeq_lib.compress.quantize import low_bit, ptq_recovery, qkeras
from edgeq_lib.compress.quantize.sensitivity import most_faithful
from edgeq_lib.compress.quantize.why_not import require
from edgeq_lib.data.dataset import Split
from edgeq_lib.measure.accuracy import check_parity, predict_file, score
from edgeq_lib.measure.statistics import quality_record
from edgeq_lib.models.network import open_network
from edgeq_lib.models.training import TrainingConfig, predict_keras
from edgeq_lib.pipeline.config import TargetName
from edgeq_lib.plots.rounding import plot_accuracy_by_bits
from edgeq_lib.stage import open_study

# %% [markdown]
# ## Parameters
#
# The rate is far above that of `04_qat`: at few bits there is more to correct than rounding errors.

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to read and fill: runs/<study>
seed: NonNegativeInt = 0  # decides the order of images in training
recipes: list[str] = ["fixed", "default", "careful", "po2"]  # tried: rows of qkeras.RECIPES
bits: list[int] = [8, 4, 3, 2]  # widths of the weights, tried
score_images: PositiveInt = 1000  # validation images that the table is scored on
epochs: NonNegativeInt = 2  # of fine-tuning, learning from float32's outputs; 0 for none
learning_rate: PositiveFloat = 1e-3  # of that, falling along a cosine
batch: PositiveInt = 32  # images per step
limit_train: PositiveInt | None = None  # fine-tune on so many images only, class-balanced
file_bits: PositiveInt = 4  # the width whose models become files, one of `bits`
target: TargetName = "cortex_m_1m"  # where files are to run: decides the form of low-bit layers

# %% [markdown]
# ## 1 · Is QKeras installed?
#
# It is an optional extra: nothing else in this workbook needs it. It was written for Keras 2 and says `tensorflow.keras`, so it is loaded upon the Keras that edgeq uses. Without it, this notebook leaves an empty record and ends.

# %%
stage = open_study(study, "31_qkeras", needs="02_baseline", target=target)
network = open_network(stage)
require(network, "31_qkeras")
missing = qkeras.reason_missing()
again = f"{missing} Then `edgeq run {study} --force --only qkeras`."
Markdown(again if missing else "*QKeras is installed.*")

# %% [markdown]
# ## 2 · Recipes
#
# `fixed` is the shortest way to write a QKeras model: all weights, biases and activations have N bits on the fixed range that the quantizers have by default, whatever the layer holds. `default` is what the library does when `alpha` is left out: a power of two per channel for kernels, the rest as before. `careful` folds batch norms, takes a scale per channel, keeps first layer, depthwise kernels and classifier in 8 bits as `30_low_bit` does, leaves biases to int32, and gives activations 8 bits in ranges from calibration. `po2` is the same with weights that are powers of two.

# %%
chosen = {name: qkeras.recipe(name) for name in recipes}
pd.DataFrame({name: dataclasses.asdict(recipe) for name, recipe in chosen.items()}).T

# %% [markdown]
# What each of them starts from, and is compared with: float32 on the same validation images.

# %%
images, preprocess, started = stage.data, stage.preprocess, time.time()
model, calibration_set = network.keras, preprocess(images.calibration_images)
part = Split(images.validation.images[:score_images], images.validation.labels[:score_images])
base = stage.float32.arrays()["validation"][:score_images]
top1, guess = quality_record(base, part.labels, images.classes)["top1"], 100 / len(images.classes)
print(f"float32: {top1:.2f} % of {len(part.labels):,} images; guessing: {guess:.2f} %")

# %% [markdown]
# ## 3 · Straight from the float weights, then fine-tuned
#
# Fine-tuning learns float32's outputs on training images (no label is used), with QKeras's quantizers in the graph and its gradients through them. The best epoch by agreement on validation is kept, the untrained model among them.

# %%
config = TrainingConfig(epochs, learning_rate, batch, seed, schedule="cosine",
                        augmentation=stage.baseline["augmentation"])
outputs, trained = {}, {}
for name, width in [(name, width) for name in chosen for width in bits if not missing]:
    candidate = qkeras.quantize_network(model, width, chosen[name], calibration_set)
    outputs[name, width, "straight from float"] = predict_keras(
        candidate, part.images, preprocess)
    low_bit.fine_tune(candidate, model, images, preprocess, config, limit_train=limit_train,
                      folder=stage.folder / "training",
                      key=["qkeras", dataclasses.asdict(chosen[name]), width])
    if epochs:
        outputs[name, width, "fine-tuned"] = predict_keras(candidate, part.images, preprocess)
    if width == file_bits and chosen[name].fold:
        trained[name] = candidate

# %% [markdown]
# ## 4 · The table
#
# In QKeras's own arithmetic: float numbers rounded as its quantizers say. Drops are paired with float32, image by image.

# %%
rows = []
for (name, width, way), scores in outputs.items():
    row = quality_record(scores, part.labels, images.classes, base)
    rows.append({"rounding": name, "bits": width, "file": way, **row,
                 "lost": 100 * (1 - row["top1"] / top1),
                 "drop 95 %": f"{row['drop_low']:.1f} … {row['drop_high']:.1f}"})
columns = ["rounding", "bits", "file", "top1", "drop", "drop 95 %", "lost", "agreement"]
names = {"rounding": "recipe", "file": "weights", "top1": "top-1 %",
         "lost": "lost, % of float32", "agreement": "agrees %"}
table = pd.DataFrame(rows, columns=columns).rename(columns=names)
table.set_index(["recipe", "bits", "weights"]).round(1)

# %%
stage.figure("qkeras_bits", plot_accuracy_by_bits(rows, top1), f"QKeras: top-1 on "
             f"{len(part.labels):,} validation images by bits of the weights, for each recipe, "
             "before and after fine-tuning; dashed: float32."
             ) if rows else Markdown("*Nothing to draw.*")

# %% [markdown]
# ## 5 · Real files
#
# Weights of `quantized_bits` are integer codes and a scale per channel, and so are powers of two as long as they reach over few octaves: the integer-only file can hold exactly what QKeras computed with. Activations get int8 with the ranges that calibration finds, finer than QKeras's powers of two. Recipes with batch norms beside the convolutions have no such file: folded, their weights are on no grid.

# %%
files, no_file = qkeras.exports(trained, calibration_set, preprocess.range)
scores = {name: predict_file(file, part.images, preprocess, name) for name, file in files.items()}
compared = {name: ptq_recovery.ablation_row(
    name, "low_bit", file, scores[name], part.labels, images.classes, base)
    for name, file in files.items()}
pd.DataFrame([{"recipe": name, "kB": len(files[name]) / 1000, "top-1 %": row["top1"],
               "agrees %": row["agreement"], "snr": row["snr"]}
              for name, row in compared.items()]).round(2)

# %% [markdown]
# And why there is none for the others, if any:

# %%
Markdown("\n".join(f"- `{name}`: {why}" for name, why in no_file.items())
         or "*All that were tried became files.*")

# %% [markdown]
# Is the file what QKeras computed? Top-1 of both on the same images; the rest is the rounding of activations.

# %%
parity = {name: check_parity(trained[name], file, part.images, preprocess)
          for name, file in files.items()}
pd.DataFrame(parity).round(3)

# %% [markdown]
# ## 6 · To the shelf
#
# The better file by the rule, beside `30_low_bit`'s file of the same width if that notebook has run.

# %%
facts = {"technique": "low_bit", "engine": "qkeras", "parent": "float32", "seed": seed,
         "scheme": f"w{file_bits}a8", "seconds": round(time.time() - started, 1),
         **({"trained": "outputs"} if epochs else {})}
made = [stage.save_variant(f"qkeras_w{file_bits}a8", files[most_faithful(compared)], **facts)
        ] if files else []
for variant in made:
    score(stage, variant, images, preprocess)

# %%
beside = f"w{file_bits}a8_classifier{file_bits}"
others = [stage.variant(beside)] if (stage.folder / "variants" / beside).exists() else []
variants_table([stage.float32, *made, *others]) if made else Markdown("*No file was made.*")

# %% [markdown]
# ## What we know now

# %%
low = [row for row in rows if row["bits"] < 8]
sentences = []
for way in dict.fromkeys(row["file"] for row in low):
    lost = sorted((row["lost"], row["rounding"]) for row in low if row["file"] == way)
    sentences.append(f"{way}, they lose from {lost[0][0]:.1f} % ({lost[0][1]}) to "
                     f"{lost[-1][0]:.1f} % ({lost[-1][1]})")
nothing = 100 - 100 * guess / top1
Markdown(f"""Of {len(low)} results with fewer than eight bits, in shares of float32's accuracy
({top1:.1f} %; guessing would lose {nothing:.1f} %): {'; '.join(sentences)}.""" if low
         else "Nothing was measured, so nothing is known about QKeras here.")

# %% [markdown]
# **Papers:** Coelho et al., *Automatic heterogeneous quantization of deep neural networks for low-latency inference on the edge for particle detectors* (QKeras), [arXiv 2006.10159](https://arxiv.org/abs/2006.10159). Hinton et al., [arXiv 1503.02531](https://arxiv.org/abs/1503.02531).

# %%
stage.write("qkeras", {"rows": rows, "files": compared, "parity": parity, "why_not": no_file,
                       "missing": missing})
stage.finish({"variants": [variant.name for variant in made], "rows": len(rows),
              "missing": missing})
