# %% [markdown]
# # 03 · What does each post-training quantization scheme cost and buy?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/03_ptq.ipynb)
#
# Post-training quantization (PTQ) needs no training: weights are rounded, and for static schemes the ranges of activations
# are read off a few calibration images. Schemes differ in **what** is rounded (weights, activations), **how finely**
# (16, 8 or 4 bits, one scale a channel or a tensor) and **what computes** (float or integer kernels). One loop over a table
# of schemes makes them all, here from one float flatbuffer.
#
# **Overall flow:** calibrate once → make each scheme with `litert-quantizer` → make some with TensorFlow's converter as a
# second engine → measure on validation → compare.
#
# *What this notebook is not:* it repairs nothing. A scheme that loses here may be won back by later notebooks.

# %% [markdown]
# On Colab, fetch the workbook first; anywhere else this cell does nothing.

# %%
import sys

if "google.colab" in sys.modules:
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")  # noqa: F821
    sys.path.insert(0, "edgeq")

# %% [markdown]
# One import cell; the schemes live in `edgeq_lib/compress/ptq.py`.

# %%
import time
from dataclasses import asdict
from typing import Literal

import pandas as pd
from IPython.display import Markdown
from pydantic import NonNegativeInt

from edgeq_lib.analysis.tables import rows, variants_table
from edgeq_lib.compress.quantize import calibration, converter, quantizer
from edgeq_lib.data import dataset
from edgeq_lib.data.splits import draw_calibration
from edgeq_lib.measure.accuracy import score
from edgeq_lib.models.preprocessing import Preprocessing
from edgeq_lib.models.weights import load_float_model
from edgeq_lib.pipeline.runner import open_study
from edgeq_lib.plots.variants import plot_drops, plot_sizes, plot_weight_bits
from edgeq_lib.progress import progress

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to read and fill: runs/<study>
seed: NonNegativeInt = 0  # recorded with each variant; the calibration set was drawn with it
schemes: list[str] = ["float16", "dynamic_int8", "weight_only_int8", "int8", "int8_uint8_io", "int8_float_io", "int16x8", "int8_per_tensor", "w4", "w4a8"]  # rows of the table below  # noqa: E501
converter_schemes: list[str] = ["dynamic_int8", "int8"]  # made by TensorFlow's converter as well
activation_ranges: Literal["covering", "min_max", "moving_average"] = "covering"  # how calibration sums up what it sees
repeats: list[int] = []  # further seeds: int8 is made again from other calibration images

# %% [markdown]
# ## 1 · What there is to choose from
#
# Bits of weights and activations (32 = float), one scale a channel or a tensor, and the type of the file's input and output.

# %% tags=["nbval-check-output"]
pd.DataFrame({name: asdict(quantizer.scheme(name)) for name in schemes}).T

# %% [markdown]
# ## 2 · Calibrate once
#
# One pass over the calibration images (from train, chosen in `01_data`) gives the range of every activation; all static
# schemes share it. How the images are summed up matters: a moving average clips the rare large values on which networks with
# squeeze-and-excite blocks live, and the true extremes may be those of one freak image. The default covers 98 % of the images
# in full.

# %%
shelf = open_study(study, stage="03_ptq", needs="02_baseline")
images, baseline = dataset.load(shelf), shelf.read("baseline")
preprocess, float32 = Preprocessing(**baseline["preprocessing"]), shelf.variant("float32")

# %%
started = time.time()
ranges = calibration.calibrate(float32.model(), preprocess(images.calibration_images), preprocess.range,
                       summary=activation_ranges)
print(f"{len(ranges)} tensors calibrated on {len(images.calibration)} images")

# %% [markdown]
# ## 3 · Make every scheme
#
# From the same float flatbuffer with the same ranges. Each file is loaded and invoked once right away, since some
# combinations convert and then fail to run.

# %%
made, calibration_seconds = [], time.time() - started
for name in progress(schemes, "schemes"):
    spec, started = quantizer.scheme(name), time.time()
    model = quantizer.quantize(float32.model(), spec, ranges)
    made.append(shelf.shelve(name, model, technique="ptq", scheme=spec.scheme, engine="litert-quantizer", parent="float32",
                             seed=seed, seconds=round(time.time() - started + spec.calibrated * calibration_seconds, 2)))

# %% [markdown]
# The second engine is TensorFlow's converter, which the published recipes used. It starts from the Keras model and converts
# each scheme anew, which takes longer.

# %%
keras_model = load_float_model(shelf) if converter_schemes else None
calibration_set = preprocess(images.calibration_images)
for name in progress(converter_schemes, "TensorFlow's converter"):
    spec, started = quantizer.scheme(name), time.time()
    model = converter.quantize_with_converter(keras_model, spec, calibration_set)
    made.append(shelf.shelve(f"{name}_converter", model, technique="ptq", scheme=spec.scheme, engine="converter",
                             parent="float32", seed=seed, seconds=round(time.time() - started, 2)))

# %% [markdown]
# A calibration set is one draw of many. For each further seed in `repeats` another is drawn from train and `int8` is made
# again, so that the spread between draws can stand beside the differences claimed.

# %%
again = []
for other in progress(repeats, "other calibration sets"):
    drawn, started = draw_calibration(images.train.labels, len(images.calibration), other), time.time()
    redone = calibration.calibrate(float32.model(), preprocess(images.train.images[drawn]), preprocess.range, summary=activation_ranges)
    again.append(shelf.shelve(f"int8_seed{other}", quantizer.quantize(float32.model(), quantizer.scheme("int8"), redone), kind="repeat",
                              repeats="int8", technique="ptq", scheme="int8", engine="litert-quantizer", parent="float32",
                              seed=other, seconds=round(time.time() - started, 2)))

# %% [markdown]
# ## 4 · What does it cost?
#
# Each variant predicts the same images as float32, so drops are **paired**: what counts is on which images they differ.
# Shown here is validation; a drop whose interval spans 0 is one that these images cannot tell from nothing.

# %%
for variant in progress([*made, *again], "evaluation"):
    score(shelf, variant, images, preprocess)
table = variants_table([float32, *made])
table

# %% [markdown]
# The same scheme from other calibration images, seed by seed (nothing when `repeats` is empty):

# %%
variants_table([shelf.variant("int8"), *again]) if again else Markdown("*No repeats were asked for.*")

# %% [markdown]
# ## 5 · See it
#
# Left of the line is better than float32, right of it worse; the bar is the 95 % interval of the paired drop.

# %%
plot_drops(rows([float32, *made]))

# %% [markdown]
# What it buys in bytes, before and after compression for download (gzip):

# %%
plot_sizes(rows([float32, *made]))

# %% [markdown]
# How the weights divide over bit widths, read from the files themselves, not from what was asked for:

# %%
plot_weight_bits(rows([float32, *made]))

# %% [markdown]
# ## What we know now

# %%
lossless = table[(table["drop"] <= 0) & (table["× smaller"] > 1)].sort_values("× smaller")
collapsed = table[table["drop"] > 10].index.tolist()
Markdown(f"""Of {len(made)} variants, {len(lossless)} lose nothing on {len(images.validation.labels):,} validation images (point
estimate){f"; the smallest of them is **{lossless.index[-1]}**, {lossless['× smaller'].iloc[-1]:.2f} × smaller" if len(lossless) else ""}.
Lost more than 10 points: {', '.join(collapsed) or 'none'}. Calibration took {calibration_seconds:.1f} s, once.""")

# %%
shelf.finish({"variants": [variant.name for variant in made], "calibration_images": len(images.calibration)})
