# %% [markdown]
# # 11 · What wins back int8's losses without training?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/11_ptq_recovery.ipynb)
#
# `10_diagnosis` says which layers lose, and why. Here one remedy after the other is added, each without training, and each judged by the same rule: the largest **agreement** with float32 on validation images, of equals the larger signal-to-noise ratio of the outputs,
#
# $$\mathrm{agreement} = \frac{1}{n} \sum_{i} \big[\arg\max f(x_i) = \arg\max \hat f(x_i)\big].$$
#
# Agreement is more sensitive than accuracy, where images lost and won cancel out.
#
# **Overall flow:** choose activation ranges → choose weight ranges → correct biases → round by outputs → leave the most sensitive layers in float → the ablation on all of validation → the shelf.
#
# *What this notebook is not:* it goes below eight bits nowhere (`30_low_bit` does), equalizes no layers (`20_data_free`) and trains nothing (`04_qat`). Test images are not looked at.

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, fetch the workbook first
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")
    sys.path.insert(0, "edgeq")

import time
from dataclasses import replace
from typing import Literal

import pandas as pd
from IPython.display import Markdown
from pydantic import NonNegativeInt, PositiveInt

# %%
from edgeq_lib.analysis.tables import variants_table
from edgeq_lib.compress.quantize import (
    calibration, layerwise_rounding, ptq_recovery, quantized_weights)
from edgeq_lib.compress.quantize.bias_correction import correct_biases
from edgeq_lib.compress.quantize.bias_overflow import count_dead_channels
from edgeq_lib.compress.quantize.sensitivity import (
    EvaluationContext, Int8Recipe, most_faithful, sweep)
from edgeq_lib.data.splits import draw_calibration
from edgeq_lib.measure.accuracy import predict_file, score
from edgeq_lib.plots.layers import plot_ablation, plot_calibration_sizes
from edgeq_lib.progress import progress
from edgeq_lib.stage import open_study
from edgeq_lib.tflite.rewrite import with_io_type

# %% [markdown]
# ## Parameters
#
# Sweeps make many files, so they are scored on part of validation; the ablation on all of it.

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to read and fill: runs/<study>
seed: NonNegativeInt = 0  # decides the two further calibration sets
sweep_images: PositiveInt = 500  # validation images that sweeps are scored on
activation_ranges: list[str] = ["moving_average", "min_max", "covering_80", "covering_90", "covering_95", "covering", "covering_99", "percentile_99.9", "percentile_99.99", "percentile_99.999", "mse"]  # tried: rows of calibration.SUMMARIES  # noqa: E501
weight_ranges: list[str] = ["min_max", "mse", "octav"]  # tried: litert-quantizer's algorithms
calibration_sizes: list[int] = [16, 32, 64, 128, 256, 500]  # numbers of images, in the appendix
correction_images: PositiveInt = 128  # calibration images that bias correction averages over
dense: Literal["per_channel", "per_tensor"] = "per_channel"  # per_tensor for micro runtimes, NNAPI
io: Literal["int8", "uint8"] = "int8"  # type of input and output: uint8 takes a camera's pixels
float_layers: list[int] = [1, 2, 4]  # numbers of most sensitive layers left in float32; [] for none
repeats: list[int] = []  # further seeds: int8_recovered is made again from other calibration images

# %% [markdown]
# ## 1 · Activation ranges
#
# Weights as they were, activation ranges by every summary. Clipping loses rare large values, not clipping coarsens all others; which is worse depends on the network. `covering_N` holds N % of the images in full (`covering` alone 98 %), `percentile_N` N % of the values, `mse` weighs both errors.

# %%
stage = open_study(study, "11_ptq_recovery", needs="10_diagnosis")
images, preprocess, float_file = stage.data, stage.preprocess, stage.float32.model()
calibration_set, started = preprocess(images.calibration_images), time.time()
observed, part = calibration.observe(float_file, calibration_set), slice(0, sweep_images)
base = stage.float32.arrays()["validation"]
context = EvaluationContext(float_file, observed, images.validation.images[part],
                            images.validation.labels[part], base[part], preprocess)
recipe = Int8Recipe(per_tensor=("FULLY_CONNECTED",) if dense == "per_tensor" else ())

# %%
candidates = {name: replace(recipe, activations=name)
              for name in dict.fromkeys([recipe.activations, *activation_ranges])}
by_ranges = sweep(context, candidates, "activation ranges")
with_ranges = candidates[most_faithful(by_ranges)]
pd.DataFrame(by_ranges).T.round(2)

# %% [markdown]
# ## 2 · Weight ranges, and dead channels
#
# On the activation ranges just chosen: weights by their extremes, by the quantizer's `mse` (a fixed multiple of a channel's root mean square) and by OCTAV. A **dead channel**, all bias and no weights, has a scale too fine for its bias, which the quantizer then silently clips; the workaround raises one of its weights by a negligible amount. Where the clipped biases are negative and a ReLU follows, nothing was lost in the first place.

