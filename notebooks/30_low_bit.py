# %% [markdown]
# # 30 · How few bits do weights need, with a handful of unlabelled images?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/30_low_bit.ipynb)
#
# "int8 works, four bits break", comparisons say, and rounding to nearest does break. But a weight need not go to the nearest of its neighbours: what counts is the **layer's output**. For a layer with weights $W$, inputs $X$ in float and $\hat X$ behind the rounded layers, this notebook looks for codes $Q$ and scales $s$ with
#
# $$\min_{Q, s} \; \lVert W X - (s \odot Q)\, \hat X \rVert^2 .$$
#
# What comes out is a file with 4-bit weights and 8-bit activations that computes in integers only: on LiteRT's fast kernels where its 4-bit layers are dense or 1 × 1 convolutions, on slower ones where wider convolutions hold most of the weights and get 4 bits too.
#
# **Overall flow:** 1 × 1 convolutions become dense layers → methods of rounding compared → fewer bits, and the classifier → the file against its simulation → blocks that share the work → fine-tuning without labels → the ablation → the shelf.
#
# **The rule of every choice** is that of `11_ptq_recovery`: the largest agreement with float32 on validation images, of equals the larger signal-to-noise ratio of the outputs. Test images are not looked at.

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

# %%
from edgeq_lib.analysis.tables import variants_table
from edgeq_lib.compress.quantize import (
    block_reconstruction, calibration, layerwise_rounding, low_bit, ptq_recovery, qat, qat_export,
    quantized_weights)
from edgeq_lib.compress.quantize.bias_correction import correct_biases, correct_if_better
from edgeq_lib.compress.quantize.kernels import float_kernels
from edgeq_lib.compress.quantize.sensitivity import EvaluationContext, most_faithful
from edgeq_lib.compress.quantize.why_not import why_not
from edgeq_lib.data.splits import draw_calibration
from edgeq_lib.files import CannotTake
from edgeq_lib.measure.accuracy import check_parity, predict_file, score
from edgeq_lib.models.network import open_network
from edgeq_lib.models.training import TrainingConfig
from edgeq_lib.pipeline.config import TargetName
from edgeq_lib.plots.layers import plot_ablation
from edgeq_lib.progress import progress
from edgeq_lib.stage import open_study
from edgeq_lib.tflite.inspect import inspect_file
from edgeq_lib.tflite.rewrite import with_io_type

# %% [markdown]
# ## Parameters
#
# First layer and depthwise kernels keep 8 bits: they hold few weights and are sensitive to quantization. So do convolutions larger than 1 × 1, for which LiteRT has no fast kernel, unless they hold most of the weights.

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to read and fill: runs/<study>
seed: NonNegativeInt = 0  # decides the order of images in training
bits: list[int] = [4]  # widths of dense layers, tried; methods are compared at the first
classifier_bits: list[int] = [4]  # widths of the last layer, tried
methods: list[str] = ["nearest", "gptq_descent"]  # of rounding: rows of layerwise_rounding.METHODS
rounding_images: PositiveInt = 64  # calibration images that rounding looks at
score_images: PositiveInt = 500  # validation images that tables are scored on
block_steps: NonNegativeInt = 0  # of training on each block's output; 0 for none
block_rate: PositiveFloat = 1e-2  # learning rate of that, in scales: too low, no code moves
epochs: NonNegativeInt = 0  # of fine-tuning, learning from float32's outputs; 0 for none
learning_rate: PositiveFloat = 3e-5  # of that, falling along a cosine
batch: PositiveInt = 32  # images per step
limit_train: PositiveInt | None = None  # fine-tune on so many images only, class-balanced
repeats: list[int] = []  # further seeds: the first width is rounded again from other images
target: TargetName = "cortex_m_1m"  # where files are to run: decides the form of low-bit layers
io: Literal["int8", "uint8"] = "int8"  # type of input and output: uint8 takes a camera's pixels

# %% [markdown]
# ## 1 · Dense layers over pixels
#
# LiteRT computes a dense layer with 4-bit weights as fast as one with 8; for convolutions it has no such kernel. A 1 × 1 convolution **is** a dense layer over pixels, so each is rewritten as one: the same function, and the weights that 4 bits can be spent on without losing time. A network that cannot be trained is rounded layer by layer; sections 4 to 6 then are empty.

