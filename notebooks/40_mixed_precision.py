# %% [markdown]
# # 40 · Which layers need their bits?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/40_mixed_precision.ipynb)
#
# Four bits per weight halve an int8 file. But layers differ: some hardly notice two bits, others suffer at four, and a large one pays for many small ones. So each layer $l$ is tried at each width $b$, and an **integer program** picks one width per layer, $x_{lb} \in \{0, 1\}$: the least noise $n_{lb}$ for a budget $B$ of bytes $c_{lb}$,
#
# $$\min_{x} \sum_{l, b} n_{lb}\, x_{lb} \quad \text{subject to} \quad \sum_{l, b} c_{lb}\, x_{lb} \le B, \qquad \sum_{b} x_{lb} = 1 \text{ for each } l.$$
#
# **Overall flow:** 1 × 1 convolutions as dense layers → round each layer at each width → measure the noise that it alone adds at the output → solve for a dozen budgets, greedy beside it → check that noises add up → make real files at the size of uniform 4 bits and below → train them → compare on validation.
#
# **The rule of every choice** is the largest agreement with float32 on validation images (of equals, the larger signal-to-noise ratio of the outputs), within the budget. Neither labels nor test images are looked at.
#
# *What this notebook is not:* a search over activations, which stay at 8 bits throughout.

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
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

# %%
from edgeq_lib.analysis import pareto
from edgeq_lib.analysis.tables import compare_table, variants_table
from edgeq_lib.compress.quantize import (
    calibration, layerwise_rounding, low_bit, mixed_precision, qat, qat_export, quantized_weights)
from edgeq_lib.compress.quantize.bias_correction import correct_if_better
from edgeq_lib.compress.quantize.sensitivity import Probe, display_name, noise_by_width
from edgeq_lib.compress.quantize.why_not import why_not
from edgeq_lib.files import CannotTake
from edgeq_lib.measure.accuracy import score
from edgeq_lib.models.network import open_network
from edgeq_lib.models.training import TrainingConfig
from edgeq_lib.pipeline.config import TargetName
from edgeq_lib.plots.rounding import plot_bit_allocation, plot_mixed_front
from edgeq_lib.stage import open_study
from edgeq_lib.tflite.inspect import sizes
from edgeq_lib.tflite.rewrite import with_io_type

# %% [markdown]
# ## Parameters
#
# LiteRT stores 8, 4 and (dense layers only) 2 bits. Each further share makes one more file and trains it, the slow part.

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to read and fill: runs/<study>
dense_widths: list[int] = [8, 4, 2]  # bits of dense layers, 1 × 1 convolutions included
convolution_widths: list[int] = [8, 4]  # bits of other convolutions; LiteRT is slow at 4
size: Literal["bytes", "gzip_bytes"] = "bytes"  # what budgets count; gzip rewards unused codes
rounding_images: PositiveInt = 128  # calibration images for rounding and bias correction
sweep_images: PositiveInt = 300  # validation images that single layers are scored on
budgets: PositiveInt = 8  # number of budgets on the front
shares: list[float] = [1.0, 0.9]  # budgets of the real files, in bytes of uniform 4 bits
epochs: NonNegativeInt = 0  # of fine-tuning, learning from float32's outputs; 0 for none
learning_rate: PositiveFloat = 3e-5  # of that, falling along a cosine
batch: PositiveInt = 32  # images per step
limit_train: PositiveInt | None = None  # fine-tune on so many images only, class-balanced
seed: NonNegativeInt = 0  # decides the order of images in training
target: TargetName = "cortex_m_1m"  # where files are to run: decides the form of low-bit layers
io: Literal["int8", "uint8"] = "int8"  # type of input and output: uint8 takes a camera's pixels

# %% [markdown]
# ## 1 · The network, and what each layer may have
#
# A 1 × 1 convolution is a dense layer over pixels; LiteRT's dense kernel is as fast at 4 bits as at 8, its convolution is not. The function stays the same. First layer and depthwise kernels hold few weights and are sensitive to quantization: they keep 8 bits.

# %%
stage = open_study(study, "40_mixed_precision", needs="02_baseline", target=target)
images, preprocess, started = stage.data, stage.preprocess, time.time()
network = open_network(stage)
untrained = why_not(network, "40_mixed_precision", "training")  # a reason, or None
model, float_file = low_bit.with_dense_layers(network, trainable=not untrained)
widths = mixed_precision.candidates(float_file, dense_widths, convolution_widths)

# %% [markdown]
# Activation ranges from the calibration images, as for int8 files; rounding looks at some of them, outlier images left out.

