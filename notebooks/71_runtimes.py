# %% [markdown]
# # 71 · Which runtime is best for this network on this machine's instruction set?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/71_runtimes.ipynb)
#
# An int8 file is fast where its runtime has kernels for the processor's instructions, and slow where it has none. LiteRT, OpenVINO and ONNX Runtime wrote theirs for different processors, so the order in which they finish is a property of the instruction set. Here each makes of the same float network its own best int8, with the same calibration images, and all are timed in one run, in turns, at one thread. With $t_{e,r}$ the median time of engine $e$ in round $r$,
#
# $$\text{ratio}_e = \operatorname{median}_r \; t_{e,r} \, / \, t_{\text{LiteRT float32},r} .$$
#
# **Overall flow:** the float network in each engine → proof that it is the same function → each engine's int8 → accuracy on the same images → latency in turns → a folder to take away for each.
#
# *What this notebook is not:* a ranking of runtimes. A ratio holds for this network on this instruction set; on another machine, run it again.

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, fetch the workbook first
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")
    sys.path.insert(0, "edgeq")

import pandas as pd
from IPython.display import Markdown
from pydantic import PositiveFloat, PositiveInt

from edgeq_lib.measure.runtimes import compare, onnxruntime
from edgeq_lib.plots.runtimes import plot_runtimes
from edgeq_lib.report import deploy_runtimes
from edgeq_lib.stage import open_study

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to read: runs/<study>
beside: list[str] = ["int8"]  # files of the study that run in turns with the engines, in LiteRT
score_images: PositiveInt = 1000  # validation images that choose int8's ranges, without labels
budget_seconds: PositiveFloat = 20.0  # of the latency measurement; more rounds, less spread

# %% [markdown]
# ## 1 · Which engines are installed?
#
# They are an optional extra: nothing else in this workbook needs them. Without them this notebook leaves itself out and says so.

# %%
stage = open_study(study, "71_runtimes", needs="03_ptq")
engines, why_not = compare.installed()
again = f"Then `edgeq run {study} --force --only runtimes`."
Markdown(f"{compare.why_none(why_not)} {again}" if why_not
         else f"*Installed: {', '.join(engines)}.*")

# %% [markdown]
# ## 2 · The same float network
#
# OpenVINO reads the study's float flatbuffer itself. For ONNX Runtime each of its operations is written as one of ONNX. What an engine cannot take is named:

# %%
model, data, base = stage.float32.model(), stage.data, stage.float32.arrays()
floats, refused = compare.make_float(engines, model)
why_not |= refused
Markdown("\n".join(f"- {name}: {reason}" for name, reason in why_not.items())
         or "*All engines take this network.*")

# %% [markdown]
# Proof that they compute the same function: the outputs on all validation images, beside LiteRT's. The largest difference is that of float sums taken in another order.

# %%
splits = {"validation": data.validation.images, "test": data.test.images}
outputs = {made.name: {split: made.predict(model, images, stage.preprocess)
                       for split, images in splits.items()} for made in floats}
rows = [compare.row(made, outputs[made.name], data, base) for made in floats]
columns = ["name", "largest_difference", "same class %"]
pd.DataFrame([{**row, "same class %": row["validation"]["agreement"]} for row in rows],
             columns=columns).set_index("name")

# %% [markdown]
# ## 3 · Each engine's own best int8
#
# OpenVINO's comes from NNCF, with accurate bias correction; its ranges of activations are the mean of each image's extremes, NNCF's default, or the extremes of all. ONNX Runtime's has QuantizeLinear and DequantizeLinear nodes, weights per channel, and weights of seven bits where the processor would overflow with eight (x86 without VNNI). Which ranges are best is decided on validation images by how often the file names float32's class; the table shows it in percent.

# %%
part = data.validation.images[:score_images]
calibration_set = stage.preprocess(data.calibration_images)
integers, agrees = [], {}
for made in floats:
    int8, agrees[made.engine] = compare.make_int8(
        made, calibration_set, model, part, stage.preprocess, base["validation"][:score_images])
    integers.append(int8)
pd.DataFrame(agrees).round(2)

# %% [markdown]
# ## 4 · Accuracy
#
# On the same images as all files of this study, paired with float32 in LiteRT image by image.

# %%
for made in integers:
    scores = {split: made.predict(model, images, stage.preprocess)
              for split, images in splits.items()}
    rows.append(compare.row(made, scores, data, base))
variants = [variant for variant in stage.variants() if variant.name in ("float32", *beside)]
rows = [compare.litert_row(variant) for variant in variants] + rows

