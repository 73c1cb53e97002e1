# %% [markdown]
# # 20 · How far does quantization come without any data?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/20_data_free.ipynb)
#
# Sometimes there is a network and nothing else: no training set, no labels, no photo to calibrate on. But a batch norm
# remembers what it was trained on: each of its channels has mean beta and standard deviation gamma. From these, and from the
# weights, this notebook makes whole int8, 4-bit and 3-bit files **without a single image**.
#
# **Overall flow:** read the batch norms → ranges from them → equalize channels, absorb and correct biases (DFQ, Nagel et al.,
# arXiv 1906.04721) → round with SQuant (arXiv 2202.07471) at falling bits → shelve what validation finds best.
#
# **The rule of every choice** is the largest agreement with float32 on validation images, which measure and make nothing. Test
# images are not looked at.
#
# *What this notebook is not:* nothing is trained, and no images are synthesized. Calibrated and repaired files are those of
# `03_ptq` and `10_ptq_repair`.

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

from edgeq_lib.analysis.tables import variants_table
from edgeq_lib.compress.quantize import bn_statistics, calibration, data_free, ptq_recovery
from edgeq_lib.compress.quantize.bias_correction import correct_biases
from edgeq_lib.compress.quantize.kernels import float_kernels
from edgeq_lib.compress.quantize.sensitivity import display_name, most_faithful
from edgeq_lib.data import dataset
from edgeq_lib.measure.accuracy import predict_file, score
from edgeq_lib.measure.statistics import quality_record
from edgeq_lib.models.preprocessing import Preprocessing
from edgeq_lib.models.weights import load_float_model
from edgeq_lib.stage import open_study
from edgeq_lib.plots.layers import plot_ablation
from edgeq_lib.plots.rounding import plot_accuracy_by_bits, plot_channel_ranges
from edgeq_lib.tflite.rewrite import with_io_type

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to read and fill: runs/<study>
seed: NonNegativeInt = 0  # of the noise images that bias correction is tried on
sweep_images: PositiveInt = 500  # validation images that sweeps are scored on
reach: PositiveFloat = 3.0  # standard deviations of a channel that must stay below a ReLU6's ceiling to be equalized
clip: NonNegativeFloat = 15.0  # largest weight of the file with clipped weights
noise_images: PositiveInt = 16  # images of noise that bias correction is tried on
bits: list[int] = [8, 6, 4, 3]  # of the weights, tried: 2 to 8
roundings: list[str] = ["nearest", "squant", "squant_kernels"]  # tried: rows of squant.METHODS
io: Literal["int8", "uint8"] = "int8"  # type of the shelved files' input and output: uint8 takes a camera's pixels

# %% [markdown]
# ## 1 · What the batch norms remember
#
# The float file has its batch norms folded away; the Keras model still knows them. Layers and ops are paired by their values.

# %%
stage = open_study(study, "20_data_free", needs="02_baseline")
images, baseline, float32 = stage.data, stage.baseline, stage.float32
preprocess, original, started = stage.preprocess, float32.model(), time.time()
norms, span = bn_statistics.batch_norm_statistics(load_float_model(stage), original), preprocess.range
kernels = float_kernels(original)
print(f"{len(norms)} of {len(kernels)} kernels are followed by a batch norm")

# %% [markdown]
# ## 2 · Activation ranges without images
#
# A channel's range is beta ± 6 gamma, cut by its activation; sums, means and scores are propagated as if what meets were
# independent (and scores, which are not, reach twice as far). Beside it stands what calibration images would have said (from
# train; they are used for this table alone).

# %%
found = bn_statistics.ranges_from_moments(original, norms, span)
seen = calibration.calibrate(original, preprocess(images.calibration_images[:32]), span, "min_max")
wide = pd.Series({name: float((found[name]["max"] - found[name]["min"]).max() /
                              max((seen[name]["max"] - seen[name]["min"]).max(), 1e-9)) for name in seen})
wide.describe()[["count", "min", "25%", "50%", "75%", "max"]].to_frame("range, × that of images").T.round(2)

# %% [markdown]
# Validation measures. `float32` is the reference; all files below are compared with it on the same images.

