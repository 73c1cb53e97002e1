# %% [markdown]
# # 30 · How few bits do weights need, with a handful of unlabelled images?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/30_low_bit.ipynb)
#
# "int8 works, four bits break", comparisons say, and rounding to nearest does break. But a weight need not go to the nearest
# of its neighbours: what counts is what the **layer puts out**. This notebook rounds each layer so that its output on a few
# unlabelled images stays what it was, given the inputs that the rounded layers before it really send. What comes out is a
# file with 4-bit weights and 8-bit activations that computes in integers only, on LiteRT's fast kernels.
#
# **Overall flow:** 1 × 1 convolutions become dense layers → methods of rounding compared → fewer bits, and the classifier →
# the file against its simulation → blocks that share the work → fine-tuning on the grid, without labels → the ladder → the
# stage.
#
# **The rule of every choice** is that of `10_ptq_repair`: the largest agreement with float32 on validation images, of equals
# the larger signal-to-noise ratio of the outputs. Test images are not looked at.

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, fetch the workbook first
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")
    sys.path.insert(0, "edgeq")

import gzip
import time
from typing import Literal
import numpy as np
import pandas as pd
from IPython.display import Markdown
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from edgeq_lib.analysis.tables import variants_table
from edgeq_lib.compress.quantize import block_reconstruction, calibration, layerwise_rounding, low_bit, ptq_recovery, qat, qat_export, quantized_weights
from edgeq_lib.compress.quantize.bias_correction import correct_biases, correct_if_better
from edgeq_lib.compress.quantize.kernels import float_kernels
from edgeq_lib.compress.quantize.sensitivity import EvaluationContext, most_faithful
from edgeq_lib.data import dataset
from edgeq_lib.measure.accuracy import check_parity, predict_file, score
from edgeq_lib.models.convert import convert
from edgeq_lib.models.graph import fold_batch_norms
from edgeq_lib.models.preprocessing import Preprocessing
from edgeq_lib.models.weights import load_float_model
from edgeq_lib.stage import open_study
from edgeq_lib.plots.layers import plot_ablation
from edgeq_lib.tflite.inspect import inspect_file
from edgeq_lib.tflite.rewrite import as_dense, with_io_type

# %% [markdown]
# ## Parameters
#
# First layer and depthwise kernels keep 8 bits: they hold few weights and stand rounding badly. So do convolutions larger than
# 1 × 1, for which LiteRT has no fast kernel, unless they hold most of the weights.

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to read and fill: runs/<study>
seed: NonNegativeInt = 0  # decides the order of images in training
bits: list[int] = [4, 3, 2]  # widths of dense layers, tried; the first is the one that methods are compared at
classifier_bits: list[int] = [8, 4]  # widths of the last layer, tried
methods: list[str] = ["nearest", "gptq_descent", "power_of_two"]  # of rounding, tried: rows of low_bit.METHODS
rounding_images: PositiveInt = 64  # calibration images that rounding looks at
score_images: PositiveInt = 500  # validation images that tables are scored on
block_steps: NonNegativeInt = 300  # of training on each block's output; 0 for none
block_rate: PositiveFloat = 1e-2  # learning rate of that, in steps of the grid: with few steps of a low rate no code moves
epochs: NonNegativeInt = 2  # of fine-tuning on the grid, learning from float32's outputs; 0 for none
learning_rate: PositiveFloat = 3e-5  # of that, falling along a cosine
batch: PositiveInt = 32  # images a step
limit_train: PositiveInt | None = None  # fine-tune on so many training images only, class-balanced
io: Literal["int8", "uint8"] = "int8"  # type of the shelved files' input and output: uint8 takes a camera's pixels

# %% [markdown]
# ## 1 · Dense layers over pixels
#
# LiteRT computes a dense layer with 4-bit weights as fast as one with 8; for convolutions it has no such kernel. A 1 × 1
# convolution **is** a dense layer over pixels, so each is rewritten as one: the same function, and the weights that 4 bits
# can be spent on without losing time.

# %%
stage = open_study(study, "30_low_bit", needs="02_baseline")
images, baseline, float32 = stage.data, stage.baseline, stage.float32
preprocess, started = stage.preprocess, time.time()
model = fold_batch_norms(load_float_model(stage))
original = as_dense(convert(model))

# %%
base = float32.arrays()["validation"]
part, same = slice(0, score_images), predict_file(original, images.validation.images, preprocess, "the same function")
kernels = pd.DataFrame([{"kind": kernel.kind, "weights": kernel.weights.size} for kernel in float_kernels(original)])
print(f"largest difference to float32's outputs: {np.abs(same - base).max():.1e}")
kernels.groupby("kind")["weights"].agg(["count", "sum"]).assign(share=lambda table: (100 * table["sum"] / table["sum"].sum()).round(1))

