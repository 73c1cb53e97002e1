# %% [markdown]
# # 80 · What do the variants take in size, latency and memory, and where do they fit?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/80_edge_benchmark.ipynb)
#
# Absolute times belong to one machine; a **ratio** travels to machines of the same instruction set. So all variants are timed interleaved in one process, in many rounds $r$, and each is compared with float32 of the same round,
#
# $$\text{ratio} = \operatorname{median}_r \frac{\operatorname{median}\, t_r(\text{variant})}{\operatorname{median}\, t_r(\text{float32})}.$$
#
# Memory and loading are measured in a fresh process for each file, and what a file really contains is read from the file.
#
# **Overall flow:** take every variant from the shelf → size, memory, operations → latency, interleaved → targets → what an NPU compiler says → other image sizes → Arm, emulated.
#
# *What this notebook is not:* a measurement on your device. It ranks variants; run them there before you promise anything (section 7 says how).

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, fetch the workbook first
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")
    sys.path.insert(0, "edgeq")

import pandas as pd
from IPython.display import Markdown
from pydantic import NonNegativeInt, PositiveFloat

from edgeq_lib.analysis.tables import rows
from edgeq_lib.compress.quantize import input_size
from edgeq_lib.files import write_bytes
from edgeq_lib.measure import arm64, peers, remote, standalone, verdicts
from edgeq_lib.measure.latency import measure_costs, measure_latency
from edgeq_lib.pipeline.config import TargetName
from edgeq_lib.plots.variants import plot_latency, plot_ratio_by_size, plot_sizes
from edgeq_lib.progress import progress
from edgeq_lib.report.numbers import machine_name
from edgeq_lib.stage import open_study
from edgeq_lib.study import Study
from edgeq_lib.targets import table

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to read and measure: runs/<study>
budget_seconds: PositiveFloat = 12.0  # of all latency measurements; more rounds, less spread
target: TargetName = "cortex_m_1m"  # where the file is to run: a name that `edgeq targets` lists
targets: list[TargetName] = ["cortex_m_256k", "ethos_u55", "edge_tpu", "raspberry_pi_4", "x86_avx2", "x86_vnni"]  # others that each file is judged for  # noqa: E501
image_scales: list[float] = []  # time float32 and int8 at these multiples of the image size too
scale_seconds: PositiveFloat = 3.0  # what that timing takes at each size
arm64_images: NonNegativeInt = 0  # compare with emulated Arm64 on so many images (slow); 0: none

# %% [markdown]
# ## 1 · Measure everything on the shelf
#
# A real image is the input, for each file as it wants its pixels. Latency at one thread and at all threads; variants whose kernels are very slow get fewer invocations, so that none eats the budget of the others.

# %%
stage = open_study(study, "80_edge_benchmark", needs="03_ptq")
variants = {variant.name: variant for variant in stage.variants() if variant.model()}
inputs = peers.first_images(stage, list(variants.values()), stage.data, stage.preprocess)
named = stage.open_targets(target, *targets)
accelerator = next((each.accelerator for each in named if each.accelerator), None)
threads = sorted({1, standalone.cores()})
costs = measure_costs({name: variant.path for name, variant in variants.items()}, threads,
                      budget_seconds, images=inputs, accelerator=accelerator)

# %% [markdown]
# What can be executed for a target is: on emulated Arm processors with `arm64_images` (section 9), in TensorFlow Lite Micro always (section 5).

# %%
absent = arm64.available() if arm64_images else "Not asked for (`arm64_images` is 0)."
emulated = {} if absent else arm64.measure(
    {name: variant.path for name, variant in variants.items()  # that run on this machine
     if costs[name]["load_ms"] is not None},
    peers.first_images(stage, list(variants.values()), stage.data, stage.preprocess,
                       arm64_images))
for name, record in emulated.items():
    variants[name].write("arm64", record)

# %%
for name, variant in progress(variants.items(), "targets", len(variants)):
    costs[name]["targets"] = verdicts.judge_all(
        named, variant, costs[name], stage.data.test.images, stage.preprocess,
        emulated.get(name))
    variant.write("cost", costs[name])

# %% [markdown]
# The machine and the runtime that these figures belong to. `isa` names the instruction sets that bear on speed:

# %%
first = costs["float32"]
pd.Series({**first["machine"], **first["runtime"]}, name="measured on").to_frame()

# %% [markdown]
# Was it quiet meanwhile? `load` is the load average of the last minute per processor (this benchmark included) at the start and the end, `others` how many processors other processes kept busy, `spread` how float32's own time varied over rounds (10th to 90th percentile, by the median). A busy machine is waited for, and measured once more.

