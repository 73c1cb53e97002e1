# %% [markdown]
# # 10 · Why does int8 lose, and what wins it back?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/10_ptq_repair.ipynb)
#
# An int8 file computes with rounded weights and rounded activations. Where it loses, few causes are usual: activation ranges
# that cut rare large values or are stretched by them, weights whose steps are too coarse for their channel, a shift of each
# channel's mean that these roundings leave, and single layers that stand it badly. This notebook looks for them one by one,
# then climbs back: each rung of the ladder is a cure that needs **no training**.
#
# **Overall flow:** look at activation ranges → measure the noise of each tensor → put each layer into int8 alone → choose
# ranges → correct biases → round by outputs → leave the worst layers in float → compare the rungs on all of validation.
#
# **The rule of every choice** is the largest agreement with float32 on validation images (of equals, the larger
# signal-to-noise ratio of the outputs). Agreement is more sensitive than accuracy, where images lost and won cancel out. Test
# images are not looked at.
#
# *What this notebook is not:* it goes below eight bits nowhere (`30_low_bit` does), equalizes no layers (`20_data_free`) and
# trains nothing (`04_qat`).

# %% [markdown]
# On Colab, fetch the workbook first; anywhere else this cell does nothing.

# %%
import sys

if "google.colab" in sys.modules:
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")  # noqa: F821
    sys.path.insert(0, "edgeq")

# %% [markdown]
# One import cell; the work is in `edgeq_lib/compress/ptq_repair.py`, `ranges.py`, `bias_correction.py` and `low_bit.py`.

# %%
import time
from dataclasses import replace
from typing import Literal

import pandas as pd
from IPython.display import Markdown
from pydantic import NonNegativeInt, PositiveInt

from edgeq_lib.analysis.tables import variants_table
from edgeq_lib.compress.quantize import calibration, layerwise_rounding, ptq_recovery, quantized_weights
from edgeq_lib.compress.quantize.bias_correction import correct_biases
from edgeq_lib.compress.quantize.bias_overflow import count_dead_channels
from edgeq_lib.compress.quantize.sensitivity import EvaluationContext, Int8Recipe, display_name, layer_sensitivity, most_faithful, signal_to_noise, sweep
from edgeq_lib.data import dataset
from edgeq_lib.measure.accuracy import predict_file, score
from edgeq_lib.models.preprocessing import Preprocessing
from edgeq_lib.pipeline.runner import open_study
from edgeq_lib.plots.layers import plot_ablation, plot_activation_ranges, plot_calibration_sizes, plot_layer_sensitivity, plot_signal_to_noise
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.rewrite import with_io_type

# %% [markdown]
# ## Parameters
#
# Sweeps make hundreds of files, so they are scored on part of validation; the rungs of the ladder on all of it.

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to read and fill: runs/<study>
seed: NonNegativeInt = 0  # decides the two further calibration sets
sweep_images: PositiveInt = 500  # validation images that sweeps are scored on
activation_ranges: list[str] = ["moving_average", "min_max", "covering_80", "covering_90", "covering_95", "covering", "covering_99", "percentile_99.9", "percentile_99.99", "percentile_99.999", "mse"]  # tried: rows of ranges.SUMMARIES  # noqa: E501
weight_ranges: list[str] = ["min_max", "mse", "octav"]  # tried: litert-quantizer's algorithms
calibration_sizes: list[int] = [16, 32, 64, 128, 256, 500]  # numbers of images, as far as train has them twice
correction_images: PositiveInt = 128  # calibration images that bias correction takes its means from
dense: Literal["per_channel", "per_tensor"] = "per_channel"  # per_tensor for TensorFlow Lite Micro and NNAPI
io: Literal["int8", "uint8"] = "int8"  # type of the shelved files' input and output: uint8 takes a camera's pixels
float_layers: list[int] = [1, 2, 4]  # numbers of worst layers to leave in float32, tried; [] for none

# %% [markdown]
# ## 1 · What the tensors hold
#
# One pass of the float network over the calibration images keeps each image's extremes and a histogram a tensor; every range
# below comes from that pass.