# %% [markdown]
# ## 2 · Which way to round?
#
# `naive` spreads each channel's codes up to its largest weight. All others choose steps by the error of the layer's output,
# aim at the weights that would be right for the inputs that really come, and then round: to `nearest`; so, then moving single
# codes as long as the output error falls (`descent`, on the objective of AdaRound, arXiv 2004.10568); one weight after the
# other, the rest making up for the error (`gptq`, arXiv 2210.17323); or that and then the descent. `power_of_two` does as the
# last with steps that are powers of two, for chips that shift where others multiply; training below keeps them so.

# %%
calibration_set = preprocess(images.calibration_images)
observed = calibration.observe(original, calibration_set, histogram=False)
found = calibration.summarize(observed, "covering", preprocess.range)
chosen_images = calibration_set[calibration.drop_outlier_images(observed, rounding_images)]
case = EvaluationContext(original, observed, images.validation.images[part], images.validation.labels[part], base[part], preprocess)

# %%
naive = quantized_weights.round_all_to_nearest(original, found, layerwise_rounding.default_widths(original, bits=bits[0], classifier=max(classifier_bits)))
by_way = {way: layerwise_rounding.round_by_classifier_width(original, chosen_images, found, bits[0], classifier_bits, way) for way in methods}
rounded = {"naive": naive, **{way: each[max(classifier_bits)] for way, each in by_way.items()}}
files = {name: quantized_weights.to_file(original, grids, found) for name, grids in rounded.items()}
by_method = {name: case.compare(file) for name, file in files.items()}
pd.DataFrame(by_method).T.round(2)

# %% [markdown]
# The best way by the rule goes on. Bias correction (see `10_ptq_repair`) is kept where it helps.

# %%
method = most_faithful({name: by_method[name] for name in methods})
corrected = correct_biases(original, files[method], chosen_images)
by_bias = {method: by_method[method], "and bias correction": case.compare(corrected)}
helps = most_faithful(by_bias) != method
pd.DataFrame(by_bias).T.round(2)

# %% [markdown]
# ## 3 · How few bits?
#
# LiteRT stores 3 bits as 4, in convolutions 2 bits too: the file does not shrink then, but what is downloaded does (`gzip
# kB`). The classifier holds many weights and decides the answer, so it is tried on its own.

# %%
tried, by_width = {}, {}
for width in bits:
    each = by_way[method] if width == bits[0] else layerwise_rounding.round_by_classifier_width(original, chosen_images, found, width,
                                                                              classifier_bits, method)
    for last, grids in each.items():
        file = quantized_weights.to_file(original, grids, found)
        tried[width, last] = grids, correct_biases(original, file, chosen_images) if helps else file
        by_width[f"{width} bits, classifier {last}"] = {**case.compare(tried[width, last][1]),
                                                        "gzip kB": len(gzip.compress(tried[width, last][1], mtime=0)) / 1000}
pd.DataFrame(by_width).T.round(2)

# %% [markdown]
# ## 4 · Does the file compute what was decided?
#
# The training graph of `04_qat`, with these grids in its kernels, computes in float what the file computes in integers. They
# must name the same class; disagreements within one step of the output are rounding, and counted apart. How far a file is
# from itself is the yardstick: LiteRT's two sets of kernels, XNNPACK and its own, round the same sums in other ways.

# %%
grids, _ = tried[bits[0], min(classifier_bits)]
simulation = qat.quantize_aware(model, calibration_set, qat_export.kernels_by_layer(model, original, grids))
sample = np.concatenate([images.validation.images[:1000], images.train.images[:1000]])[:1000]
parity = check_parity(simulation, qat_export.export_int8(simulation, calibration_set), sample, preprocess)
pd.Series(parity, name="simulation against file").to_frame()

# %% [markdown]
# ## 5 · Blocks that share the work
#
# Layers of one block can make up for each other, and a residual connection is part of the block. So its codes are trained to
# give out what the block does in float, on the images that rounding saw (arXiv 2102.05426), one block after the other. Kept
# where the whole network is nearer to float32 for it.

# %%
by_block, layerwise = [], simulation.get_weights()
by_training = {"layer by layer": by_width[f"{bits[0]} bits, classifier {min(classifier_bits)}"]}
if block_steps:
    by_block = block_reconstruction.reconstruct(simulation, model, chosen_images, steps=block_steps, learning_rate=block_rate, seed=seed)
    reconstructed, by_training["block by block"] = correct_if_better(
        original, qat_export.export_int8(simulation, calibration_set), chosen_images, case.compare)
    if most_faithful(by_training) == "layer by layer":
        simulation.set_weights(layerwise)
pd.DataFrame(by_block).round(4)