# %%
conditions = pd.DataFrame(first["conditions"]).T.rename_axis("threads").round(2)
display(Markdown(f"**The machine was busy; measure again.** {first['busy']}"
                 if "busy" in first else "*It was quiet.*"))
conditions

# %% [markdown]
# ## 2 · Latency
#
# Median, 90th and 99th percentile in milliseconds at one thread on the machine above, and the ratio to float32 of the same round: its median over rounds, `low` and `high` the 95 % interval of that median. A call that takes less than a millisecond is timed in batches of so many that one batch takes about that; its figures are per call, its percentiles those of batches. A ratio above 1 is slower than float32. LiteRT has no fast kernels for 16-bit activations and for 4-bit convolutions: `int16x8`, `w4` and `w4a8` show the speed of its reference kernels, not of the arithmetic.

# %%
latency = pd.DataFrame({name: {
    **(cost["latency_ms"] or {}).get("1", {}), "ratio": cost["latency_ratio"],
    "low": cost["latency_ratio_low"], "high": cost["latency_ratio_high"],
    "batch": (cost["latency_ratio_by_threads"] or {}).get("1", {}).get("batch")}
    for name, cost in costs.items()}).T
latency.astype(float).round(3)

# %%
machine = machine_name(first["machine"])
plot_latency(rows(list(variants.values()), measured=True), machine)

# %% [markdown]
# ## 3 · Bytes and memory
#
# `gzip kB` is what a download costs, `arena kB` the planned activations, `peak kB` what a fresh process really grew by, which includes the runtime's own packed copy of the weights.

# %%
pd.DataFrame([
    {"variant": name, "kB": cost["bytes"] / 1e3, "gzip kB": cost["gzip_bytes"] / 1e3,
     "arena kB": cost["arena_bytes"] / 1e3,
     "peak kB": (cost["peak_memory_bytes"] or float("nan")) / 1e3, "load ms": cost["load_ms"]}
    for name, cost in costs.items()]).set_index("variant").round(1)

# %%
plot_sizes(rows(list(variants.values()), measured=True))

# %% [markdown]
# ## 4 · What is inside the files?
#
# Read by parsing each flatbuffer. A file called "full int8" that still holds float operations or float input runs on no integer-only accelerator, whatever its name says.

# %% tags=["nbval-check-output"]
columns = ("compute", "integer_only", "input_dtype", "output_dtype")
pd.DataFrame({name: {**{key: cost["report"][key] for key in columns},
                     "float ops": ", ".join(cost["report"]["float_ops"]) or "none"}
              for name, cost in costs.items()}).T

# %% [markdown]
# Integer schemes that are not integer-only (float input and output asked for counts as such):

# %%
impure = [name for name, variant in variants.items()
          if variant.facts["scheme"] in ("int8", "w4a8", "int16x8")
          and not costs[name]["report"]["integer_only"]]
print("integer schemes with float inside or at the ends:", ", ".join(impure) or "none")

# %% [markdown]
# ## 5 · Where does it run?
#
# Each target of this study, with half of its memory left to a model:

# %%
pd.DataFrame(table(named)).set_index("target") if named else Markdown("*No target is named.*")

# %% [markdown]
# `yes` and `no` say how they are known: *executed* in the runtime of the target, *compiled* by its compiler, or only *checked*, operation by operation. What does not run there says why below.

# %%
pd.DataFrame({name: {each: verdicts.words(verdict) for each, verdict in cost["targets"].items()}
              for name, cost in costs.items()}).T

# %%
pd.DataFrame(verdicts.reasons(costs), columns=["target", "variants", "why not"])

# %% [markdown]
# ## 6 · On an NPU (estimate)
#
# Arm's compiler Vela plans integer-only files for an Ethos-U and predicts time and memory. **An estimate by the compiler's model, not a measurement**; the part that stays on the CPU is not in its time.

# %%
estimates = {name: cost["vela"] for name, cost in costs.items() if cost["vela"]}
columns = ["npu_ops_share", "npu_macs_share", "sram_bytes", "dram_bytes", "flash_bytes", "ms",
           "accelerator"]
pd.DataFrame(estimates).T.reindex(columns=columns)

# %% [markdown]
# Why the others have no estimate:

# %%
reasons = {name: cost["why"]["vela"] for name, cost in costs.items() if "vela" in cost["why"]}
pd.Series(reasons, name="no estimate because", dtype=object).to_frame()