# %%
ranges = calibration.summarize(observed, with_ranges.activations, preprocess.range)
dead = count_dead_channels(float_file, ranges)
tried = {
    f"{weights}{'' if fixed else ', dead channels as they are'}":
        replace(with_ranges, weights=weights, fix_dead=fixed)
    for weights in dict.fromkeys(["min_max", *weight_ranges])
    for fixed in ((True, False) if dead else (True,))}
by_weights = sweep(context, tried, "weight ranges")
with_weights = tried[most_faithful(by_weights)]
pd.DataFrame(by_weights).T.round(2)

# %% [markdown]
# ## 3 · Bias correction, and output-aware rounding
#
# Rounded weights and activations shift each channel's mean. Layer after layer, with all earlier ones corrected, the shift is measured on calibration images and taken off the int32 bias, in the file itself,
#
# $$b \leftarrow b + \mathbb{E}[y] - \mathbb{E}[\hat y].$$
#
# It costs no byte and no millisecond at run time. An outlier image would shift means as it stretches ranges, so those are left out. Output-aware rounding chooses each code so that the layer, given what the rounded layers before it send, gives nearly the output that it gave in float (`30_low_bit` explains it; it knows no scales per tensor).

# %%
chosen_images = calibration_set[calibration.drop_outlier_images(observed, correction_images)]
plain, output_aware = context.make(with_weights), {}
corrected = correct_biases(float_file, plain, chosen_images)
if dense == "per_channel":
    found = calibration.summarize(observed, with_weights.activations, preprocess.range)
    codes = layerwise_rounding.round_layers(float_file, chosen_images, found, {})
    rounded = quantized_weights.to_file(float_file, codes, found)
    output_aware["output-aware rounding"] = correct_biases(float_file, rounded, chosen_images)

# %%
by_bias = {name: context.compare(file) for name, file in {
    "before": plain, "after": corrected, **output_aware}.items()}
pd.DataFrame(by_bias).T.round(2)

# %% [markdown]
# ## 4 · Float32 for the most sensitive layers
#
# If layers still stand out, they can stay float32, at a price in bytes, time and in targets that compute integers only. The most sensitive of `10_diagnosis` are taken first; biases are corrected in each file.

# %%
worst = sorted(stage.read("diagnosis")["layers"], key=lambda row: row["only_snr"])
selective = {}
for number in [number for number in float_layers if number < len(worst)]:
    spared = tuple(name for row in worst[:number] for name in row["name"])
    mixed = context.make(replace(with_weights, left_float=spared))
    selective[number] = correct_biases(float_file, mixed, chosen_images)
by_float = {f"{number} in float32": context.compare(file) for number, file in selective.items()}
pd.DataFrame({"none": by_bias["after"], **by_float}).T.round(2)

# %% [markdown]
# ## 5 · The ablation
#
# Every step on **all** of validation, each paired with float32. The best integer-only file is `int8_recovered`; the best with layers in float32 is `int8_selective_float`. QAT stands beside them when `04_qat` has run.

# %%
files = {"naive int8": context.make(recipe), "activation ranges": context.make(with_ranges),
         "weight ranges": plain, "bias correction": corrected, **output_aware}
if selective:
    best = most_faithful(by_float)
    files["selective float"] = selective[list(selective)[list(by_float).index(best)]]
outputs = {name: predict_file(file, images.validation.images, preprocess, name)
           for name, file in files.items()}
if (stage.folder / "variants" / "qat_int8").exists():
    qat = stage.variant("qat_int8")
    files["QAT"], outputs["QAT"] = qat.model(), qat.arrays()["validation"]

# %% [markdown]
# The same rule chooses: agreement, then signal-to-noise. The arrow marks the integer-only file that it takes.

# %%
techniques = {"naive int8": "ptq", "selective float": "mixed_precision", "QAT": "qat"}
steps = {name: ptq_recovery.ablation_row(
    name, techniques.get(name, "ptq_recovery"), file, outputs[name], images.validation.labels,
    images.classes, base) for name, file in files.items()}
eligible = {name: step for name, step in steps.items() if name not in ("selective float", "QAT")}
chosen = steps[most_faithful(eligible)]
ablation = [{**step, "chosen": step is chosen} for step in steps.values()]

# %%
stage.figure("ablation", plot_ablation(ablation), "From the quantizer's defaults to the recovered "
             f"int8 file (arrow), on {chosen['n']:,} validation images: accuracy lost against "
             "float32 (95 % interval), and agreement with it.")

# %%
columns = ["top1", "low", "high", "drop", "drop_low", "drop_high", "agreement", "snr", "chosen"]
pd.DataFrame(ablation).set_index("step")[columns].round(2)

# %% [markdown]
# ## 6 · To the shelf
#
# What was chosen on validation, measured like every other variant. With `io: uint8` an op at the graph's input and output moves pixels and scores by 128, so that the file takes what a camera gives; nothing else changes.

# %%
facts = {"technique": "ptq_recovery", "engine": "litert-quantizer", "parent": "float32",
         "seed": seed, "seconds": round(time.time() - started, 1)}
