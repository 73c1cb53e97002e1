# %% [markdown]
# # 81 · Does int8's speed hold at other image sizes?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/81_image_size.ipynb)
#
# The same network costs more on larger images, and not in proportion: on small feature maps much of the time goes into
# loading weights and calling kernels, on large ones into arithmetic and moving activations. int8 saves in each, but not
# alike, so a ratio that was measured at one size is no promise for another. Here the study's network is built at further
# sizes with the same weights, and its float32 and int8 files are timed side by side.
#
# **Overall flow:** build the network at each size → float32 and int8 files → time them interleaved → compare the ratios.
#
# *What this notebook is not:* a statement on accuracy. Nothing was trained at these sizes, so nothing is predicted.

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, fetch the workbook first
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")
    sys.path.insert(0, "edgeq")

import pandas as pd
from IPython.display import Markdown
from pydantic import PositiveFloat

from edgeq_lib.compress.quantize import input_size
from edgeq_lib.files import write_bytes
from edgeq_lib.measure.latency import measure_latency
from edgeq_lib.stage import open_study
from edgeq_lib.plots.variants import plot_ratio_by_size
from edgeq_lib.progress import progress

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
study: str = "quickstart"  # whose network to time: runs/<study>
scales: list[float] = [1, 2]  # image sizes, as multiples of the study's
budget_seconds: PositiveFloat = 3.0  # what the timing takes at each size

# %% [markdown]
# ## 1 · The files
#
# Batch norms fold and scales are set as in `03_ptq`; only the feature maps differ. The files are kept in the run's folder and
# are no variants: they belong to no accuracy. A network of your own is known at one size only, and nothing is timed.

# %%
stage = open_study(study, "81_image_size", needs="02_baseline")
sizes, paths = input_size.sizes(stage, scales), {}
for size in progress(sizes, "image sizes"):
    for name, file in input_size.files_at(stage, size).items():
        paths[size, name] = stage.folder / "at_size" / str(size) / f"{name}.tflite"
        write_bytes(paths[size, name], file)

# %% [markdown]
# Bytes hardly change, for weights do not depend on the size of the image:

# %% tags=["nbval-check-output"]
pd.DataFrame([{"pixels": size, **{name: round(paths[size, name].stat().st_size / 1e5) / 10 for name in ("float32", "int8")}}
              for size in sizes], columns=["pixels", "float32", "int8"]).set_index("pixels").add_suffix(", MB")

# %% [markdown]
# ## 2 · Time them
#
# At each size float32 and int8 take turns on one thread, in many rounds; the ratio is that of the same round.

# %%
spent = {size: measure_latency({name: paths[size, name] for name in ("float32", "int8")}, 1, budget_seconds)
         for size in sizes}

# %%
columns = ["pixels", "float32 ms", "int8 ms", "ratio", "low", "high"]
table = pd.DataFrame([[size, each["float32"]["p50"], each["int8"]["p50"],
                       *(each["int8"][key] for key in ("ratio", "ratio_low", "ratio_high"))]
                      for size, each in spent.items()], columns=columns).set_index("pixels")
table.round(3)

# %% [markdown]
# The same by the pixel, in nanoseconds. Were arithmetic all that takes time, these would not depend on the size:

# %%
table[["float32 ms", "int8 ms"]].div(table.index.to_series() ** 2, axis=0).mul(1e6).round(1).set_axis(["float32", "int8"], axis=1)

# %% [markdown]
# ## 3 · See it
#
# Below 1 int8 is faster. The bar is the spread over rounds (10th to 90th percentile).

# %%
caption = ("Latency of int8 as a ratio to float32 for the same network at other image sizes, one thread, interleaved; the "
           "bar spans the 10th to the 90th percentile of rounds.")
stage.figure("image_size", plot_ratio_by_size(table), caption) if sizes else Markdown("*Nothing was timed.*")

# %% [markdown]
# ## What we know now

# %%
stage.write("image_size", {"sizes": {str(size): each for size, each in spent.items()}})
Markdown("; ".join(f"at **{size}** pixels int8 takes **{row['ratio']:.2f}** × float32's time ({row['low']:.2f} … "
                   f"{row['high']:.2f}), {row['int8 ms']:.2f} ms" for size, row in table.iterrows()) or "nothing was timed")

# %%
stage.finish({"ratio": {str(size): row["ratio"] for size, row in table.iterrows()}})