# %%
calibration_set = preprocess(images.calibration_images)
observed = calibration.observe(float_file, calibration_set, histogram=False)
ranges = calibration.summarize(observed, "covering", preprocess.range)
seen = calibration_set[calibration.drop_outlier_images(observed, rounding_images)]
free = sum(len(allowed) > 1 for allowed in widths.values())
print(f"{len(widths)} kernels, {free} with a choice; rounding looks at {len(seen)} images")

# %% [markdown]
# ## 2 · What each layer's bits are worth
#
# Each kernel is rounded at each width (GPTQ and coordinate descent, see `layerwise_rounding.py`), given the layers before it at 8 bits. Put into the float network alone, with all others at 8 bits, it adds noise to the output: the energy of the error as a share of the output's.

# %%
alone = layerwise_rounding.round_each(float_file, seen, ranges, widths)
weigh = mixed_precision.SIZES[size](float_file, alone)
base = stage.float32.arrays()["validation"]
sweep = Probe(images.validation.images[:sweep_images], preprocess, base[:sweep_images])
noise = noise_by_width(float_file, alone, sweep)

# %% [markdown]
# The layers that add most noise for each kilobyte that their narrowest width frees need their bits most:

# %%
layers = [{"layer": display_name(name), "weights": int(weigh[name][8]), "noise": noise[name]}
          for name in noise]
worth = pd.DataFrame([
    {"layer": row["layer"], "weights": row["weights"],
     **{f"noise at {bits} bits, %": 100 * added
        for bits, added in sorted(row["noise"].items()) if bits < 8},
     "% per kB": 1e5 * max(row["noise"].values()) / (row["weights"] - min(weigh[name].values()))}
    for row, name in zip(layers, noise, strict=True) if len(weigh[name]) > 1]).set_index("layer")
worth.sort_values("% per kB", ascending=False).head(8).round(4)

# %% [markdown]
# ## 3 · A dozen budgets
#
# If the errors of layers are independent, their noises add up, and the best mix for a budget is a knapsack. A solver ends it in milliseconds. The baseline is **greedy**: again and again the change that costs least for what it frees.

# %%
everywhere = {bits: {name: bits if bits in allowed else 8 for name, allowed in widths.items()}
              for bits in (8, 4)}
narrowest = {name: min(costs) for name, costs in weigh.items()}
least, most = (mixed_precision.total_cost(weigh, mix) for mix in (narrowest, everywhere[8]))
limits = np.linspace(least, most, budgets + 1)[:-1]
mixes = [("uniform", f"{bits} bits", everywhere[bits]) for bits in (8, 4)]
for kind, solve in (("greedy", mixed_precision.greedy), ("program", mixed_precision.choose)):
    mixes += [(kind, f"{limit / 1000:,.0f} kB", solve(noise, weigh, limit)) for limit in limits]

# %% [markdown]
# Each mix is put into the float network and measured. What it weighs as a file is the sum of its weights and what every file carries besides them, taken from the file with 8 bits everywhere.

# %%
eight_bits = {name: codes[8] for name, codes in alone.items()}
eight = quantized_weights.to_file(float_file, eight_bits, ranges)
besides = sizes(eight)[size] - mixed_precision.total_cost(weigh, everywhere[8])
rounded = quantized_weights.with_quantized_weights(float_file, eight_bits)
floor, tried = sweep.compare(rounded)["noise"], []
for kind, label, mix in mixes:
    codes = {name: alone[name][bits] for name, bits in mix.items()}
    rounded = quantized_weights.with_quantized_weights(float_file, codes)
    tried.append({"kind": kind, "label": label, "widths": mix,
                  "kB": (mixed_precision.total_cost(weigh, mix) + besides) / 1000,
                  "predicted": floor + mixed_precision.total_cost(noise, mix),
                  **sweep.compare(rounded)})

# %% [markdown]
# Who gets the bits, from the largest budget to the smallest:

# %%
program = [row for row in tried if row["kind"] == "program"]
allocation = {row["label"]: list(row["widths"].values()) for row in reversed(program)}
stage.figure("bit_allocation", plot_bit_allocation(layers, allocation), "The noise that each layer "
             "alone adds to the output at each width (above), and the widths that the program "
             "gives it, for budgets of weight bytes (below).")

# %% [markdown]
# What that buys, and whether noises add up: right, a point on the line was predicted exactly.

# %%
stage.figure("mixed_front", plot_mixed_front(tried), f"Mixes for {budgets} budgets on "
             f"{len(sweep.images):,} validation images, activations in float: the front, and "
             "hollow what another mix beats; right, the sum of the layers' own noises against the "
             "noise of the mix.")

# %% [markdown]
# ## 4 · Real files
#
# At the bytes of uniform 4 bits and at shares of them: widths from the program, layers rounded in order (each makes up for what those before it lost), int8 activations, biases corrected where that helps. Uniform 4 bits is made in the same way. All of validation compares them.

