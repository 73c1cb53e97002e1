# %% [markdown]
# # 20 · How far does quantization come when no image shapes the file?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/20_data_free.ipynb)
#
# Sometimes there is a network and not one image. What can be said of activations then? Batch norms know: a normalized channel has the mean $\beta$ and the deviation $\gamma$ that training gave it. From these follow ranges, bias corrections, and factors that bring the channels of two layers to the same reach. A positive factor $s_i$ of channel $i$ passes through a linear op and through a ReLU,
#
# $$W^{(2)} \,\mathrm{relu}(W^{(1)} x + b) = \big(W^{(2)} S\big)\, \mathrm{relu}\big(S^{-1} W^{(1)} x + S^{-1} b\big), \qquad S = \mathrm{diag}(s),$$
#
# so that weight ranges can be made equal without changing the function.
#
# **Overall flow:** batch norms → ranges without images → which channels may be scaled → one scale per tensor → fewer bits, nearest against SQuant → the shelf.
#
# *What this notebook is not:* a search. A choice by photos would be no data-free one, so each choice is a parameter, fixed beforehand from the papers: DFQ's whole recipe (equalized, high biases absorbed, biases corrected) and SQuant's whole rounding (how each way fares [on photos and networks that no study publishes](../figures/data_free_rounding.md) was measured apart). Validation photos, with labels, only measure; what they would have picked is shown beside it.

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, fetch the workbook first
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")
    sys.path.insert(0, "edgeq")

import time
from typing import Literal

import numpy as np
import pandas as pd
from IPython.display import Markdown
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

# %%
from edgeq_lib.analysis.tables import variants_table
from edgeq_lib.compress.quantize import bn_statistics, calibration, data_free, ptq_recovery
from edgeq_lib.compress.quantize.bias_correction import correct_biases
from edgeq_lib.compress.quantize.kernels import float_kernels
from edgeq_lib.compress.quantize.sensitivity import display_name, most_faithful
from edgeq_lib.compress.quantize.why_not import require
from edgeq_lib.measure.accuracy import predict_file, score
from edgeq_lib.measure.statistics import quality_record
from edgeq_lib.models.network import open_network
from edgeq_lib.pipeline.config import TargetName
from edgeq_lib.plots.layers import plot_ablation
from edgeq_lib.plots.rounding import plot_accuracy_by_bits, plot_channel_ranges
from edgeq_lib.stage import open_study
from edgeq_lib.tflite.rewrite import with_io_type

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to read and fill: runs/<study>
seed: NonNegativeInt = 0  # of the noise images that bias correction is tried on
sweep_images: PositiveInt = 500  # validation images that tables are scored on; they pick nothing
reach: PositiveFloat = 3.0  # deviations of a channel that must stay below ReLU6's ceiling
clip: NonNegativeFloat = 15.0  # largest weight of the file with clipped weights
noise_images: PositiveInt = 16  # images of noise that bias correction is tried on
recipe: Literal["naive", "corrected", "clipped, corrected", "ReLU, equalized, corrected", "equalized", "equalized, corrected", "equalized, absorbed, corrected", "equalized, corrected on noise"] = "equalized, absorbed, corrected"  # of the per-tensor file, see section 5  # noqa: E501
bits: list[int] = [8, 6, 4, 3]  # of the weights, tried: 2 to 8
rounding: Literal["nearest", "squant", "squant_kernels"] = "squant"  # of the files that are kept
roundings: list[str] = ["nearest", "squant", "squant_kernels"]  # compared: rows of squant.METHODS
target: TargetName = "cortex_m_1m"  # where files are to run: decides the form of low-bit layers
io: Literal["int8", "uint8"] = "int8"  # type of input and output: uint8 takes a camera's pixels

# %% [markdown]
# ## 1 · What the batch norms remember
#
# The float file has its batch norms folded away; the Keras model still knows them. Layers and ops are paired by their values.

# %%
stage = open_study(study, "20_data_free", needs="02_baseline", target=target)
images, preprocess, started = stage.data, stage.preprocess, time.time()
float_file, span = stage.float32.model(), preprocess.range
network = open_network(stage)
require(network, "20_data_free")
norms = bn_statistics.batch_norm_statistics(network.keras, float_file)
kernels = float_kernels(float_file)
print(f"{len(norms)} of {len(kernels)} kernels are followed by a batch norm")

# %% [markdown]
# ## 2 · Activation ranges without images
#
# A channel's range is $\beta \pm 6\gamma$, cut by its activation; sums, means and scores are propagated as if what meets were independent (and scores, which are not, reach twice as far). Beside it stands what calibration images would have said (from train; they are used for this table alone).

# %%
ranges = bn_statistics.ranges_from_moments(float_file, norms, span)
some = preprocess(images.calibration_images[:32])
seen = calibration.calibrate(float_file, some, span, "min_max")
ratios = pd.Series({name: calibration.range_width(ranges[name])
                    / max(calibration.range_width(seen[name]), 1e-9) for name in seen})