# %%
stage = open_study(study, "30_low_bit", needs="02_baseline", target=target)
images, preprocess, started = stage.data, stage.preprocess, time.time()
network = open_network(stage)
untrained = why_not(network, "30_low_bit", "training")  # a reason, or None
model, float_file = low_bit.with_dense_layers(network, trainable=not untrained)
block_steps, epochs = (0, 0) if untrained else (block_steps, epochs)
base, part = stage.float32.arrays()["validation"], slice(0, score_images)

# %%
same = predict_file(float_file, images.validation.images, preprocess, "the same function")
kernels = pd.DataFrame([{"kind": kernel.kind, "weights": kernel.weights.size}
                        for kernel in float_kernels(float_file)])
print(f"largest difference to float32's outputs: {np.abs(same - base).max():.1e}")
counts = kernels.groupby("kind")["weights"].agg(["count", "sum"])
counts.assign(share=(100 * counts["sum"] / counts["sum"].sum()).round(1))

# %% [markdown]
# ## 2 · Which way to round?
#
# `naive` spreads each channel's codes up to its largest weight. All others choose scales by the error of the layer's output, aim at the weights that would be right for the inputs that really come, and then round: to `nearest`; so, then moving single codes as long as the output error falls (`descent`); one weight after the other, the rest making up for the error (`gptq`); or that and then the descent. `power_of_two` does as the last with scales that are powers of two, for chips that shift where others multiply.

# %%
calibration_set = preprocess(images.calibration_images)
observed = calibration.observe(float_file, calibration_set, histogram=False)
ranges = calibration.summarize(observed, "covering", preprocess.range)
chosen_images = calibration_set[calibration.drop_outlier_images(observed, rounding_images)]
context = EvaluationContext(float_file, observed, images.validation.images[part],
                            images.validation.labels[part], base[part], preprocess)

# %%
last = max(classifier_bits)
widths = layerwise_rounding.default_widths(float_file, bits=bits[0], classifier=last)
rounded = {"naive": quantized_weights.round_all_to_nearest(float_file, ranges, widths)}
by_way = {way: layerwise_rounding.round_by_classifier_width(
    float_file, chosen_images, ranges, bits[0], classifier_bits, way) for way in methods}
rounded |= {way: by_classifier[last] for way, by_classifier in by_way.items()}
files = {name: quantized_weights.to_file(float_file, codes, ranges)
         for name, codes in rounded.items()}
by_method = {name: context.compare(file) for name, file in files.items()}
pd.DataFrame(by_method).T.round(2)

# %% [markdown]
# The best way by the rule goes on. Bias correction (see `11_ptq_recovery`) is kept where it helps.

# %%
method = most_faithful({name: by_method[name] for name in methods})
corrected = correct_biases(float_file, files[method], chosen_images)
by_bias = {method: by_method[method], "and bias correction": context.compare(corrected)}
helps = most_faithful(by_bias) != method
print(f"bias correction is {'kept' if helps else 'left out'}: agreement "
      f"{by_method[method]['agreement']:.1f} % without, "
      f"{by_bias['and bias correction']['agreement']:.1f} % with it")

# %% [markdown]
# ## 3 · How few bits?
#
# LiteRT stores 3 bits as 4, in convolutions 2 bits too: the file does not shrink then, but what is downloaded does (`gzip kB`). The classifier holds many weights and decides the answer, so it is tried on its own.

# %%
tried, by_width = {}, {}
for width in bits:
    by_classifier = by_way[method] if width == bits[0] else (
        layerwise_rounding.round_by_classifier_width(
            float_file, chosen_images, ranges, width, classifier_bits, method))
    for last, codes in by_classifier.items():
        file = quantized_weights.to_file(float_file, codes, ranges)
        file = correct_biases(float_file, file, chosen_images) if helps else file
        tried[width, last] = codes, file
        packed = len(gzip.compress(file, mtime=0)) / 1000
        label = f"{width} bits, classifier {last}"
        by_width[label] = {**context.compare(file), "gzip kB": packed}
pd.DataFrame(by_width).T.round(2)