# %% [markdown]
# ## 5 · Latency, in turns
#
# One process, one thread for each engine, one real image. Every round gives each network a turn, in shuffled order; the ratio is taken within the round.

# %%
one = stage.preprocess(data.validation.images[:1])
latency = compare.measure_turns(
    [*floats, *integers], variants, one, budget_seconds) if floats else {}
rows = [{**row, "latency": latency[row["name"]]} for row in rows] if floats else []
where = compare.where()
machine = f"{where['machine']['cpu']}: {', '.join(where['machine']['isa'])}"
Markdown(f"Measured on {machine}.")

# %% [markdown]
# ## 6 · The table
#
# Accuracy on validation in percent, drops in points; the interval of a drop is of 95 %, that of a latency ratio of 95 % of the median over rounds.

# %%
table = pd.DataFrame([{
    "network": row["name"], "kB": row["bytes"] / 1000, "top-1 %": row["validation"]["top1"],
    "drop": row["validation"]["drop"], "low": row["validation"]["drop_low"],
    "high": row["validation"]["drop_high"], "agrees %": row["validation"]["agreement"],
    "ms": row["latency"]["p50"], "ratio": row["latency"]["ratio"],
    "from": row["latency"]["ratio_low"], "to": row["latency"]["ratio_high"]} for row in rows])
table.round(3)

# %%
stage.figure("runtimes", plot_runtimes(rows, machine), "Each runtime's files of the same network: "
             "accuracy lost on validation images, and latency at one thread as a ratio to float32 "
             f"in LiteRT, both with 95 % intervals, on {machine}."
             ) if rows else Markdown("*Nothing to draw.*")

# %% [markdown]
# ## 7 · To take away
#
# For each engine a folder with its int8 files and a `predict.py` that needs numpy, Pillow and that runtime.

# %%
folder = stage.folder / "runtimes"
bundles = [path for made in integers for path in deploy_runtimes.write_bundle(
    folder / deploy_runtimes.folder_name(made.engine), made.engine, made.files, model,
    stage.read("data"), stage.baseline)]
for path in bundles:
    stage.note_write(path)
pd.DataFrame([{"folder": path.parent.name, "file": path.name, "bytes": path.stat().st_size}
              for path in bundles])

# %% [markdown]
# TensorRT takes ONNX with explicit QDQ nodes whose zero points are 0, so it gets a file of its own. ONNX Runtime executes both files: once as they are written, node by node in float, once as it optimizes them. Both round the same values in another order. **TensorRT itself is not here, so the command in the folder's README is untested.**

# %%
onnx = {made.precision: made.files for made in [*floats, *integers] if "model.onnx" in made.files}
if onnx:
    onnx["for TensorRT"] = onnxruntime.quantize_for_tensorrt(onnx.pop("float32"), calibration_set)
    for path in deploy_runtimes.write_qdq(folder / "tensorrt", onnx["for TensorRT"]):
        stage.note_write(path)
qdq = {name: compare.check_qdq(files, model, part, stage.preprocess,
                               base["validation"][:score_images]) for name, files in onnx.items()}
pd.DataFrame(qdq).round(3)

# %% [markdown]
# ## What we know now

# %%
fastest = min(rows, key=lambda row: row["latency"]["ratio"], default=None)
exact = [row for row in rows
         if row["latency"]["ratio"] < 1 and row["validation"]["drop"] is not None]
faithful = max(exact, key=lambda row: row["validation"]["agreement"], default=None)
Markdown(f"""On {machine}, of {len(rows)} networks the fastest is {fastest['name']}, at
{fastest['latency']['ratio']:.2f} of float32's latency in LiteRT. """ + (f"""Of all that are faster
than float32 in LiteRT, {faithful['name']} names its class most often
({faithful['validation']['agreement']:.1f} %).""" if faithful else "None is faster than that.")
         if rows else "Nothing was measured, so nothing is known about other runtimes here.")

# %% [markdown]
# **Papers:** Nagel et al., *Data-free quantization through weight equalization and bias correction*, [arXiv 1906.04721](https://arxiv.org/abs/1906.04721), whose bias correction NNCF and this workbook share. Jacob et al., *Quantization and training of neural networks for efficient integer-arithmetic-only inference*, [arXiv 1712.05877](https://arxiv.org/abs/1712.05877).

# %%
stage.write("runtimes", {"rows": rows, "ranges": agrees, "qdq": qdq, "why_not": why_not, **where})
stage.finish({**({} if rows else {"left_out": compare.why_none(why_not)}),
              "networks": [row["name"] for row in rows], "why_not": why_not})