# %%
shelf = open_study(study, stage="10_ptq_repair", needs="02_baseline")
images, baseline, float32 = dataset.load(shelf), shelf.read("baseline"), shelf.variant("float32")
preprocess, original = Preprocessing(**baseline["preprocessing"]), float32.model()
calibration_set, started = preprocess(images.calibration_images), time.time()
observed = calibration.observe(original, calibration_set)
names = [display_name(name) for name in observed.names]
print(f"{len(names)} tensors on {len(images.calibration)} images")

# %% [markdown]
# How far ranges reach, in standard deviations. An int8 range has 255 steps whatever its reach: at 50 deviations, most values
# share a handful of them. Squeeze-and-excite multiplications are known for it. Where the moving average lies far below the
# true extremes, the quantizer's default **cuts** what the network may live on.

# %%
reach = plot_activation_ranges(names, calibration.deviations(observed), {
    label: calibration.SUMMARIES[label](observed) for label in ("min_max", "covering", "moving_average")})
shelf.figure("activation_ranges", reach, "Reach of each tensor's range in standard deviations of its values, by how the "
             "calibration images are summed up; far reaches make int8's steps coarse, cutting them loses rare large values.")

# %% [markdown]
# ## 2 · Where the noise comes in
#
# The quantizer's defaults make the naive file: ranges by a moving average, weights by their extremes, one scale a channel.
# It and float32 run side by side on the same images, and each tensor is compared with its namesake: the ratio of signal to
# noise includes what earlier layers did wrong.

# %%
part = slice(0, sweep_images)
base = float32.arrays()["validation"]
case = EvaluationContext(original, observed, images.validation.images[part], images.validation.labels[part], base[part],
                       preprocess)
recipe = Int8Recipe(per_tensor=("FULLY_CONNECTED",) if dense == "per_tensor" else ())
naive = case.make(recipe)

# %%
ratios = signal_to_noise(original, naive, calibration_set[:32])
kinds = {read_graph(original).tensors[op.outputs[0]].name: op.name for op in read_graph(original).ops}
noise = pd.DataFrame([{"tensor": display_name(name), "op": kinds.get(name, "INPUT"), "dB": ratio}
                      for name, ratio in ratios.items()])
plot_signal_to_noise(noise["tensor"], noise["op"], noise["dB"])

# %% [markdown]
# The five noisiest tensors:

# %%
noise.sort_values("dB").head(5).round(1).set_index("tensor")

# %% [markdown]
# ## 3 · Which layer does the harm?
#
# Two sweeps tell. Each layer (an op with weights, and the ops without that follow) alone in int8 shows what it spoils by
# itself; all layers but one in int8 shows what would be won by sparing it. A file a task, in parallel.

# %%
costs = layer_sensitivity(case, recipe)
plot_layer_sensitivity(costs)

# %% [markdown]
# The five worst layers, by the output's signal-to-noise with that layer alone in int8:

# %%
worst = sorted(costs, key=lambda row: row["only_snr"])
pd.DataFrame(worst[:5]).set_index("layer").drop(columns="name").round(2)

# %% [markdown]
# ## 4 · Activation ranges
#
# Weights as they were, activation ranges by every summary. Clipping loses rare large values, not clipping coarsens all
# others; which is worse depends on the network. `covering_N` holds N % of the images in full (`covering` alone 98 %),
# `percentile_N` N % of the values, `mse` weighs both errors.

# %%
candidates = {name: replace(recipe, activations=name) for name in dict.fromkeys([recipe.activations, *activation_ranges])}
by_ranges = sweep(case, candidates, "activation ranges")
recipe_ranges = candidates[most_faithful(by_ranges)]
pd.DataFrame(by_ranges).T.round(2)

# %% [markdown]
# ## 5 · Weight ranges, and dead channels
#
# On the activation ranges just chosen: weights by their extremes, by the quantizer's `mse` (a fixed multiple of a channel's
# root mean square) and by OCTAV (arXiv 2206.06501). A **dead channel**, all bias and no weights, has steps too fine for its
# bias, which the quantizer then clips without a word; the cure raises one of its weights a trifle. Where the clipped biases
# are negative and a ReLU follows, nothing was lost in the first place.

# %%
dead = count_dead_channels(original, calibration.summarize(observed, recipe_ranges.activations, preprocess.range))
tried = {f"{weights}{'' if cured else ', dead channels as they are'}": replace(recipe_ranges, weights=weights, cure_dead=cured)
         for weights in dict.fromkeys(["min_max", *weight_ranges]) for cured in ((True, False) if dead else (True,))}