# %% [markdown]
# ## 4 · Does the file compute what was decided?
#
# The training graph of `04_qat`, with these codes in its kernels, computes in float what the file computes in integers. They must name the same class; disagreements within one step of the output's scale are rounding, and counted apart. The noise floor is how far a file is from itself: LiteRT's two sets of kernels, XNNPACK and its own, round the same sums in other ways.

# %%
codes, _ = tried[bits[0], min(classifier_bits)]
try:
    simulation = None if untrained else qat.quantize_aware(
        model, calibration_set, qat_export.kernels_by_layer(model, float_file, codes))
except CannotTake as reason:
    simulation, untrained, block_steps, epochs = None, str(reason), 0, 0
sample = np.concatenate([images.validation.images[:1000], images.train.images[:1000]])[:1000]

# %%
parity = {} if untrained else check_parity(
    simulation, qat_export.export_int8(simulation, calibration_set), sample, preprocess)
comparison = pd.Series(parity, name="simulation against file", dtype=float).to_frame()
Markdown(f"*No simulation. {untrained}*") if untrained else comparison

# %% [markdown]
# ## 5 · Blocks that share the work
#
# With `block_steps`: layers of one block can make up for each other, and a residual connection is part of the block. So its codes are trained to give the output that the block gives in float, on the images that rounding saw, one block after the other. Kept where the whole network is nearer to float32 for it.

# %%
by_block, layerwise = [], simulation.get_weights() if simulation else []
by_training = {"layer by layer": by_width[f"{bits[0]} bits, classifier {min(classifier_bits)}"]}
if block_steps:
    by_block = block_reconstruction.reconstruct(
        simulation, model, chosen_images, steps=block_steps, learning_rate=block_rate, seed=seed)
    exported = qat_export.export_int8(simulation, calibration_set)
    reconstructed, by_training["block by block"] = correct_if_better(
        float_file, exported, chosen_images, context.compare)
    if most_faithful(by_training) == "layer by layer":
        simulation.set_weights(layerwise)

# %% [markdown]
# ## 6 · Fine-tuning on the grid
#
# With `epochs`: weights and scales are trained together, from the codes just found, towards float32's outputs on training images; no label is used. The best epoch by agreement on validation is kept, epoch 0 among them.

# %%
config = TrainingConfig(epochs, learning_rate, batch, seed, schedule="cosine",
                        augmentation=stage.baseline["augmentation"])
history = [] if untrained else low_bit.fine_tune(
    simulation, model, images, preprocess, config, folder=stage.folder / "training",
    limit_train=limit_train)
if epochs:
    exported = qat_export.export_int8(simulation, calibration_set)
    trained, by_training["fine-tuned"] = correct_if_better(
        float_file, exported, chosen_images, context.compare)
pd.DataFrame(by_training).T[["agreement", "snr", "top1", "kB"]].round(2)

# %% [markdown]
# ## 7 · The ablation
#
# On **all** of validation, each step paired with float32.

# %%
steps = {f"{bits[0]} bits, naive": files["naive"],
         **{f"rounding by {way}": files[way] for way in methods},
         **{f"{width} bits, classifier {last}": file
            for (width, last), (_, file) in tried.items()}}
steps |= {"block by block": reconstructed} if block_steps else {}
steps |= {"fine-tuned": trained} if epochs else {}
outputs = {name: predict_file(file, images.validation.images, preprocess, name)
           for name, file in steps.items()}

# %%
techniques = {f"{bits[0]} bits, naive": "ptq", "fine-tuned": "qat"}
rows = {name: ptq_recovery.ablation_row(
    name, techniques.get(name, "low_bit"), file, outputs[name], images.validation.labels,
    images.classes, base) for name, file in steps.items()}
best = most_faithful(rows)
ablation = [{**row, "chosen": name == best} for name, row in rows.items()]
stage.figure("low_bit_ablation", plot_ablation(ablation), "From naive rounding to fine-tuning at "
             f"{bits[0]} bits and below, on {ablation[0]['n']:,} validation images: accuracy lost "
             "against float32 (95 % interval), and agreement with it.")

# %% [markdown]
# ## 8 · To the shelf
#
# One file per pair of widths, and the trained ones; measured like every other variant.

# %%
facts = {"technique": "low_bit", "engine": "litert-quantizer", "parent": "float32", "seed": seed,
         "seconds": round(time.time() - started, 1)}