# %%
probe = Probe(images.validation.images, preprocess, base)
uniform = mixed_precision.total_cost(weigh, everywhere[4])
plans = {"uniform_w4a8": everywhere[4]}
for share in shares:
    limit = share * (uniform + besides) - besides
    plans[f"mixed_{100 * share:g}"] = mixed_precision.choose(noise, weigh, max(limit, least))
    if limit < least:
        print(f"{share:.0%} of uniform 4 bits is below the narrowest widths: made of those")
made = {name: mixed_precision.build(float_file, plan, seen, ranges, probe)
        for name, plan in plans.items()}
files = {name: file for name, (_, file, _) in made.items()}
figures = {name: {**found, **sizes(files[name])} for name, (*_, found) in made.items()}

# %% [markdown]
# ## 5 · Trained on their grids
#
# With `epochs`: few bits leave errors that rounding cannot correct, but training can. Weights and scales are fine-tuned towards float32's outputs on training images (see `30_low_bit`; labels are not used). Each keeps its best epoch by agreement on validation, epoch 0 among them.

# %%
config = TrainingConfig(epochs, learning_rate, batch, seed, schedule="cosine",
                        augmentation=stage.baseline["augmentation"])
print(f"No training. {untrained}" if untrained else f"{epochs} epochs")
for name in plans if epochs and not untrained else ():
    try:
        simulation = qat.quantize_aware(
            model, calibration_set, qat_export.kernels_by_layer(model, float_file, made[name][0]))
    except CannotTake as reason:
        untrained = print(f"No training. {reason}") or str(reason)
        break
    low_bit.fine_tune(simulation, model, images, preprocess, config, limit_train=limit_train,
                      folder=stage.folder / "training")
    exported = qat_export.export_int8(simulation, calibration_set)
    file, found = correct_if_better(float_file, exported, seen, probe.compare)
    files[f"{name}_trained"], figures[f"{name}_trained"] = file, {**found, **sizes(file)}
pd.DataFrame(figures).T

# %% [markdown]
# ## 6 · To the shelf, and to the test
#
# All of them, under names that say how they were made; the analysis chooses. On the front are those that no file of at most their size beats on validation.

# %%
facts = {"technique": "mixed_precision", "engine": "litert-quantizer", "parent": "float32",
         "seconds": round(time.time() - started, 1)}
saved = [stage.save_variant(
    name, with_io_type(file, io), **facts, scheme="mixed" if name.startswith("mixed") else "w4a8",
    trained="outputs" if name.endswith("_trained") else None) for name, file in files.items()]
for variant in saved:
    score(stage, variant, images, preprocess)
front = pareto.front({name: (each[size], (-each["agreement"], -each["snr"]))
                      for name, each in figures.items()})
variants_table([stage.float32, *saved])

# %% [markdown]
# Each against uniform 4 bits, image by image: on validation, which chose the widths, and on test, which did not.

# %%
reference, *others = saved
labels = {"validation": images.validation.labels, "test": images.test.labels}
against = compare_table(reference, others, labels)
against.round(2)

# %% [markdown]
# ## What we know now

# %%
error = np.array([row["noise"] / row["predicted"] for row in program])
on_test = [row for row in against.to_dict("records") if row["split"] == "test"]
compared = "; ".join(
    f"**{row['variant']}** has {1 - row['% smaller'] / 100:.3f} × the bytes of {reference.name} "
    f"and loses {row['drop']:+.2f} points against it [{row['drop_low']:.2f}, "
    f"{row['drop_high']:.2f}]"
    for row in on_test)
Markdown(f"""On {len(base):,} validation images: {mixed_precision.mix_verdict(figures, size)}

On test: {compared or "no mix to compare"}.

The layer that needs its bits most is {worth["% per kB"].idxmax()}. The measured noise of the
program's mixes is {error.min():.2f} to {error.max():.2f} times the predicted sum (median
{np.median(error):.2f}).""")

# %% [markdown]
# **Papers:** Yao et al., *HAWQ-V3: dyadic neural network quantization*, [arXiv 2011.10680](https://arxiv.org/abs/2011.10680) (the integer program, with a Hessian in the place of the measured noise). Frantar et al., *GPTQ*, [arXiv 2210.17323](https://arxiv.org/abs/2210.17323).

# %%
stage.write("mixed_precision", {
    "sweep_images": len(sweep.images), "layers": layers, "tried": tried, "files": figures,
    "plans": plans, "front": front, "untrained": untrained, "against": against.to_dict("records")})
stage.finish({"front": front, "agreement": {name: each["agreement"]
                                            for name, each in figures.items()}})
