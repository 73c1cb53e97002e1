# %% [markdown]
# # 80 · How large, how fast and how hungry is each variant, and where does it fit?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/80_edge_benchmark.ipynb)
#
# Absolute times belong to one machine; **ratios travel**. So all variants are timed in one process, turn about, in many
# rounds, and each is compared with float32 of the same round. Memory and loading are measured in a fresh process for each
# file, and what a file really contains is read from the file.
#
# **Overall flow:** take every variant from the shelf → size, memory, operations → latency, interleaved → device classes →
# what an NPU compiler says.
#
# *What this notebook is not:* a measurement on your device. It ranks variants; run them there before you promise anything
# (section 7 says how).

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, fetch the workbook first
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")
    sys.path.insert(0, "edgeq")

import pandas as pd
from IPython.display import Markdown
from pydantic import PositiveFloat

from edgeq_lib.analysis.tables import rows
from edgeq_lib.data import dataset
from edgeq_lib.measure import peers, remote, standalone, targets
from edgeq_lib.measure.latency import measure_costs
from edgeq_lib.models.preprocessing import Preprocessing
from edgeq_lib.stage import open_study
from edgeq_lib.plots.variants import plot_latency, plot_sizes
from edgeq_lib.study import Study

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to read and measure: runs/<study>
budget_seconds: PositiveFloat = 20.0  # what all latency measurements take together; more rounds, narrower spread
accelerator: str = "ethos-u55-128"  # the Ethos-U that the compiler Vela estimates for

# %% [markdown]
# ## 1 · Measure everything on the shelf
#
# A real image is the input, for each file as it wants its pixels. Latency at one thread and at all threads; variants whose kernels are very slow get fewer
# invocations, so that none eats the budget of the others.

# %%
stage = open_study(study, "80_edge_benchmark", needs="04_qat")
variants = {variant.name: variant for variant in stage.variants() if variant.model()}
preprocess = Preprocessing(**stage.baseline["preprocessing"])
images = peers.first_images(stage, list(variants.values()), stage.data, preprocess)

# %%
threads = sorted({1, standalone.cores()})
costs = measure_costs({name: variant.path for name, variant in variants.items()}, threads, budget_seconds,
                          images=images, accelerator=accelerator)
for name, cost in costs.items():
    variants[name].write("cost", cost)

# %% [markdown]
# The machine and the runtime that these figures belong to:

# %%
first = costs["float32"]
pd.Series({**first["machine"], **first["runtime"]}, name="measured on").to_frame()

# %% [markdown]
# ## 2 · Latency
#
# Median, 90th and 99th percentile in milliseconds at one thread, and the ratio to float32 of the same round with its spread.
# A ratio above 1 is slower than float32. LiteRT has no fast kernels for 16-bit activations and for 4-bit convolutions: `int16x8`,
# `w4` and `w4a8` show the speed of its reference kernels, not of the arithmetic.

# %%
latency = pd.DataFrame({name: {**(cost["latency_ms"] or {}).get("1", {}), "ratio": cost["latency_ratio"],
                               "low": cost["latency_ratio_low"], "high": cost["latency_ratio_high"]}
                        for name, cost in costs.items()}).T
latency.astype(float).round(3)

# %%
plot_latency(rows(list(variants.values()), measured=True))

# %% [markdown]
# ## 3 · Bytes and memory
#
# `gzip kB` is what a download costs, `arena kB` the planned activations, `peak kB` what a fresh process really grew by, which
# includes the runtime's own packed copy of the weights.

# %%
pd.DataFrame([{"variant": name, "kB": cost["bytes"] / 1e3, "gzip kB": cost["gzip_bytes"] / 1e3, "arena kB":
               cost["arena_bytes"] / 1e3, "peak kB": (cost["peak_memory_bytes"] or float("nan")) / 1e3,
               "load ms": cost["load_ms"]} for name, cost in costs.items()]).set_index("variant").round(1)

# %%
plot_sizes(rows(list(variants.values()), measured=True))

