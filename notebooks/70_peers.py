# %% [markdown]
# # 70 · How do files that others published do on these images?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/70_peers.ipynb)
#
# A table of one's own variants says what compression cost *this* network. Whether the result is any good is said by what others already offer. Their accuracies, as published, come from other images, other crops and other code; so their files are measured here, on the very images, by the very code that measured ours. With $c_i, \hat c_i \in \{0, 1\}$ whether our float32 and the peer are right about image $i$, the paired difference is
#
# $$d = \frac{100}{n} \sum_{i} (c_i - \hat c_i) \;\text{ points.}$$
#
# **Overall flow:** read what is declared about each file → check it → decode the same images at its size → predict → compare.
#
# *What this notebook is not:* a contest. Peers are trained by others, on data of their own; a peer that does better or worse says nothing about a quantization scheme, and is never recommended.

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, fetch the workbook first
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")
    sys.path.insert(0, "edgeq")

from typing import Any

import pandas as pd
from IPython.display import Markdown

from edgeq_lib.analysis.tables import rows, variants_table
from edgeq_lib.measure import peers
from edgeq_lib.plots.pareto import plot_pareto
from edgeq_lib.plots.variants import plot_drops
from edgeq_lib.progress import progress
from edgeq_lib.stage import open_study

# %% [markdown]
# ## Parameters
#
# `edgeq add-peer STUDY FILE --preprocessing … --class-offset …` checks a file and adds such an entry to the study's YAML. The default is a small file of our own, made by `tools/make_peer.py` with another network, so that this notebook shows something.

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to read and fill: runs/<study>
files: list[dict[str, Any]] = [{"file": "studies/peers/small_digits_int8.tflite", "name": "small_digits_int8", "preprocessing": "raw", "image_size": 12, "class_offset": 0, "source": "edgeq, tools/make_peer.py", "licence": "Apache-2.0"}]  # one entry per peer: these fields  # noqa: E501

# %% [markdown]
# ## 1 · What is declared
#
# A `.tflite` file says how large its input is and of which type, and no more. How pixels become that input, and which of the outputs are no class (Google's ImageNet files keep the first for "background"), is known to whoever trained it. `raw` stands for pixels from 0 to 255 put into an integer input as they are.

# %%
declared = [peers.validate_declaration(entry) for entry in files]
pd.DataFrame(declared, columns=list(peers.FIELDS)).set_index("name")

# %% [markdown]
# ## 2 · Check, and put on the shelf
#
# Files of unknown origin can bring the runtime down. Each is read as a flatbuffer first, then loaded and run in a process of its own; its input size and its number of classes must be those declared and those of the data.

# %%
stage = open_study(study, "70_peers", needs="02_baseline")
made = peers.save_peer(stage, files)

# %% [markdown]
# What the files turned out to hold, read from the files themselves:

# %%
pd.DataFrame([
    {"peer": peer.name, "scheme": peer.facts["scheme"], "engine": peer.facts["engine"],
     "kB": peer.path.stat().st_size / 1000,
     "pixels": " × ".join(map(str, peer.facts["image_size"]))} for peer in made])

# %% [markdown]
# ## 3 · Measure
#
# A peer sees the same validation and test images as all the others, decoded anew from their source at the peer's own size; that they are the same is proven pixel by pixel at the study's size. Its top-1 counts as ours does, ties included, and its difference to our float32 is paired, image by image.

# %%
for peer in progress(made, "peers"):
    peers.score_peer(stage, peer, stage.data)

# %%
variants_table([stage.float32, *made])

# %% [markdown]
# ## 4 · See it
#
# Right of the line a peer is less accurate than our float32 on the same images, left of it more; the bar is the 95 % interval of the paired difference.

# %%
plot_drops(rows([stage.float32, *made])) if made else Markdown("*No peers are declared.*")

# %% [markdown]
# Accuracy for bytes, where a peer may be of quite another size:

# %%
plot_pareto(rows([stage.float32, *made]), "bytes") if made else Markdown("*Nothing to draw.*")

# %% [markdown]
# ## What we know now

# %%
value = {each.name: each.read("quality")["validation"] for each in (stage.float32, *made)}
ahead = [peer.name for peer in made if value[peer.name]["drop_high"] < 0]
behind = [peer.name for peer in made if value[peer.name]["drop_low"] > 0]
Markdown(f"""More accurate than our float32 on {value['float32']['n']:,} validation images, beyond
the 95 % interval: {', '.join(ahead) or 'no peer'}; less accurate: {', '.join(behind) or 'no peer'}.
A peer that is not named cannot be told from float32.""" if made else
         "This study declares no peers; `edgeq add-peer` adds one.")

# %% [markdown]
# **Papers:** Bonett and Price, *Adjusted Wald confidence interval for a difference of binomial proportions based on paired data*, [doi 10.3102/1076998611411915](https://doi.org/10.3102/1076998611411915).

# %%
stage.finish({"peers": [peer.name for peer in made]})