# %%
part = slice(0, sweep_images)
photos, labels = images.validation.images[part], images.validation.labels[part]
base = float32.arrays()["validation"][part]
top1 = quality_record(base, labels, images.classes)["top1"]

# %% [markdown]
# ## 3 · Which channels may be scaled?
#
# A positive factor passes through a linear op and through a ReLU: channel *i* of one layer divided by *s*, what reads it
# multiplied, and nothing has changed but the weight ranges. It does **not** pass through swish or sigmoid, since
# swish(*x*/*s*) is no multiple of swish(*x*); and behind a residual addition or a squeeze-and-excite multiplication a channel
# has several writers or readers, which would all need the same factor. Those stay as they are.

# %%
pairs = data_free.pairs(original)
fused = pd.Series(bn_statistics.activations(original))[[kernel.number for kernel in kernels]]
print(f"{len(pairs)} pairs can be equalized, of {len(kernels)} kernels")
fused.value_counts().to_frame("kernels with this activation fused").T

# %% [markdown]
# ## 4 · The price of ReLU6
#
# A ceiling at 6 does not scale along. The paper replaces ReLU6 by ReLU; what that costs is measured **in float**, before
# anything is rounded. Here only such channels are scaled as stay below 6, before and after, by the word of their batch norm
# (beta + `reach` gamma): the ceiling remains.

# %%
relu = data_free.without_relu6(original)
equal, equal_norms = data_free.equalize(original, norms, reach)
with_relu, relu_norms = data_free.equalize(relu, norms, reach)
absorbed, absorbed_norms = data_free.absorb_high_biases(equal, equal_norms)
floats = {"ReLU for ReLU6": relu, "equalized": equal, "equalized with ReLU for ReLU6": with_relu,
          "equalized, high biases absorbed": absorbed}
in_float = {name: quality_record(predict_file(model, photos, preprocess, name), labels, images.classes, base)
            for name, model in floats.items()}
pd.DataFrame(in_float).T[["top1", "drop", "agreement"]].round(2)

# %% [markdown]
# The kernel whose channels were the most unequal, before and after. With one scale for the whole tensor, channels far below
# the top share a handful of int8's steps.

# %%
sizes = {label: {kernel.name: np.abs(kernel.weights).max(axis=0) for kernel in float_kernels(model)}
         for label, model in (("as trained", original), ("equalized", equal))}
unequal = max(sizes["as trained"], key=lambda name: sizes["as trained"][name].max() / np.median(sizes["as trained"][name]))
plot_channel_ranges(display_name(unequal), {label: each[unequal] for label, each in sizes.items()})

# %% [markdown]
# ## 5 · One scale a tensor
#
# Per-tensor int8 is where small depthwise networks collapse, and what old accelerators ask for. Bias correction takes off the
# shift of each channel's mean that rounding leaves: analytically, from the batch norms, or measured on images of noise, which
# are shaped by nothing but the input's range.

# %%
files = {"naive": data_free.int8_per_tensor(original, norms, span),
         "corrected": data_free.int8_per_tensor(original, norms, span, original),
         "clipped, corrected": data_free.int8_per_tensor(data_free.clip_weights(original, clip), norms, span, original),
         "ReLU, equalized, corrected": data_free.int8_per_tensor(with_relu, relu_norms, span, with_relu),
         "equalized": data_free.int8_per_tensor(equal, equal_norms, span),
         "equalized, corrected": data_free.int8_per_tensor(equal, equal_norms, span, equal),
         "equalized, absorbed, corrected": data_free.int8_per_tensor(absorbed, absorbed_norms, span, absorbed)}
noise = np.random.default_rng(seed).normal(np.mean(span), np.ptp(span) / 4, (noise_images, *photos.shape[1:]))
files["equalized, corrected on noise"] = correct_biases(
    equal, files["equalized"], np.clip(noise, *span).astype(np.float32))

# %%
outputs = {name: predict_file(file, photos, preprocess, name) for name, file in files.items()}
rungs = {name: ptq_recovery.ablation_row(name, "ptq" if name == "naive" else "data_free", file, outputs[name], labels, images.classes,
                               base) for name, file in files.items()}
