# %% [markdown]
# # 03 · What does each post-training quantization scheme cost and buy?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/03_ptq.ipynb)
#
# Post-training quantization (PTQ) needs no training: weights are rounded, and for static schemes the ranges of activations are read off a few calibration images. A real number $x$ becomes an integer $q$ with a scale $s$ and a zero point $z$,
#
# $$q = \operatorname{clip}\big(\operatorname{round}(x / s) + z\big), \qquad x \approx s\,(q - z).$$
#
# Schemes differ in **what** is rounded (weights, activations), **how finely** (16, 8 or 4 bits, one scale per channel or per tensor) and **what computes** (float or integer kernels). One loop over a table of schemes makes them all, here from one float flatbuffer.
#
# **Overall flow:** calibrate once → make each scheme with `litert-quantizer` → make some with TensorFlow's converter as a second engine → measure on validation → compare.
#
# *What this notebook is not:* it recovers nothing. A scheme that loses here may be won back by later notebooks.

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, fetch the workbook first
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")
    sys.path.insert(0, "edgeq")

import time
from dataclasses import asdict
from typing import Literal

import pandas as pd
from IPython.display import Markdown
from pydantic import NonNegativeInt

from edgeq_lib.analysis.tables import rows, variants_table
from edgeq_lib.compress.quantize import calibration, converter, quantizer
from edgeq_lib.compress.quantize.why_not import why_not
from edgeq_lib.data.splits import draw_calibration
from edgeq_lib.measure.accuracy import score
from edgeq_lib.models.network import open_network
from edgeq_lib.pipeline.config import TargetName
from edgeq_lib.plots.variants import plot_drops, plot_sizes, plot_weight_bits
from edgeq_lib.progress import progress
from edgeq_lib.stage import open_study

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to read and fill: runs/<study>
seed: NonNegativeInt = 0  # recorded with each variant; the calibration set was drawn with it
schemes: list[str] = ["float16", "dynamic_int8", "weight_only_int8", "int8", "int8_uint8_io", "int8_per_tensor", "int16x8", "w4", "w4a8"]  # rows of the table below  # noqa: E501
converter_schemes: list[str] = ["int8"]  # made by TensorFlow's converter as well
activation_ranges: Literal["covering", "min_max", "moving_average"] = "covering"  # see section 2
repeats: list[int] = []  # further seeds: int8 is made again from other calibration images
target: TargetName = "cortex_m_1m"  # where files are to run: decides the form of low-bit layers

# %% [markdown]
# ## 1 · What there is to choose from
#
# Bits of weights and activations (32 = float), one scale per channel or per tensor, and the type of the file's input and output.

# %% tags=["nbval-check-output"]
pd.DataFrame({name: asdict(quantizer.scheme(name)) for name in schemes}).T

# %% [markdown]
# ## 2 · Calibrate once
#
# One pass over the calibration images (from train, chosen in `01_data`) gives the range of every activation; all static schemes share it. How the images are summarized matters: a moving average clips the rare large values on which networks with squeeze-and-excite blocks live, and the true extremes may be those of one outlier image. The default covers 98 % of the images in full; what other shares give was measured [on photos and networks that no study publishes](../figures/covering_sweep.md).

# %%
stage = open_study(study, "03_ptq", needs="02_baseline", target=target)
float32, preprocess, images = stage.float32, stage.preprocess, stage.data
calibration_set = preprocess(images.calibration_images)

# %%
started = time.time()
ranges = calibration.calibrate(float32.model(), calibration_set, preprocess.range,
                               summary=activation_ranges)
calibration_seconds = time.time() - started
print(f"{len(ranges)} tensors calibrated on {len(images.calibration)} images")

# %% [markdown]
# ## 3 · Make every scheme
#
# From the same float flatbuffer with the same ranges. Each file is loaded and invoked once right away, since some combinations convert and then fail to run.

# %%
made, facts = [], {"technique": "ptq", "parent": "float32", "seed": seed}
for name in progress(schemes, "schemes"):
    spec, started = quantizer.scheme(name), time.time()
    model, why = quantizer.try_quantize(float32.model(), spec, ranges)
    if model is None:  # one scheme that LiteRT refuses must not cost the others
        print(f"{name} is left out: {why}")
        continue
    seconds = time.time() - started + spec.calibrated * calibration_seconds
    made.append(stage.save_variant(name, model, **facts, scheme=spec.scheme,
                                   engine="litert-quantizer", seconds=round(seconds, 2)))

# %% [markdown]
# The second engine is TensorFlow's converter, which the published recipes used. It starts from the Keras model and converts each scheme anew, which takes longer. A network that is a flatbuffer only has none of these.

# %%
network = open_network(stage)
refused = why_not(network, "03_ptq", "converter")
print(refused or "made:", "" if refused else ", ".join(converter_schemes) or "none")
for name in progress([] if refused else converter_schemes, "TensorFlow's converter"):
    spec, started = quantizer.scheme(name), time.time()
    model = converter.quantize_with_converter(network.keras, spec, calibration_set)
    made.append(stage.save_variant(f"{name}_converter", model, **facts, scheme=spec.scheme,
                                   engine="converter", seconds=round(time.time() - started, 2)))

# %% [markdown]
# A calibration set is one draw of many. For each further seed in `repeats` another is drawn from train and `int8` is made again, so that the spread between draws can stand beside the differences claimed.

# %%
again = []
for other in progress(repeats, "other calibration sets"):
    drawn = draw_calibration(images.train.labels, len(images.calibration), other)
    others, started = preprocess(images.train.images[drawn]), time.time()
    redone = calibration.calibrate(float32.model(), others, preprocess.range,
                                   summary=activation_ranges)
    model = quantizer.quantize(float32.model(), quantizer.scheme("int8"), redone)
    again.append(stage.save_variant(
        f"int8_seed{other}", model, **{**facts, "seed": other}, kind="repeat", repeats="int8",
        scheme="int8", engine="litert-quantizer", seconds=round(time.time() - started, 2)))

# %% [markdown]
# ## 4 · What does it cost?
#
# Each variant predicts the same images as float32, so drops are **paired**: what counts is on which images they differ. Shown here is validation; a drop whose interval spans 0 is one that these images cannot tell from nothing.

# %%
for variant in progress([*made, *again], "evaluation"):
    score(stage, variant, images, preprocess)
table = variants_table([float32, *made])
table

# %% [markdown]
# The same scheme from other calibration images, seed by seed (nothing when `repeats` is empty):

# %%
variants_table([stage.variant("int8"), *again]) if again else Markdown("*No repeats.*")

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
small = "" if lossless.empty else (
    f"; the smallest of them is **{lossless.index[-1]}**, "
    f"{lossless['× smaller'].iloc[-1]:.2f} × smaller")
lost = [each.name for each in made if each.read("quality")["validation"]["drop_low"] > 0]
Markdown(f"""Of {len(made)} variants, {len(lossless)} lose nothing on
{len(images.validation.labels):,} validation images (point estimate){small}. Their whole interval
lies above 0: {', '.join(lost) or 'none'}. Calibration took {calibration_seconds:.1f} s, once.""")

# %% [markdown]
# **Papers:** Jacob et al., *Quantization and training of neural networks for efficient integer-arithmetic-only inference*, [arXiv 1712.05877](https://arxiv.org/abs/1712.05877). Krishnamoorthi, *Quantizing deep convolutional networks for efficient inference: a whitepaper*, [arXiv 1806.08342](https://arxiv.org/abs/1806.08342).

# %%
stage.finish({"variants": [variant.name for variant in made],
              "calibration_images": len(images.calibration)})
