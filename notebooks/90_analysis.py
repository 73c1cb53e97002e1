# %% [markdown]
# # 90 · Which variant should be shipped, and how sure are we?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/edgeq/edgeq/blob/main/notebooks/90_analysis.ipynb)
#
# Everything before this notebook has put measured variants on the shelf. Here they are judged against the study's criteria. **The choice is made on validation; test is read once, now, to report it.** All comparisons are paired on the same images: with $b$ images that only float32 gets right and $c$ that only the variant does, McNemar's test asks whether $b$ of $b + c$ could be a fair coin, in its mid-p form,
#
# $$p = 2\,\Pr[X < \min(b, c)] + \Pr[X = \min(b, c)], \qquad X \sim \mathrm{Bin}(b + c, \tfrac12),$$
#
# adjusted over the table (Holm), with intervals beside each figure and a plain word on what these test images could not have seen. The same test, on validation, says whether one file is more accurate than another.
#
# **Overall flow:** collect the records → the table → drops and Pareto plots → criteria and decision flow → publish.

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, fetch the workbook first
    get_ipython().system("git clone -q https://github.com/edgeq/edgeq && pip install -q -e edgeq")
    sys.path.insert(0, "edgeq")

import os
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from IPython.display import Markdown
from pydantic import PositiveFloat

# %%
from edgeq_lib.analysis import flow
from edgeq_lib.analysis.criteria import status
from edgeq_lib.pipeline.config import TargetName
from edgeq_lib.plots.decision import plot_decision_flow
from edgeq_lib.plots.pareto import plot_pareto
from edgeq_lib.plots.variants import plot_drops
from edgeq_lib.report import deploy, text
from edgeq_lib.report.export import extra_figures, write_report
from edgeq_lib.report.numbers import own_machine
from edgeq_lib.report.results import collect
from edgeq_lib.stage import open_study

# %% [markdown]
# ## Parameters
#
# The acceptance criteria, and what the decision flow must know about your situation. Changing these runs this notebook again and nothing else.

# %% tags=["parameters"]
study: str = "quickstart"  # whose shelf to judge: runs/<study>
max_drop: float | None = 2.0  # points of top-1 that may be lost against float32
min_agreement: PositiveFloat | None = 96.0  # % of images on which float32's class must be named
min_ratio: PositiveFloat | None = 5.0  # times smaller than float32
max_latency_ratio: PositiveFloat | None = None  # latency as a ratio to float32, one thread
target: TargetName = "cortex_m_1m"  # where the file is to run; `any`: wherever
images: Literal["labelled", "unlabelled", "none"] = "labelled"  # images of the task at hand
retraining: bool = True  # the network can be trained again
objective: Literal["simplest", "smallest", "fastest", "accurate"] = "simplest"  # technique, or file
strict: bool = False  # a criterion is met by its whole interval, not by the point estimate
question: str = ""  # what this study asks beyond which file to ship; opens the report
reference: list[dict[str, Any]] = []  # what others published: {what, value, source}
notes: list[str] = []  # what else the study does not know, or was informed by: sentences

# %% [markdown]
# ## 1 · Collect the records

# %%
stage = open_study(study, "90_analysis", needs="80_edge_benchmark", target=target)
bounds = {"max_drop": max_drop, "min_agreement": min_agreement, "min_ratio": min_ratio,
          "max_latency_ratio": max_latency_ratio}
criteria = [{"name": name, "bound": bound} for name, bound in bounds.items() if bound is not None]
answers = {"target": Path(target).stem, "images": images, "retraining": retraining}

# %%
command = os.environ.get("EDGEQ_COMMAND", f"edgeq run {study}")
results = collect(stage, command, criteria, answers, question, reference, notes=notes,
                  labels=stage.data.validation.labels, objective=objective, strict=strict)
rows, choice = results["variants"], results["recommendation"]

# %% [markdown]
# ## 2 · The table
#
# On **test**. `p` is adjusted over the table; "agrees" is the share of images on which the variant names the class that float32 names, right or wrong. Ties for the top class count as the expected value of drawing lots among the tied.

# %%
columns = {"name": "variant", "value": "top-1 %", "low": "from", "high": "to", "drop": "drop",
           "drop_low": "drop from", "drop_high": "drop to", "p_value": "p",
           "agreement": "agrees %", "ties": "ties", "ratio": "× smaller",
           "latency_ratio": "× latency", "integer_only": "integer only"}
table = pd.DataFrame(rows)[list(columns)].rename(columns=columns)
table.set_index("variant").round(3)

# %% [markdown]
# What that means:

# %%
Markdown("\n".join(f"- {sentence}" for sentence in text.claims(results)))