recovered = with_io_type(files[chosen["step"]], io)
made = [stage.save_variant("int8_recovered", recovered, **facts, scheme="int8")]
if selective:
    mixed = with_io_type(files["selective float"], io)
    made.append(stage.save_variant("int8_selective_float", mixed, **facts, scheme="mixed"))
for variant in made:
    score(stage, variant, images, preprocess)
variants_table([stage.float32, *made])

# %% [markdown]
# A calibration set is one draw of many. For each further seed in `repeats` another is drawn from train and `int8_recovered` is made again by the step and the recipe that were chosen above; nothing is chosen anew, so the spread is that of the images alone.

# %%
again, recipes = [], {"naive int8": recipe, "activation ranges": with_ranges,
                      "weight ranges": with_weights}
for other in progress(repeats, "other calibration sets"):
    drawn = draw_calibration(images.train.labels, len(images.calibration), other)
    others, begun = preprocess(images.train.images[drawn]), time.time()
    file = ptq_recovery.make_again(context, others, chosen["step"], recipes, correction_images)
    again.append(stage.save_variant(
        f"int8_recovered_seed{other}", with_io_type(file, io), **{
            **facts, "seed": other, "seconds": round(time.time() - begun, 1)},
        scheme="int8", kind="repeat", repeats="int8_recovered"))
    score(stage, again[-1], images, preprocess)
variants_table([made[0], *again]) if again else Markdown("*No repeats.*")

# %% [markdown]
# ## Appendix · How many images, and one scale per tensor
#
# The chosen recipe calibrated on growing parts of two disjoint sets, both drawn from train. The gap between the lines is what the luck of the draw is worth: a difference between settings that is smaller is none.

# %%
draws = ptq_recovery.disjoint_calibration_sets(
    images.train.labels, max(calibration_sizes), seed)
histogram = with_weights.activations in calibration.BY_VALUES
seen = {label: calibration.observe(float_file, preprocess(images.train.images[drawn]),
                                   histogram=histogram)
        for label, drawn in zip(("first set", "second set"), draws, strict=True)}
sizes = [size for size in calibration_sizes if size <= len(draws[0])]
parts = {f"{label}, {size}": seen[label].spread(size) for label in seen for size in sizes}
by_size = sweep(context, dict.fromkeys(parts, with_weights), "calibration sizes", observed=parts)
plot_calibration_sizes(sizes, {
    label: [by_size[f"{label}, {size}"]["agreement"] for size in sizes] for label in seen})

# %% [markdown]
# Some micro runtimes and NNAPI know only one scale per tensor for dense layers. The target decides (parameter `dense`), and this is what it costs.

# %%
by_dense = sweep(context, {
    "per channel (phones, XNNPACK, Ethos-U)": replace(with_weights, per_tensor=()),
    "per tensor (TensorFlow Lite Micro, NNAPI)": replace(
        with_weights, per_tensor=("FULLY_CONNECTED",))}, "dense layers")
pd.DataFrame(by_dense).T.round(2)

# %% [markdown]
# ## What we know now

# %%
first, won = ablation[0], by_bias["after"]["agreement"] - by_bias["before"]["agreement"]
gap = max(abs(by_size[f"first set, {size}"]["agreement"]
              - by_size[f"second set, {size}"]["agreement"]) for size in sizes[-2:])
Markdown(f"""The quantizer's defaults agree with float32 on {first['agreement']:.1f} % of
{first['n']:,} validation images and lose {first['drop']:+.2f} points; **{chosen['step']}** agrees
on {chosen['agreement']:.1f} % and loses {chosen['drop']:+.2f} ({chosen['drop_low']:+.2f} …
{chosen['drop_high']:+.2f}). Chosen activation ranges: {with_weights.activations}; weights:
{with_weights.weights}; bias correction moved agreement by {won:+.1f} points on
{len(context.labels):,} images; {dead} channels were dead. Another draw of calibration images moves
agreement by up to {gap:.1f} points: smaller differences between settings are none.""")

# %% [markdown]
# **Papers:** Nagel et al., [arXiv 1906.04721](https://arxiv.org/abs/1906.04721) (bias correction). Sakr et al., [arXiv 2206.06501](https://arxiv.org/abs/2206.06501) (OCTAV, ranges by expected squared error). Frantar et al., [arXiv 2210.17323](https://arxiv.org/abs/2210.17323) (GPTQ). Nagel et al., [arXiv 2004.10568](https://arxiv.org/abs/2004.10568) (AdaRound, the objective of output-aware rounding).

# %%
stage.write("ptq_recovery", {
    "sweep_images": len(context.labels), "activation_ranges": by_ranges, "dead_channels": dead,
    "weight_ranges": by_weights, "dense": by_dense, "calibration_sizes": by_size,
    "bias_correction": by_bias, "selective_float": by_float, "ablation": ablation,
    "recipe": vars(with_weights)})
stage.finish({"variants": [variant.name for variant in made], "step": chosen["step"],
              "agreement": chosen["agreement"]})
