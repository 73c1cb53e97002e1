# %% [markdown]
# # 10 · Which layers lose in int8, and why?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/10_diagnosis.ipynb)
#
# An int8 file computes with rounded weights and rounded activations. Where it loses, few causes are usual: activation ranges that cut rare large values or are stretched by them, weights whose scales are too coarse for their channel, a shift of each channel's mean that these roundings leave, and single layers that are sensitive to quantization. This notebook looks for them one by one; `11_ptq_recovery` then wins back what it can.
#
# The measure is the signal-to-noise ratio of a tensor $t$ of float32 against $\hat t$ of the int8 file, over images,
#
# $$\mathrm{SNR} = 10 \log_{10} \frac{\sum t^2}{\sum (t - \hat t)^2} \;\text{dB}.$$
#
# **Overall flow:** look at activation ranges → measure the noise of each tensor → put each layer into int8 alone.
#
# *What this notebook is not:* it changes no file on the shelf, and test images are not looked at.

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, fetch the workbook first
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")
    sys.path.insert(0, "edgeq")

from typing import Literal

import pandas as pd
from IPython.display import Markdown
from pydantic import PositiveInt

from edgeq_lib.compress.quantize import calibration
from edgeq_lib.compress.quantize.sensitivity import (
    EvaluationContext, Int8Recipe, display_name, layer_sensitivity, signal_to_noise)
from edgeq_lib.plots.layers import (
    plot_activation_ranges, plot_layer_sensitivity, plot_signal_to_noise)
from edgeq_lib.stage import open_study
from edgeq_lib.tflite.reader import read_graph

# %% [markdown]
# ## Parameters
#
# The sweep over layers makes two files per layer, so it is scored on part of validation.

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to read: runs/<study>
sweep_images: PositiveInt = 500  # validation images that the sweep is scored on
dense: Literal["per_channel", "per_tensor"] = "per_channel"  # scales of dense layers in the files

# %% [markdown]
# ## 1 · What the tensors hold
#
# One pass of the float network over the calibration images keeps each image's extremes and a histogram per tensor.

# %%
stage = open_study(study, "10_diagnosis", needs="02_baseline")
images, preprocess, float_file = stage.data, stage.preprocess, stage.float32.model()
calibration_set = preprocess(images.calibration_images)
observed = calibration.observe(float_file, calibration_set)
names = [display_name(name) for name in observed.names]
print(f"{len(names)} tensors on {len(images.calibration)} images")

# %% [markdown]
# How far ranges reach, in standard deviations. An int8 range has 255 steps whatever its reach: at 50 deviations, most values share a handful of them. Squeeze-and-excite multiplications are known for it. Where the moving average lies far below the true extremes, the quantizer's default **clips** what the network may live on.

# %%
reach = plot_activation_ranges(names, calibration.deviations(observed), {
    label: calibration.SUMMARIES[label](observed)
    for label in ("min_max", "covering", "moving_average")})
stage.figure("activation_ranges", reach, "Reach of each tensor's range in standard deviations of "
             "its values, by how the calibration images are summarized. Far reaches make int8's "
             "scales coarse; clipping them loses rare large values.")

# %% [markdown]
# ## 2 · Where the noise comes in
#
# The quantizer's defaults make the naive file: ranges by a moving average, weights by their extremes, one scale per channel. It and float32 run side by side on the same images, and each tensor is compared with the tensor of the same name. The ratio includes what earlier layers did wrong.

# %%
part = slice(0, sweep_images)
context = EvaluationContext(
    float_file, observed, images.validation.images[part], images.validation.labels[part],
    stage.float32.arrays()["validation"][part], preprocess)
recipe = Int8Recipe(per_tensor=("FULLY_CONNECTED",) if dense == "per_tensor" else ())
naive = context.make(recipe)

# %%
ratios = signal_to_noise(float_file, naive, calibration_set[:32])
graph = read_graph(float_file)
kinds = {graph.tensors[op.outputs[0]].name: op.name for op in graph.ops}
noise = pd.DataFrame([
    {"tensor": display_name(name), "op": kinds.get(name, "INPUT"), "dB": ratio}
    for name, ratio in ratios.items()])
plot_signal_to_noise(noise["tensor"], noise["op"], noise["dB"])

# %% [markdown]
# The five noisiest tensors:

# %%
noise.sort_values("dB").head(5).round(1).set_index("tensor")

# %% [markdown]
# ## 3 · Which layer does the harm?
#
# Two sweeps tell. Each layer (an op with weights, and the ops without that follow) alone in int8 shows what it spoils by itself; all layers but one in int8 shows what would be won by sparing it. One file per task, in parallel.

# %%
layers = layer_sensitivity(context, recipe)
plot_layer_sensitivity(layers)

# %% [markdown]
# The five most sensitive layers, by the output's signal-to-noise with that layer alone in int8:

# %%
worst = sorted(layers, key=lambda row: row["only_snr"])
pd.DataFrame(worst[:5]).set_index("layer").drop(columns="name").round(2)

# %% [markdown]
# ## What we know now

# %%
figures = context.compare(naive)
spared = max(layers, key=lambda row: row["without_agreement"])
quietest = noise.loc[noise["dB"].idxmin()]
Markdown(f"""The naive int8 file agrees with float32 on {figures['agreement']:.1f} % of
{len(context.labels):,} validation images. Its noisiest tensor is {quietest['tensor']}
({quietest['dB']:.1f} dB); the most sensitive layer is **{worst[0]['layer']}**, which alone in int8
leaves {worst[0]['only_snr']:.1f} dB at the output. Sparing {spared['layer']} helps most:
{spared['without_agreement']:.1f} % agreement.""")

# %% [markdown]
# **Papers:** Krishnamoorthi, [arXiv 1806.08342](https://arxiv.org/abs/1806.08342) (layer-wise sensitivity). Nagel et al., *A white paper on neural network quantization*, [arXiv 2106.08295](https://arxiv.org/abs/2106.08295) (the debugging flow).

# %%
stage.write("diagnosis", {"sweep_images": len(context.labels), "layers": layers,
                          "noise": noise.to_dict("records"), "naive": figures})
stage.finish({"worst": worst[0]["layer"], "agreement": figures["agreement"]})
