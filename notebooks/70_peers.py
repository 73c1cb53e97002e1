# %% [markdown]
# # 70 · How do files that others published do on these images?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/70_peers.ipynb)
#
# A table of one's own variants says what compression cost *this* network. Whether the result is any good is said by what
# others already offer. Their accuracies, as published, come from other images, other crops and other code; so their files
# are measured here, on the very images, by the very code that measured ours.
#
# **Overall flow:** read what is declared about each file → check it → decode the same images at its size → predict → compare.
#
# *What this notebook is not:* a contest. Peers are trained by others, on data of their own; a peer that does better or worse
# says nothing about a quantization scheme, and is never recommended.

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, fetch the workbook first
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")
    sys.path.insert(0, "edgeq")

from typing import Any

import pandas as pd
from IPython.display import Markdown

from edgeq_lib.analysis.tables import rows, variants_table
from edgeq_lib.data import dataset
from edgeq_lib.measure import peers
from edgeq_lib.stage import open_study
from edgeq_lib.plots.pareto import plot_pareto
from edgeq_lib.plots.variants import plot_drops
from edgeq_lib.progress import progress

# %% [markdown]
# ## Parameters
#
# `edgeq add-peer STUDY FILE --preprocessing … --class-offset …` checks a file and adds such an entry to the study's YAML.

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to read and fill: runs/<study>
files: list[dict[str, Any]] = []  # one each: {file, name, preprocessing, image_size, class_offset, source, licence}

# %% [markdown]
# ## 1 · What is declared
#
# A `.tflite` file says how large its input is and of which type, and no more. How pixels become that input, and which of the
# outputs are no class (Google's ImageNet files keep the first for "background"), is known to whoever trained it. `raw`
# stands for pixels from 0 to 255 put into an integer input as they are.

# %%
declared = pd.DataFrame([peers.validate_declaration(given) for given in files], columns=list(peers.FIELDS)).set_index("name")
declared if files else Markdown("*This study declares no peers.*")

# %% [markdown]
# ## 2 · Check and shelve
#
# Files of unknown origin can bring the runtime down. Each is read as a flatbuffer first, then loaded and run in a process of
# its own; its input size and its number of classes must be those declared and those of the data.

# %%
stage = open_study(study, "70_peers", needs="02_baseline")
float32 = stage.float32
made = peers.save_peer(stage, files)

# %% [markdown]
# What the files turned out to hold, read from the files themselves:

# %%
pd.DataFrame([{"peer": peer.name, "scheme": peer.facts["scheme"], "engine": peer.facts["engine"], "kB":
               peer.path.stat().st_size / 1000, "pixels": " × ".join(map(str, peer.facts["image_size"]))}
              for peer in made]) if made else Markdown("*None.*")

# %% [markdown]
# ## 3 · Measure
#
# A peer sees the same validation and test images as all the others, decoded anew from their source at the peer's own size;
# that they are the same is proven pixel by pixel at the study's size. Its top-1 counts as ours does, ties included, and its
# difference to our float32 is paired, image by image.

# %%
data = stage.data if made else None
for peer in progress(made, "peers"):
    peers.score_peer(stage, peer, data)

# %%
variants_table([float32, *made]) if made else Markdown("*Nothing was measured.*")

# %% [markdown]
# ## 4 · See it
#
# Right of the line a peer is less accurate than our float32 on the same images, left of it more; the bar is the 95 % interval
# of the paired difference.

# %%
plot_drops(rows([float32, *made])) if made else Markdown("*Nothing to draw.*")

# %% [markdown]
# Accuracy for bytes, where a peer may be of quite another size:

# %%
plot_pareto(rows([float32, *made]), "bytes") if made else Markdown("*Nothing to draw.*")

# %% [markdown]
# ## What we know now

# %%
value = {each.name: each.read("quality")["validation"] for each in (float32, *made)}
ahead = [peer.name for peer in made if value[peer.name]["drop_high"] < 0]
behind = [peer.name for peer in made if value[peer.name]["drop_low"] > 0]
Markdown(f"""Of {len(made)} peers, more accurate than our float32 on {value['float32']['n']:,} validation images, beyond the 95 %
interval: {', '.join(ahead) or 'none'}; less accurate: {', '.join(behind) or 'none'}. The others cannot be told from it."""
         if made else "This study has no peers, so nothing is known about them; `edgeq add-peer` declares one.")

# %%
stage.finish({"peers": [peer.name for peer in made]})