columns = ["count", "min", "25%", "50%", "75%", "max"]
ratios.describe()[columns].to_frame("range, × that of images").T.round(2)

# %% [markdown]
# Validation measures. `float32` is the reference; all files below are compared with it on the same images.

# %%
part = slice(0, sweep_images)
photos, labels = images.validation.images[part], images.validation.labels[part]
base = stage.float32.arrays()["validation"][part]
top1 = quality_record(base, labels, images.classes)["top1"]

# %% [markdown]
# ## 3 · Which channels may be scaled?
#
# A factor does **not** pass through swish or sigmoid, since swish(*x*/*s*) is no multiple of swish(*x*). Behind a residual addition or a squeeze-and-excite multiplication a channel has several writers or readers, which would all need the same factor. Those stay as they are.

# %%
pairs = data_free.pairs(float_file)
activations = bn_statistics.activations(float_file)
fused = pd.Series(activations)[[kernel.number for kernel in kernels]]
print(f"{len(pairs)} pairs can be equalized, of {len(kernels)} kernels")
fused.value_counts().to_frame("kernels with this activation fused").T

# %% [markdown]
# ## 4 · The price of ReLU6
#
# A ceiling at 6 does not scale along. The paper replaces ReLU6 by ReLU; what that costs is measured **in float**, before anything is rounded. Here only such channels are scaled as stay below 6, before and after, according to their batch norm ($\beta$ + `reach` $\gamma$): the ceiling remains.

# %%
relu = data_free.without_relu6(float_file)
equal, equal_norms = data_free.equalize(float_file, norms, reach)
with_relu, relu_norms = data_free.equalize(relu, norms, reach)
absorbed, absorbed_norms = data_free.absorb_high_biases(equal, equal_norms)
floats = {"ReLU for ReLU6": relu, "equalized": equal, "equalized with ReLU for ReLU6": with_relu,
          "equalized, high biases absorbed": absorbed}
in_float = {name: quality_record(predict_file(model, photos, preprocess, name), labels,
                                 images.classes, base) for name, model in floats.items()}
pd.DataFrame(in_float).T[["top1", "drop", "agreement"]].round(2)

# %% [markdown]
# The kernel whose channels were the most unequal, before and after. With one scale for the whole tensor, channels far below the top share a handful of int8's codes.

# %%
largest = {label: {kernel.name: np.abs(kernel.weights).max(axis=0)
                   for kernel in float_kernels(model)}
           for label, model in (("as trained", float_file), ("equalized", equal))}
spread = {name: values.max() / np.median(values)
          for name, values in largest["as trained"].items()}
unequal = max(spread, key=spread.get)
plot_channel_ranges(display_name(unequal),
                    {label: values[unequal] for label, values in largest.items()})

# %% [markdown]
# ## 5 · One scale per tensor
#
# Per-tensor int8 is where small depthwise networks collapse, and what old accelerators ask for. Bias correction takes off the shift of each channel's mean that rounding leaves: analytically, from the batch norms, or measured on images of noise, which are shaped by nothing but the input's range. Each line below is one recipe: the network, its norms, and whether biases are corrected. The parameter `recipe` names the one that is kept.

# %%
clipped = data_free.clip_weights(float_file, clip)
recipes = {
    "naive": (float_file, norms, None),
    "corrected": (float_file, norms, float_file),
    "clipped, corrected": (clipped, norms, float_file),
    "ReLU, equalized, corrected": (with_relu, relu_norms, with_relu),
    "equalized": (equal, equal_norms, None),
    "equalized, corrected": (equal, equal_norms, equal),
    "equalized, absorbed, corrected": (absorbed, absorbed_norms, absorbed)}
files = {name: data_free.int8_per_tensor(network, own, span, *([correct] if correct else []))
         for name, (network, own, correct) in recipes.items()}

# %%
noise = np.random.default_rng(seed).normal(
    np.mean(span), np.ptp(span) / 4, (noise_images, *photos.shape[1:]))
noise = np.clip(noise, *span).astype(np.float32)
files["equalized, corrected on noise"] = correct_biases(equal, files["equalized"], noise)

# %%
outputs = {name: predict_file(file, photos, preprocess, name) for name, file in files.items()}
steps = {name: ptq_recovery.ablation_row(
    name, "ptq" if name == "naive" else "data_free", file, outputs[name], labels,
    images.classes, base) for name, file in files.items()}
ablation = [{**step, "chosen": name == recipe} for name, step in steps.items()]

# %%
stage.figure("data_free_per_tensor", plot_ablation(ablation), "int8 with one scale per tensor, "
             f"made and chosen (arrow) without any image, measured on "
             f"{len(labels):,} validation images: accuracy lost against float32 (95 % interval), "
             "and agreement with it.")

