# %% [markdown]
# # 40 · Which layers deserve their bits?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/40_mixed_precision.ipynb)
#
# Four bits a weight halve an int8 file. But layers differ: some hardly notice two bits, others suffer at four, and a large
# one pays for many small ones. So each layer is tried at each width, and an **integer programme** gives the bits to those that
# make the most of them, for one budget of bytes after the other.
#
# **Overall flow:** 1 × 1 convolutions as dense layers → round each layer at each width → measure the noise that it alone adds
# at the output → solve for a dozen budgets, greed beside it → check that noises add up → make real files at the size of
# uniform 4 bits and below → train them on their grids → choose on validation.
#
# **The rule of every choice** is the largest agreement with float32 on validation images (of equals, the larger
# signal-to-noise ratio of the outputs), within the budget. Neither labels nor test images are looked at.
#
# *What this notebook is not:* a search over activations, which stay at 8 bits throughout.

# %% [markdown]
# On Colab, fetch the workbook first; anywhere else this cell does nothing.

# %%
import sys

if "google.colab" in sys.modules:
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")  # noqa: F821
    sys.path.insert(0, "edgeq")

# %% [markdown]
# One import cell; the work is in `edgeq_lib/compress/mixed_precision.py`, `low_bit.py` and `grid.py`.

# %%
import time
from typing import Literal

import numpy as np
import pandas as pd
from IPython.display import Markdown
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from edgeq_lib.analysis import pareto
from edgeq_lib.analysis.tables import compare_table, variants_table
from edgeq_lib.compress.quantize import calibration, layerwise_rounding, low_bit, mixed_precision, qat, qat_export, quantized_weights
from edgeq_lib.compress.quantize.bias_correction import correct_if_better
from edgeq_lib.compress.quantize.sensitivity import Probe, display_name, most_faithful, noise_by_width
from edgeq_lib.data import dataset
from edgeq_lib.measure.accuracy import score
from edgeq_lib.models.convert import convert
from edgeq_lib.models.graph import fold_batch_norms
from edgeq_lib.models.preprocessing import Preprocessing
from edgeq_lib.models.weights import load_float_model
from edgeq_lib.pipeline.runner import open_study
from edgeq_lib.plots.rounding import plot_bit_allocation, plot_mixed_front
from edgeq_lib.tflite.inspect import sizes
from edgeq_lib.tflite.rewrite import as_dense, with_io_type

# %% [markdown]
# ## Parameters
#
# LiteRT stores 8, 4 and (dense layers only) 2 bits. Each further share makes one more file and trains it, the slow part.

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to read and fill: runs/<study>
dense_widths: list[int] = [8, 4, 2]  # bits that a dense layer, a 1 × 1 convolution included, may have
convolution_widths: list[int] = [8, 4]  # bits that other convolutions may have; LiteRT runs them slowly at 4
size: Literal["bytes", "gzip_bytes"] = "bytes"  # what budgets count; compressed, widths that LiteRT has no type for pay too
rounding_images: PositiveInt = 200  # calibration images that rounding and bias correction look at
sweep_images: PositiveInt = 300  # validation images that single layers and mixes are scored on
budgets: PositiveInt = 12  # number of budgets on the front
shares: list[float] = [1.15, 1.0, 0.95, 0.9]  # budgets of the real files, as shares of the bytes of uniform 4 bits
epochs: NonNegativeInt = 1  # of fine-tuning each of these on its grid, learning from float32's outputs; 0 for none
learning_rate: PositiveFloat = 3e-5  # of that, falling along a cosine
batch: PositiveInt = 32  # images a step
limit_train: PositiveInt | None = None  # fine-tune on so many training images only, class-balanced
seed: NonNegativeInt = 0  # decides the order of images in training
io: Literal["int8", "uint8"] = "int8"  # type of the shelved files' input and output: uint8 takes a camera's pixels

# %% [markdown]
# ## 1 · The network, and what each layer may have
#
# A 1 × 1 convolution is a dense layer over pixels; LiteRT's dense kernel is as fast at 4 bits as at 8, its convolution is not.
# The function stays the same. First layer and depthwise kernels hold few weights and stand rounding badly: they keep 8 bits.

# %%
shelf = open_study(study, stage="40_mixed_precision", needs="02_baseline")
images, baseline, float32 = dataset.load(shelf), shelf.read("baseline"), shelf.variant("float32")
preprocess, started = Preprocessing(**baseline["preprocessing"]), time.time()
model = fold_batch_norms(load_float_model(shelf))
original = as_dense(convert(model))
widths = mixed_precision.candidates(original, dense_widths, convolution_widths)

# %% [markdown]
# Activation ranges from the calibration images, as for int8 files; rounding looks at some of them, freaks left out.