per_tensor = most_faithful(rungs)
rungs = [{**rung, "chosen": name == per_tensor} for name, rung in rungs.items()]

# %%
stage.figure("data_free_per_tensor", plot_ablation(rungs), f"int8 with one scale a tensor, made without any image, on "
             f"{len(labels):,} validation images: accuracy lost against float32 (95 % interval), and agreement with it.")

# %% [markdown]
# ## 6 · Fewer bits: nearest, or SQuant?
#
# SQuant flips weights to their other neighbour so that errors cancel within kernels and within channels. `squant_kernels` stops
# at the kernels: the sum over a channel is what bias correction mends too, and more exactly. One scale a channel, steps by
# least squares, the same for all ways of rounding. *Weights only* and *biases corrected* round all layers and leave
# activations in float; *int8 activations* are real files, in which depthwise kernels keep 8 bits (LiteRT has none of fewer).

# %%
made = {(width, way): data_free.files_by_rounding(original, norms, span, width, way) for width in bits for way in roundings}
low = []
for (width, way), group in made.items():
    for name, file in group.items():
        scores = predict_file(file, photos, preprocess, f"{width} bits, {way}, {name}")
        row = ptq_recovery.ablation_row(name, "data_free", file, scores, labels, images.classes, base)
        low.append({"bits": width, "rounding": way, "file": name, **row})

# %%
stage.figure("data_free_bits", plot_accuracy_by_bits(low, top1), f"Top-1 on {len(labels):,} validation images by "
             "bits of the weights, for three ways of rounding, without any image; dashed: float32.")

# %%
pd.DataFrame(low).pivot(index=["file", "rounding"], columns="bits", values="top1")[bits].round(1)

# %% [markdown]
# ## 7 · To the shelf
#
# The best per-tensor file, and of each number of bits that LiteRT stores or that packs into four the best way of rounding.

# %%
choice = {"int8_per_tensor": (files[per_tensor], "int8", per_tensor)}
for width in [width for width in bits if width in (8, 4, 3)]:
    rows = {row["rounding"]: row for row in low if (row["bits"], row["file"]) == (width, "int8 activations")}
    way, scheme = most_faithful(rows), "int8" if width == 8 else f"w{width}a8"
    choice[scheme] = made[width, way]["int8 activations"], scheme, way

# %%
facts = {"technique": "data_free", "engine": "litert-quantizer", "parent": "float32", "seed": seed,
         "seconds": round(time.time() - started, 1)}
shelved = [stage.save_variant(f"data_free_{name}", with_io_type(file, io), **facts, scheme=scheme)
           for name, (file, scheme, _) in choice.items()]
for variant in shelved:
    score(stage, variant, images, preprocess)
variants_table([float32, *shelved])

# %%
chosen = {name: way for name, (*_, way) in choice.items()}
stage.write("data_free", {"sweep_images": len(labels), "pairs": len(pairs), "float": in_float, "per_tensor": rungs,
                          "low_bit": low, "chosen": chosen, "range_ratio": wide.median()})

# %% [markdown]
# ## What we know now

# %%
naive, best = rungs[0], next(rung for rung in rungs if rung["chosen"])
values = {variant.name: variant.read("quality")["validation"] for variant in shelved}
ceiling = f"Replacing ReLU6 by ReLU costs {in_float['ReLU for ReLU6']['drop']:+.2f} points in float, equalizing below the " \
    f"ceiling {in_float['equalized']['drop']:+.2f}." if relu != original else "No ReLU6 is in the way."
Markdown(f"""{len(pairs)} pairs among {len(kernels)} kernels could be equalized. {ceiling} With one scale a tensor, int8 loses
{naive['drop']:+.2f} points as it stands and {best['drop']:+.2f} ({best['drop_low']:+.2f} … {best['drop_high']:+.2f}) as
**{best['rung']}**, on {len(labels):,} validation images and made without one. """ + "; ".join(
    f"`{name}` ({chosen[name.removeprefix('data_free_')]}) loses {value['drop']:+.2f} points and agrees on "
    f"{value['agreement']:.1f} %" for name, value in values.items()) + ".")

# %%
stage.finish({"variants": [variant.name for variant in shelved], "chosen": chosen, "per_tensor_drop": best["drop"]})