made = [stage.save_variant(f"w{width}a8_classifier{last}", with_io_type(file, io), **facts,
                           scheme=f"w{width}a8") for (width, last), (_, file) in tried.items()]
name, scheme = f"w{bits[0]}a8", {"scheme": f"w{bits[0]}a8"}
if block_steps:
    file = with_io_type(reconstructed, io)
    made.append(stage.save_variant(f"{name}_blocks", file, **facts, **scheme))
if epochs:
    file = with_io_type(trained, io)
    made.append(stage.save_variant(f"{name}_trained", file, **facts, **scheme, trained="outputs"))
for variant in made:
    score(stage, variant, images, preprocess)
variants_table([stage.float32, *made])

# %% [markdown]
# A calibration set is one draw of many. For each further seed in `repeats` another is drawn from train and the files of the first width are rounded again, by the method and with or without bias correction as chosen above; nothing is chosen anew. Trained files are not repeated.

# %%
again = []
for other in progress(repeats, "other calibration sets"):
    drawn = draw_calibration(images.train.labels, len(images.calibration), other)
    others, begun = preprocess(images.train.images[drawn]), time.time()
    redone = low_bit.make_again(
        float_file, others, preprocess.range, bits=bits[0], classifier_bits=classifier_bits,
        method=method, rounding_images=rounding_images, correct=helps)
    again_facts = {**facts, **scheme, "seed": other, "seconds": round(time.time() - begun, 1)}
    again += [stage.save_variant(
        f"{name}_classifier{last}_seed{other}", with_io_type(file, io), **again_facts,
        kind="repeat", repeats=f"{name}_classifier{last}") for last, file in redone.items()]

# %%
for variant in again:
    score(stage, variant, images, preprocess)
variants_table([*made, *again]) if again else Markdown("*No repeats.*")

# %% [markdown]
# What the files hold, read from the flatbuffers: no float operation, no operation that int8 does not have.

# %%
reports = {variant.name: inspect_file(variant.model()) for variant in made}
pd.DataFrame({name: {"integer only": report["integer_only"], **{
    f"{width} bits, %": round(100 * share, 1)
    for width, share in report["weight_bits_share"].items()}}
    for name, report in reports.items()}).T

# %% [markdown]
# ## What we know now

# %%
low, naive = by_training["layer by layer"], ablation[0]
smaller = len(stage.float32.model()) / 1000 / low["kB"]
further = "".join(f" **{way}** agrees on {figures['agreement']:.1f} %."
                  for way, figures in list(by_training.items())[1:])
simulated = f""" Simulation and file name the same class on {parity['top-1 agreement %']:.1f} % of
{parity['images']} images; LiteRT's two sets of kernels do so for this one file on
{parity['between kernels: top-1 agreement %']:.1f} %.""" if parity else ""
Markdown(f"""At {bits[0]} bits, naive rounding loses {naive['drop']:+.2f} points
({naive['drop_low']:+.2f} … {naive['drop_high']:+.2f}) and agrees with float32 on
{by_method['naive']['agreement']:.1f} % of {len(context.labels):,} validation images; the best way,
**{method}**, agrees on {by_method[method]['agreement']:.1f} %, without a label and without
training. With the classifier in {min(classifier_bits)} bits the file weighs {low['kB']:,.1f} kB
({smaller:.1f} × less than float32) and agrees on {low['agreement']:.1f} %.{further}{simulated}""")

# %% [markdown]
# **Papers:** Nagel et al., *AdaRound*, [arXiv 2004.10568](https://arxiv.org/abs/2004.10568) (the objective). Frantar et al., *GPTQ*, [arXiv 2210.17323](https://arxiv.org/abs/2210.17323). Li et al., *BRECQ*, [arXiv 2102.05426](https://arxiv.org/abs/2102.05426) (blocks). Esser et al., *LSQ*, [arXiv 1902.08153](https://arxiv.org/abs/1902.08153) (learned scales).

# %%
stage.write("low_bit", {
    "methods": by_method, "bias_correction": by_bias, "widths": by_width, "parity": parity,
    "blocks": by_block, "training": by_training, "history": history, "ablation": ablation,
    "method": method, "untrained": untrained})
stage.finish({"variants": [variant.name for variant in made], "method": method,
              "parity": parity})