# %%
calibration_set = preprocess(images.calibration_images)
observed = calibration.observe(original, calibration_set, histogram=False)
activation_ranges = calibration.summarize(observed, "covering", preprocess.range)
seen = calibration_set[calibration.drop_outlier_images(observed, rounding_images)]
print(f"{len(widths)} kernels, {sum(len(each) > 1 for each in widths.values())} with a choice; {len(seen)} images to see")

# %% [markdown]
# ## 2 · What each layer's bits are worth
#
# Each kernel is rounded at each width (GPTQ and coordinate descent, see `low_bit.py`), given the layers before it at 8 bits.

# %%
alone = layerwise_rounding.round_each(original, seen, activation_ranges, widths)
weigh = mixed_precision.SIZES[size](original, alone)

# %% [markdown]
# Put into the float network alone, with all others at 8 bits, it adds noise to the output: the energy of the error as a share
# of the output's.

# %%
base = float32.arrays()["validation"]
sweep = Probe(images.validation.images[:sweep_images], preprocess, base[:sweep_images])
noise = noise_by_width(original, alone, sweep)

# %% [markdown]
# The layers that add most noise for each kilobyte that their narrowest width frees: these deserve their bits.

# %%
layers = [{"layer": display_name(name), "weights": int(weigh[name][8]), "noise": noise[name]} for name in noise]
worth = pd.DataFrame([{"layer": row["layer"], "weights": row["weights"], **{
    f"noise at {bits} bits, %": 100 * added for bits, added in sorted(row["noise"].items()) if bits < 8},
    "% a kB": 100 * max(row["noise"].values()) / (row["weights"] - min(weigh[name].values())) * 1000}
    for row, name in zip(layers, noise, strict=True) if len(weigh[name]) > 1]).set_index("layer")
worth.sort_values("% a kB", ascending=False).head(8).round(4)

# %% [markdown]
# ## 3 · A dozen budgets
#
# If the errors of layers are independent, their noises add up, and the best mix for a budget is a knapsack: one width a layer,
# the least noise in all, no more bytes than there are. A solver ends it in milliseconds. **Greed**, which again and again
# takes the change that costs least for what it frees, is the yardstick.

# %%
everywhere = {bits: {name: bits if bits in each else 8 for name, each in widths.items()} for bits in (8, 4)}
ends = [mixed_precision.total_cost(weigh, each) for each in ({name: min(each) for name, each in weigh.items()}, everywhere[8])]
limits = np.linspace(*ends, budgets + 1)[:-1]
mixes = [("uniform", f"{bits} bits", everywhere[bits]) for bits in (8, 4)]
for kind, solve in (("greedy", mixed_precision.greedy), ("programme", mixed_precision.choose)):
    mixes += [(kind, f"{limit / 1000:,.0f} kB", solve(noise, weigh, limit)) for limit in limits]

# %% [markdown]
# Each mix is put into the float network and measured; what it weighs as a file is the sum of its weights and what every file
# carries besides them, taken from the file with 8 bits everywhere.

# %%
eight = quantized_weights.to_file(original, {name: each[8] for name, each in alone.items()}, activation_ranges)
besides = sizes(eight)[size] - mixed_precision.total_cost(weigh, everywhere[8])
floor = sweep.compare(quantized_weights.with_quantized_weights(original, {name: each[8] for name, each in alone.items()}))["noise"]
tried = [{"kind": kind, "label": label, "kB": (mixed_precision.total_cost(weigh, mix) + besides) / 1000, "widths": mix,
          "predicted": floor + mixed_precision.total_cost(noise, mix),
          **sweep.compare(quantized_weights.with_quantized_weights(original, {name: alone[name][bits] for name, bits in mix.items()}))}
         for kind, label, mix in mixes]

# %% [markdown]
# Who gets the bits, from the largest budget to the smallest:

# %%
programme = [row for row in tried if row["kind"] == "programme"]
chosen_widths = {row["label"]: list(row["widths"].values()) for row in reversed(programme)}
shelf.figure("deserved_bits", plot_bit_allocation(layers, chosen_widths), "The noise that each layer alone adds to the "
             "output at each width (above), and the widths that the programme gives it, for budgets of weight bytes (below).")

# %% [markdown]
# What that buys, and whether noises add up: right, a point on the line was predicted exactly.

# %%
shelf.figure("mixed_front", plot_mixed_front(tried), f"Mixes for {budgets} budgets on {len(sweep.images):,} validation "
             "images, activations in float: the front, dominated mixes hollow; right, the sum of the layers' own noises "
             "against the noise of the mix.")

# %%
pd.DataFrame(tried).drop(columns="widths").set_index(["kind", "label"]).round({"kB": 0, "predicted": 4, "noise": 4, "snr": 1})

# %% [markdown]
# ## 4 · Real files
#
# At the bytes of uniform 4 bits and at some shares of them: widths from the programme, layers rounded in order (each makes up
# for what those before it lost), int8 activations, biases corrected where that helps. Uniform 4 bits is made by the same
# hands. All of validation decides.