# %% [markdown]
# ## 6 · Fewer bits: nearest, or SQuant?
#
# SQuant flips weights to their other neighbour so that errors cancel within kernels and within channels. `squant_kernels` stops at the kernels: the sum over a channel is what bias correction mends too, and more exactly. One scale per channel by least squares, the same for all ways of rounding. *Weights only* and *biases corrected* round all layers and leave activations in float; *int8 activations* are real files, in which depthwise kernels keep 8 bits (LiteRT has none of fewer) and, at 4 bits and fewer, 1 × 1 convolutions are dense layers over pixels, for which LiteRT has a fast kernel.

# %%
made = {(width, way): data_free.files_by_rounding(float_file, norms, span, width, way)
        for width in bits for way in dict.fromkeys([rounding, *roundings])}
low = []
for (width, way), group in made.items():
    for name, file in group.items():
        scores = predict_file(file, photos, preprocess, f"{width} bits, {way}, {name}")
        row = ptq_recovery.ablation_row(name, "data_free", file, scores, labels,
                                        images.classes, base)
        low.append({"bits": width, "rounding": way, "file": name, **row})

# %%
stage.figure("data_free_bits", plot_accuracy_by_bits(low, top1),
             f"Top-1 on {len(labels):,} validation images by bits of the weights, for three ways "
             "of rounding, none of which sees an image; dashed: float32.")

# %%
table = pd.DataFrame(low).pivot(index=["file", "rounding"], columns="bits", values="top1")
table[bits].round(1)

# %% [markdown]
# ## 7 · To the shelf
#
# The per-tensor file of the fixed `recipe`, and of each number of bits that LiteRT stores or that packs into four the file of the fixed `rounding`. No photo has a say in this.

# %%
choice = {"int8_per_tensor": (files[recipe], "int8", recipe)}
measured = {"int8_per_tensor": steps}
for width in [width for width in bits if width in (8, 4, 3)]:
    scheme, wanted = "int8" if width == 8 else f"w{width}a8", (width, "int8 activations")
    choice[scheme] = made[width, rounding]["int8 activations"], scheme, rounding
    measured[scheme] = {row["rounding"]: row for row in low
                        if (row["bits"], row["file"]) == wanted}
chosen = {name: way for name, (*_, way) in choice.items()}

# %% [markdown]
# What validation would have picked by the rule of `11_ptq_recovery` (agreement, then signal-to-noise), had it been asked:

# %%
picks = {name: most_faithful(rows) for name, rows in measured.items()}
pd.DataFrame({name: {
    "kept, without photos": chosen[name], "agreement %": rows[chosen[name]]["agreement"],
    "validation would pick": picks[name], "its agreement %": rows[picks[name]]["agreement"]}
    for name, rows in measured.items()}).T

# %%
facts = {"technique": "data_free", "engine": "litert-quantizer", "parent": "float32",
         "seed": seed, "seconds": round(time.time() - started, 1)}
saved = [stage.save_variant(f"data_free_{name}", with_io_type(file, io), **facts, scheme=scheme)
         for name, (file, scheme, _) in choice.items()]
for variant in saved:
    score(stage, variant, images, preprocess)
variants_table([stage.float32, *saved])

# %% [markdown]
# ## What we know now

# %%
naive, best = ablation[0], next(step for step in ablation if step["chosen"])
values = {variant.name: variant.read("quality")["validation"] for variant in saved}
ceiling = "No ReLU6 is in the way." if relu == float_file else (
    f"Replacing ReLU6 by ReLU costs {in_float['ReLU for ReLU6']['drop']:+.2f} points in float, "
    f"equalizing below the ceiling {in_float['equalized']['drop']:+.2f}.")
shown = "; ".join(f"`{name}` ({chosen[name.removeprefix('data_free_')]}) loses "
                  f"{value['drop']:+.2f} points and agrees on {value['agreement']:.1f} %"
                  for name, value in values.items())
Markdown(f"""{len(pairs)} pairs among {len(kernels)} kernels could be equalized. {ceiling} With one
scale per tensor, int8 loses {naive['drop']:+.2f} points as it stands and {best['drop']:+.2f}
({best['drop_low']:+.2f} … {best['drop_high']:+.2f}) as **{best['step']}**, on {len(labels):,}
validation images, which neither picked the recipe nor shaped the file. {shown}.""")

# %% [markdown]
# **Papers:** Nagel et al., *Data-free quantization through weight equalization and bias correction*, [arXiv 1906.04721](https://arxiv.org/abs/1906.04721). Guo et al., *SQuant*, [arXiv 2202.07471](https://arxiv.org/abs/2202.07471).

# %%
stage.write("data_free", {
    "sweep_images": len(labels), "pairs": len(pairs), "float": in_float, "per_tensor": ablation,
    "low_bit": low, "chosen": chosen, "validation_picks": picks, "range_ratio": ratios.median()})
stage.finish({"variants": [variant.name for variant in saved], "chosen": chosen,
              "per_tensor_drop": best["drop"]})