# %% [markdown]
# ## 6 · Fine-tuning on the grid
#
# Weights and steps are trained together (arXiv 1902.08153), from the grid just found, towards float32's outputs on training
# images; no label is used. The best epoch by agreement on validation is kept, epoch 0 among them.

# %%
history = low_bit.fine_tune(
    simulation, model, images, preprocess, epochs=epochs, learning_rate=learning_rate, batch=batch, limit_train=limit_train,
    seed=seed, augmentation=baseline["augmentation"], folder=stage.folder / "training")
pd.DataFrame(history).round(4)

# %%
if epochs:
    trained, by_training["fine-tuned"] = correct_if_better(
        original, qat_export.export_int8(simulation, calibration_set), chosen_images, case.compare)
pd.DataFrame(by_training).T[["agreement", "snr", "top1", "kB"]].round(2)

# %% [markdown]
# ## 7 · The ladder
#
# On **all** of validation, each rung paired with float32.

# %%
steps = {f"{bits[0]} bits, naive": files["naive"], **{f"rounding by {way}": files[way] for way in methods},
         **{f"{width} bits, classifier {last}": file for (width, last), (_, file) in tried.items()}}
steps |= {"block by block": reconstructed} if block_steps else {}
steps |= {"fine-tuned": trained} if epochs else {}
outputs = {name: predict_file(file, images.validation.images, preprocess, name) for name, file in steps.items()}

# %%
kinds = {f"{bits[0]} bits, naive": "ptq", "fine-tuned": "qat"}
rungs = {name: ptq_recovery.ablation_row(name, kinds.get(name, "low_bit"), file, outputs[name], images.validation.labels,
                               images.classes, base) for name, file in steps.items()}
chosen = most_faithful(rungs)
rungs = [{**rung, "chosen": name == chosen} for name, rung in rungs.items()]
stage.figure("low_bit_ladder", plot_ablation(rungs), f"From naive rounding to fine-tuning at {bits[0]} bits and below, on "
             f"{rungs[0]['n']:,} validation images: accuracy lost against float32 (95 % interval), and agreement with it.")

# %% [markdown]
# ## 8 · To the shelf
#
# One file a pair of widths, and the fine-tuned one; measured like every other variant.

# %%
facts = {"technique": "low_bit", "engine": "litert-quantizer", "parent": "float32", "seed": seed}
made = [stage.save_variant(f"w{width}a8_classifier{last}", with_io_type(file, io), **facts, scheme=f"w{width}a8",
                     seconds=round(time.time() - started, 1)) for (width, last), (_, file) in tried.items()]
for label, way, learned in (("blocks", "block by block", {}), ("trained", "fine-tuned", {"trained": "outputs"})):
    if way in steps:
        made.append(stage.save_variant(f"w{bits[0]}a8_{label}", with_io_type(steps[way], io), **facts, **learned,
                                 scheme=f"w{bits[0]}a8", seconds=round(time.time() - started, 1)))
for variant in made:
    score(stage, variant, images, preprocess)
variants_table([float32, *made])

# %% [markdown]
# What the files hold, read from the flatbuffers: no float operation, no operation that int8 does not have.

# %%
reports = {variant.name: inspect_file(variant.model()) for variant in made}
pd.DataFrame({name: {"integer only": each["integer_only"], **{f"{width} bits, %": round(100 * share, 1) for width, share in
                     each["weight_bits_share"].items()}} for name, each in reports.items()}).T

# %%
stage.write("low_bit", {"methods": by_method, "bias_correction": by_bias, "widths": by_width, "parity": parity,
                        "blocks": by_block, "training": by_training, "history": history, "rungs": rungs, "method": method})

# %% [markdown]
# ## What we know now

# %%
low = by_training["layer by layer"]
further = "; ".join(f"**{way}** on {figures['agreement']:.1f} %" for way, figures in list(by_training.items())[1:])
Markdown(f"""At {bits[0]} bits, naive rounding agrees with float32 on {by_method['naive']['agreement']:.1f} % of
{len(case.labels):,} validation images; the best way, **{method}**, on {by_method[method]['agreement']:.1f} %, without a label
and without training. With the classifier in {min(classifier_bits)} bits the file weighs {low['kB']:,.0f} kB
({len(float32.model()) / 1000 / low['kB']:.1f} × less than float32) and agrees on {low['agreement']:.1f} %{"; " if further else ""}
{further}. Simulation and file name the same class on {parity['top-1 agreement %']:.1f} % of {parity['images']} images,
{parity['within one step']} of the {parity['disagreements']} disagreements within one output step; LiteRT's two sets of kernels
do so for this one file on {parity['between kernels: top-1 agreement %']:.1f} %, {parity['between kernels: within one step']} of
{parity['between kernels: disagreements']} within one step.""")

# %%
stage.finish({"variants": [variant.name for variant in made], "method": method, "parity": parity})