# %% [markdown]
# Differences between variants should exceed the spread between seeds, where any technique was repeated with others:

# %%
seeds = [{"variant": entry["name"], "seed": run["seed"], "drop": run["drop"],
          "agrees %": run["agreement"]}
         for entry in results["seeds"] for run in entry["runs"]]
pd.DataFrame(seeds).round(3) if seeds else Markdown("*Nothing was repeated.*")

# %% [markdown]
# And what we do not know:

# %%
Markdown("\n".join(f"- {sentence}" for sentence in text.limits(results)))

# %% [markdown]
# Techniques that were not tried, or not in all their parts, and why; the study went on without:

# %%
left_out = text.left_out_table(results)
pd.DataFrame(left_out, columns=["technique", "notebook", "reason"]) if left_out else Markdown(
    "*None.*")

# %% [markdown]
# ## 3 · Accuracy
#
# What each variant loses against float32, with its 95 % interval. Both saw the same images, so the paired drop says more than two separate intervals would.

# %%
figures = {"drop": plot_drops(rows, max_drop)}
figures["drop"]

# %% [markdown]
# ## 4 · What is bought for it
#
# Up and to the left is better. A hollow variant is dominated: another one is at least as accurate and smaller (faster). The ring is around the recommended file, which validation chose (section 6).

# %%
figures["pareto_bytes"] = plot_pareto(rows, "bytes", choice["variant"])
figures["pareto_bytes"]

# %%
figures["pareto_latency"] = plot_pareto(rows, "latency_ratio", choice["variant"],
                                        own_machine(results))
figures["pareto_latency"]

# %% [markdown]
# ## 5 · The criteria
#
# "Met" without reserve is said only when the whole interval lies within the bound; "met within noise" when the point estimate does.

# %%
pd.DataFrame({row["name"]: status(row, criteria) for row in rows}).T

# %% [markdown]
# ## 6 · The decision
#
# The flow asks four things of you: which target must run it, which images there are, whether the network can be trained again, and what is wanted: the smallest, the fastest or the most accurate of the files that meet every criterion, or the simplest technique that has one. The files answer the rest, **on validation**. A simpler technique suffices unless the paired test proves a file of a costlier one to be more accurate; of its files that no other is proven to beat, the smallest is taken. Where agreement is a criterion, "more accurate" is agreeing with float32 on more images. The path taken is highlighted; beside each end stand the best files that this study has for it.

# %%
figures["decision"] = plot_decision_flow(flow.FLOW, choice["path"], text.branch_notes(results))
figures["decision"]

# %%
reasons = "\n".join(f"- {reason}" for reason in choice["reasons"])
Markdown(f"**{text.recommendation_text(results)}**\n\n{reasons}")

# %% [markdown]
# What the other objectives ship, with their figures on test:

# %%
pd.DataFrame(text.objectives_table(results), columns=text.OBJECTIVES_HEAD).set_index("Objective")

# %% [markdown]
# And if you had no images, could not train, or had another target? The same rule on the same files; the first row is the recommendation, `Notebook` says where a file is made and its tables stand.

# %%
situations = pd.DataFrame(text.alternatives_table(results), columns=text.ALTERNATIVES_HEAD)
situations.set_index("Situation")

# %% [markdown]
# ## 7 · Publish
#
# `results.json` and `.csv` for programs, `report.md`, `.html` (one self-contained file, to explore) and `.pdf` for people: a short paper, with the figures that other notebooks kept for it in its appendix.

# %%
names = write_report(results, figures, stage.folder / "report", extra_figures(stage))
print(", ".join(names))

# %% [markdown]
# To take away: the recommended file with its labels, its preprocessing and a `predict.py` that needs numpy, Pillow and ai-edge-litert alone.

# %%
print(", ".join(deploy.write(stage, results, stage.data.test.images[0])) or "nothing to ship yet")

# %% [markdown]
# ## What we know now

# %%
Markdown(f"""{text.recommendation_text(results)} Chosen on
{results['data']['n_validation']:,} validation images, reported on
{results['data']['n_test']:,} test images. Made by `{results['command']}`.""")

# %% [markdown]
# **Papers:** McNemar, [doi 10.1007/BF02295996](https://doi.org/10.1007/BF02295996). Fagerland, Lydersen and Laake, *The McNemar test for binary matched-pairs data: mid-p and asymptotic are better than exact conditional*, [doi 10.1186/1471-2288-13-91](https://doi.org/10.1186/1471-2288-13-91). Holm, *A simple sequentially rejective multiple test procedure* (1979).

# %%
stage.note_write(stage.folder / "report" / "results.json")
stage.finish({"recommendation": choice["variant"], "met": choice["met"]})