# %% [markdown]
# ## 4 · What is inside the files?
#
# Read by walking each flatbuffer. A file called "full int8" that still holds float operations or float input runs on no
# integer-only accelerator, whatever its name says.

# %% tags=["nbval-check-output"]
inside = pd.DataFrame({name: {key: cost["report"][key] for key in ("compute", "integer_only", "input_dtype", "output_dtype")}
                       | {"float ops": ", ".join(cost["report"]["float_ops"]) or "none"} for name, cost in costs.items()}).T
inside

# %% [markdown]
# Integer schemes that are not integer-only (float input and output asked for counts as such):

# %%
impure = [name for name, variant in variants.items() if variant.facts["scheme"] in ("int8", "w4a8", "int16x8")
          and not costs[name]["report"]["integer_only"]]
print("integer schemes with float inside or at the ends:", ", ".join(impure) or "none")

# %% [markdown]
# ## 5 · Where does it fit?
#
# Arena and file bytes against RAM and flash of typical boards of each class, half of which is left to everything else.

# %%
pd.DataFrame({name: {"board": device.board, "RAM kB": device.ram / 1e3, "flash kB": device.flash / 1e3,
                     "from": device.source} for name, device in targets.DEVICES.items()}).T

# %% tags=["nbval-check-output"]
fits = pd.DataFrame({name: cost["fits"] for name, cost in costs.items()}).T
fits.replace({True: "fits", False: "too big"})

# %% [markdown]
# ## 6 · On an NPU (estimate)
#
# Arm's compiler Vela plans integer-only files for an Ethos-U and predicts time and memory. **An estimate by the compiler's
# model, not a measurement**; the part that stays on the CPU is not in its time.

# %%
estimates = {name: cost["vela"] for name, cost in costs.items() if cost["vela"]}
columns = ["npu_ops_share", "npu_macs_share", "sram_bytes", "dram_bytes", "flash_bytes", "ms", "accelerator"]
pd.DataFrame(estimates).T.reindex(columns=columns)

# %% [markdown]
# Why the others have no estimate:

# %%
pd.Series({name: cost["why"]["vela"] for name, cost in costs.items() if "vela" in cost["why"]}, name="no estimate because",
          dtype=object).to_frame()

# %% [markdown]
# ## 7 · On other machines
#
# `edgeq export-bench STUDY DIR` writes a folder that measures these files in the same way on a Raspberry Pi or any board with
# Python, numpy and ai-edge-litert; `edgeq import-bench STUDY FILE` takes the result back. Shown are the ratio to float32 on the
# same machine and the median in milliseconds, one thread. An import does not measure this machine anew: what came in after
# this notebook ran is in the report alone.

# %%
elsewhere = remote.read_boards(Study(study))  # not through `shelf`, which would note it as an input of this stage
side_by_side = pd.DataFrame(remote.side_by_side(elsewhere, costs, list(variants.values()))).set_index("variant")
side_by_side if elsewhere else Markdown("*None yet: `edgeq export-bench`, then `edgeq import-bench`.*")

# %% [markdown]
# ## What we know now

# %%
ours = [name for name, variant in variants.items() if variant.facts["kind"] == "variant"]
measured = latency.loc[ours].dropna(subset="ratio")
fastest, smallest = measured["ratio"].astype(float).idxmin(), min(ours, key=lambda name: costs[name]["bytes"])
Markdown(f"""Peers apart, the fastest variant is **{fastest}** at {measured['ratio'][fastest]:.2f} × float32's latency
({measured['low'][fastest]:.2f} … {measured['high'][fastest]:.2f}); the smallest is **{smallest}** with
{costs[smallest]['bytes'] / 1000:,.1f} kB, {costs['float32']['bytes'] / costs[smallest]['bytes']:.2f} × smaller than float32.
{int(fits['microcontroller'][ours].sum())} of {len(ours)} variants fit the microcontroller class.""")

# %%
stage.finish({"variants": list(costs), "fastest": fastest, "smallest": smallest})