by_weights = sweep(case, tried, "weight ranges")
recipe_weights = tried[most_faithful(by_weights)]
pd.DataFrame(by_weights).T.round(2)

# %% [markdown]
# One scale a channel or one for all, for Dense layers alone: some micro runtimes and NNAPI know only the latter, so the
# target decides (parameter `dense`), and this is what it costs.

# %%
by_dense = sweep(case, {"per channel (phones, XNNPACK, Ethos-U)": replace(recipe_weights, per_tensor=()),
                                   "per tensor (TensorFlow Lite Micro, NNAPI)": replace(
                                       recipe_weights, per_tensor=("FULLY_CONNECTED",))}, "dense layers")
pd.DataFrame(by_dense).T.round(2)

# %% [markdown]
# ## 6 · How many images, and which?
#
# The chosen recipe calibrated on growing parts of two disjoint sets, both drawn from train. The gap between the lines is what
# the luck of the draw is worth: a difference between settings that is smaller is none.

# %%
draws = dict(zip(("first set", "second set"), ptq_recovery.disjoint_calibration_sets(images.train.labels, max(calibration_sizes), seed),
                 strict=True))
seen = {label: calibration.observe(original, preprocess(images.train.images[drawn]),
                              histogram=recipe_weights.activations in calibration.BY_VALUES) for label, drawn in draws.items()}
sizes = [size for size in calibration_sizes if size <= len(draws["first set"])]

# %%
parts = {f"{label}, {size}": seen[label].spread(size) for label in seen for size in sizes}
by_size = sweep(case, dict.fromkeys(parts, recipe_weights), "calibration sizes", observed=parts)
plot_calibration_sizes(sizes, {label: [by_size[f"{label}, {size}"]["agreement"] for size in sizes] for label in seen})

# %% [markdown]
# ## 7 · Bias correction, and rounding by output
#
# Rounded weights and activations shift each channel's mean. Layer after layer, with all earlier ones corrected, the shift is
# measured on calibration images and taken off the int32 bias, in the file itself (arXiv 1906.04721). It costs no byte and
# no millisecond at run time. A freak image would shift means as it stretches ranges, so those are left out.
#
# Rounding itself can make up for what earlier layers lost: a weight goes to the neighbour with which the layer, given what
# the rounded layers before it send, puts out most nearly what it did in float (`30_low_bit` explains it; there is no such
# grid per tensor).

# %%
plain, correction_set = case.make(recipe_weights), calibration_set[calibration.drop_outlier_images(observed, correction_images)]
corrected, by_output = correct_biases(original, plain, correction_set), {}
if dense == "per_channel":
    found = calibration.summarize(observed, recipe_weights.activations, preprocess.range)
    rounded = quantized_weights.to_file(original, layerwise_rounding.round_layers(original, correction_set, found, {}), found)
    by_output["rounding by output"] = correct_biases(original, rounded, correction_set)
by_bias = {name: case.compare(file) for name, file in {"before": plain, "after": corrected, **by_output}.items()}
pd.DataFrame(by_bias).T.round(2)

# %% [markdown]
# ## 8 · Float32 for the worst layers
#
# If layers still stand out, they can stay float32, at a price in bytes, time and in targets that compute integers only. The
# worst of section 3 are taken first; biases are corrected in each file.

# %%
mixed = {}
for number in [number for number in float_layers if number < len(worst)]:
    spared = tuple(name for row in worst[:number] for name in row["name"])
    mixed[number] = correct_biases(original, case.make(replace(recipe_weights, left_float=spared)), correction_set)
by_float = {f"{number} in float32": case.compare(file) for number, file in mixed.items()}
pd.DataFrame({"none": by_bias["after"], **by_float}).T.round(2)

# %% [markdown]
# ## 9 · The ladder
#
# The rungs on **all** of validation, each paired with float32. The best integer-only file is `int8_recovered`; the best mixed
# one goes to the shelf as well when it agrees more. QAT stands beside them when `04_qat` has run.

# %%
files = {"naive int8": naive, "activation ranges": case.make(recipe_ranges), "weight ranges": plain,
         "bias correction": corrected, **by_output}