# %% [markdown]
# ## 7 · On other machines
#
# `edgeq bench STUDY user@host` measures these files in the same way on a Raspberry Pi or any board with Python, numpy and ai-edge-litert, over ssh. Without ssh, `edgeq export-bench STUDY DIR` writes a folder to copy there, and `edgeq import-bench STUDY FILE` takes the result back, with `--power` what a power meter recorded. Shown are the ratio to float32 on the same machine and the median in milliseconds, one thread. An import does not measure this machine anew: what came in after this notebook ran is in the report alone.

# %%
elsewhere = Study(study).boards()  # not through `stage`, which would note it as an input
beside = remote.side_by_side(elsewhere, costs, list(variants.values()))
pd.DataFrame(beside).set_index("variant") if elsewhere else Markdown(
    "*None yet: `edgeq bench`, or `edgeq export-bench`, then `edgeq import-bench`.*")

# %% [markdown]
# ## 8 · At other image sizes
#
# With `image_scales`: the same network costs more on larger images, and not in proportion. On small feature maps much of the time goes into loading weights and calling kernels, on large ones into arithmetic and moving activations. The network is built at each size with the same weights; nothing was trained at these sizes, so nothing is predicted. A network of your own is known at one size only, and nothing is timed.

# %%
sizes, spent = input_size.sizes(stage, image_scales), {}
for pixels in progress(sizes, "image sizes"):
    paths = {}
    for name, file in input_size.files_at(stage, pixels).items():
        paths[name] = stage.folder / "at_size" / str(pixels) / f"{name}.tflite"
        write_bytes(paths[name], file)
    spent[pixels] = measure_latency(paths, 1, scale_seconds)
by_size = pd.DataFrame(
    [[pixels, each["float32"]["p50"], each["int8"]["p50"], each["int8"]["ratio"],
      each["int8"]["ratio_low"], each["int8"]["ratio_high"]] for pixels, each in spent.items()],
    columns=["pixels", "float32 ms", "int8 ms", "ratio", "low", "high"]).set_index("pixels")
by_size.round(3)

# %%
stage.figure(
    "image_size", plot_ratio_by_size(by_size, machine), "Latency of int8 as a ratio to float32 for "
    f"the same network at other image sizes on {machine}, one thread, interleaved; the bar is the "
    "95 % interval of the median over rounds."
) if sizes else Markdown("*No other sizes were asked for.*")

# %% [markdown]
# ## 9 · On Arm, emulated
#
# With `arm64_images`, and where `make arm64` has fetched QEMU: LiteRT's own Arm kernels run each file on an emulated Cortex-A53, A72 (no dot products) and A76 (dot products). Shown are **instructions per inference as a ratio to float32's. They are not time**: a core finishes several at once, or waits for memory. But they are counted, the same at every run, however busy this machine is. Emulation takes seconds per image, for large float networks ten.

# %%
Markdown(f"*{absent}*") if absent else pd.DataFrame(arm64.table(emulated)).set_index("variant")

# %% [markdown]
# Do Arm's kernels say the same as this machine's? For integer files the largest difference should be one step of the output, for float files a thousandth of the largest output. 4-bit convolutions do not keep to it: XNNPACK has no kernel for them, and LiteRT's own rounds in another way on Arm than on x86. As dense layers (the form of `30_low_bit`) XNNPACK takes them.

# %%
Markdown(f"*{absent}*") if absent else Markdown(arm64.agreement(emulated))

# %% [markdown]
# ## What we know now

# %%
ours = [name for name, variant in variants.items() if variant.facts["kind"] == "variant"]
measured = latency.loc[ours].dropna(subset="ratio")
fastest = measured["ratio"].astype(float).idxmin()
smallest = min(ours, key=lambda name: costs[name]["bytes"])
ratio = costs["float32"]["bytes"] / costs[smallest]["bytes"]
Markdown(f"""Peers apart, the fastest variant is **{fastest}** at {measured['ratio'][fastest]:.2f} ×
float32's latency ({measured['low'][fastest]:.2f} … {measured['high'][fastest]:.2f}, 95 %) on
{machine}; the smallest is
**{smallest}** with {costs[smallest]['bytes'] / 1000:,.1f} kB, {ratio:.2f} × smaller than float32.
{verdicts.how_many(costs, ours)}""")

# %% [markdown]
# **Papers:** Banbury et al., *MLPerf Tiny benchmark*, [arXiv 2106.07597](https://arxiv.org/abs/2106.07597) (what to measure on small devices).

# %%
stage.write("image_size", {"sizes": {str(pixels): each for pixels, each in spent.items()}})
stage.finish({"variants": list(costs), "fastest": fastest, "smallest": smallest})