# %%
probe = Probe(images.validation.images, preprocess, base)
uniform = mixed_precision.total_cost(weigh, everywhere[4])
plans = {"4 bits everywhere": everywhere[4]}
for share in shares:
    limit = share * (uniform + besides) - besides
    plan = mixed_precision.choose(noise, weigh, limit) if limit >= ends[0] else everywhere[4]
    if plan not in plans.values():
        plans[f"mix, {share:.0%} of its bytes"] = plan
made = {label: mixed_precision.build(original, plan, seen, activation_ranges, probe) for label, plan in plans.items()}
files = {label: file for label, (_, file, _) in made.items()}
found = {label: {**figures, **sizes(files[label])} for label, (*_, figures) in made.items()}
pd.DataFrame(found).T

# %% [markdown]
# ## 5 · Trained on their grids
#
# Few bits leave errors that rounding cannot mend, but training can: weights and steps are fine-tuned towards float32's
# outputs on training images (see `30_low_bit`; labels are not used), the mixes and uniform 4 bits alike. Each keeps its best
# epoch by agreement on validation, epoch 0 among them.

# %%
for label in [label for label, plan in plans.items() if epochs and mixed_precision.total_cost(weigh, plan) <= uniform]:
    simulation = qat.quantize_aware(model, calibration_set, qat_export.kernels_by_layer(model, original, made[label][0]))
    low_bit.fine_tune(
        simulation, model, images, preprocess, epochs=epochs, learning_rate=learning_rate, batch=batch, seed=seed,
        limit_train=limit_train, augmentation=baseline["augmentation"], folder=shelf.folder / "training")
    files[f"{label}, trained"], figures = correct_if_better(
        original, qat_export.export_int8(simulation, calibration_set), seen, probe.compare)
    found[f"{label}, trained"] = {**figures, **sizes(files[f"{label}, trained"])}
pd.DataFrame(found).T

# %% [markdown]
# ## 6 · To the shelf, and to the test
#
# Those mixes go to the shelf that no file of at most their size beats, by the rule above; and uniform 4 bits, trained if that
# is better by the same rule.

# %%
costs = {label: (file[size], (-file["agreement"], -file["snr"])) for label, file in found.items()}
front = pareto.front(costs)
mixed = [label for label in front if label.startswith("mix")]
uniformly = most_faithful({label: figures for label, figures in found.items() if not label.startswith("mix")})

# %%
facts = {"technique": "mixed_precision", "engine": "litert-quantizer", "parent": "float32"}
names = {"uniform_w4a8": uniformly, **{f"mixed_{place}": label for place, label in enumerate(mixed, 1)}}
shelved = []
for name, label in names.items():
    learned = {"trained": "outputs"} if label.endswith("trained") else {}
    shelved.append(shelf.shelve(name + "_trained" * len(learned), with_io_type(files[label], io), **facts, **learned,
                                scheme="mixed" if label in mixed else "w4a8", seconds=round(time.time() - started, 1)))
for variant in shelved:
    score(shelf, variant, images, preprocess)
variants_table([float32, *shelved])

# %% [markdown]
# Each mix against uniform 4 bits, image by image: on validation, which chose, and on test, which did not.

# %%
yardstick, *variants = shelved
against = compare_table(yardstick, variants, {"validation": images.validation.labels, "test": images.test.labels})
against.round(2)

# %% [markdown]
# All tables go into the record `mixed_precision`.

# %%
shelf.write("mixed_precision", {"sweep_images": len(sweep.images), "layers": layers, "tried": tried, "files": found,
                                "plans": plans, "front": front, "against": against.to_dict("records")})

# %% [markdown]
# ## What we know now

# %%
error = np.array([row["noise"] / row["predicted"] for row in programme])
groups = [{label: found[label] for label in found if label.endswith("trained") == trained} for trained in (False, True)]
Markdown(f"On {len(base):,} validation images: " + " ".join(mixed_precision.mix_verdict(each, size) for each in groups if each) + f"""

On test: {"; ".join(f"**{row['variant']}** is {abs(row['% smaller']):.1f} % {'smaller' if row['% smaller'] > 0 else 'larger'} than "
                    f"{yardstick.name} and loses {row['drop']:.2f} points against it [{row['drop_low']:.2f}, {row['drop_high']:.2f}]"
                    for row in against.to_dict("records") if row["split"] == "test") or "no mix to compare"}.

The layer that deserves its bits most is {worth["% a kB"].idxmax()}. The measured noise of the programme's mixes is
{error.min():.2f} to {error.max():.2f} times the predicted sum (median {np.median(error):.2f}).""")

# %%
shelf.finish({"front": front, "agreement": {label: figures["agreement"] for label, figures in found.items()}})