if mixed:
    files["selective float"] = mixed[float_layers[list(by_float).index(most_faithful(by_float))]]
outputs = {name: predict_file(file, images.validation.images, preprocess, name) for name, file in files.items()}
if (shelf.folder / "variants" / "qat_int8").exists():
    files["QAT"], outputs["QAT"] = shelf.variant("qat_int8").model(), shelf.variant("qat_int8").arrays()["validation"]

# %% [markdown]
# The same rule chooses: agreement, then signal-to-noise. The arrow marks the integer-only file that it takes.

# %%
techniques = {"naive int8": "ptq", "selective float": "mixed_precision", "QAT": "qat"}
rungs = {name: ptq_recovery.ablation_row(name, techniques.get(name, "ptq_recovery"), file, outputs[name], images.validation.labels,
                               images.classes, base) for name, file in files.items()}
chosen = rungs[most_faithful({name: rung for name, rung in rungs.items() if rung["technique"] in ("ptq", "ptq_recovery")})]
rungs = [{**rung, "chosen": rung is chosen} for rung in rungs.values()]

# %%
shelf.figure("ladder", plot_ablation(rungs), f"From the quantizer's defaults to the recovered int8 file (arrow), on "
             f"{chosen['n']:,} validation images: accuracy lost against float32 (95 % interval), and agreement with it.")

# %%
columns = ["top1", "low", "high", "drop", "drop_low", "drop_high", "agreement", "snr", "chosen"]
pd.DataFrame(rungs).set_index("rung")[columns].round(2)

# %% [markdown]
# ## 10 · To the shelf
#
# What was chosen on validation, measured like every other variant; all tables go into the record `ptq_repair`. With `io:
# uint8` an op at either door moves pixels and scores by 128, so that the file takes what a camera gives; nothing else changes.

# %%
files |= {rung: with_io_type(files[rung], io) for rung in (chosen["rung"], "selective float") if rung in files}
facts = {"technique": "ptq_recovery", "engine": "litert-quantizer", "parent": "float32", "seed": seed}
made = [shelf.shelve("int8_recovered", files[chosen["rung"]], **facts, scheme="int8", seconds=round(time.time() - started, 1))]
selective = next((rung for rung in rungs if rung["rung"] == "selective float"), None)
if selective and selective["agreement"] > chosen["agreement"]:
    made.append(shelf.shelve("int8_selective_float", files["selective float"], **facts, scheme="mixed",
                             seconds=round(time.time() - started, 1)))
for variant in made:
    score(shelf, variant, images, preprocess)
variants_table([float32, *made])

# %%
shelf.write("ptq_repair", {"sweep_images": len(case.labels), "noise": noise.to_dict("records"), "layers": costs,
                           "activation_ranges": by_ranges, "dead_channels": dead, "weight_ranges": by_weights,
                           "dense": by_dense, "calibration_sizes": by_size, "bias_correction": by_bias,
                           "selective_float": by_float, "rungs": rungs, "recipe": vars(recipe_weights)})

# %% [markdown]
# ## What we know now

# %%
first, won = rungs[0], by_bias["after"]["agreement"] - by_bias["before"]["agreement"]
gap = max(abs(by_size[f"first set, {size}"]["agreement"] - by_size[f"second set, {size}"]["agreement"]) for size in sizes[-2:])
Markdown(f"""The quantizer's defaults agree with float32 on {first['agreement']:.1f} % of {first['n']:,} validation images
and lose {first['drop']:+.2f} points; **{chosen['rung']}** agrees on {chosen['agreement']:.1f} % and loses
{chosen['drop']:+.2f} ({chosen['drop_low']:+.2f} … {chosen['drop_high']:+.2f}). Chosen activation ranges:
{recipe_weights.activations}; weights: {recipe_weights.weights}; bias correction moved agreement by {won:+.1f} points on
{len(case.labels):,} images; {dead} channels were dead. The worst layer alone is {worst[0]['layer']}. Another draw of
calibration images moves agreement by up to {gap:.1f} points: smaller differences between settings are none.""")

# %%
shelf.finish({"variants": [variant.name for variant in made], "rung": chosen["rung"], "agreement": chosen["agreement"]})
