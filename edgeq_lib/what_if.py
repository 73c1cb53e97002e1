"""The ends of the decision flow that a study did not take: the best file of each branch, and what other answers would ship.

Computed from the same rows and by the same rule as the recommendation, and said in words for notebook and report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edgeq_lib import decision, flow
from edgeq_lib.criteria import Row, status
from edgeq_lib.wording import SHORT, bits, drop, number, standing, technique

CITED = ("technique", "stage", "trained", "weight_bits", "activation_bits", "drop", "drop_low", "drop_high", "n",
         "agreement", "ratio", "latency_ratio")
# What belongs to a leaf of the flow, and what it asks for.
LEAVES: dict[str, tuple[Callable[[Row], bool], str]] = {
    "data_free": (lambda row: not flow.needs_images(row), "asks for nothing but the network"),
    "ptq": (lambda row: flow.step(row) == "ptq", "asks for images without labels, or for none where only weights are rounded"),
    "repair": (lambda row: flow.step(row) == "repair", "asks for some minutes, and mostly for images without labels"),
    "training": (lambda row: flow.step(row) == "training", "asks for training images and a network that can be trained again")}
HEAD = ("Situation", "Ship", "Technique", "Bits w / a", "Drop, points", "Smaller ×", "Latency ×", "Criteria", "Notebook")


def _cited(row: Row | None, criteria: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is cited of a file: its name and figures, and how it stands to the criteria; nulls where there is none."""
    if row is None:
        return {"variant": None, **dict.fromkeys(CITED), "status": {}}
    return {"variant": row["name"], **{field: row[field] for field in CITED}, "status": status(row, criteria)}


def _fewer(kernels: str) -> str:
    """The target that files of fewer than 8 bits are looked for on: the study's own, unless it runs none."""
    return "int4" if kernels == "int8" else kernels


def branches(rows: Sequence[Row], criteria: Sequence[Mapping[str, Any]],
             answers: Mapping[str, Any] | None = None) -> list[dict]:
    """The best file at each leaf of the flow, whether it was taken or not, with 8 bits a weight or more and with fewer.

    `rows` are those of `decision.recommend`. The target is the study's; where it runs no weight below 8 bits, such files
    are looked for on one that runs 4 bits too.
    """
    kernels, found = decision.complete(answers)["kernels"], []
    ours = [row for row in rows if row["technique"] not in ("baseline", "peer") and row["kind"] != "peer"]
    for leaf, (belongs, _) in LEAVES.items():
        for eight, target in ((True, kernels), (False, _fewer(kernels))):
            pool = [row for row in ours if belongs(row) and flow.eight_bits(row) == eight and flow.runs(row, target)]
            best = decision.best(pool, criteria) if pool else None
            found.append({"leaf": leaf, "bits": "8 or more" if eight else "fewer", "kernels": target,
                          **_cited(best, criteria)})
    return found


def _situations(given: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Eight situations at most: what is other than answered, in words and as answers, and whether 8 bits are too many."""
    yield "as answered", {}, False
    for answer, text in flow.ANSWERS["images"].items():
        if answer != given["images"]:
            yield text, {"images": answer}, False
    if given["images"] != "none":
        again = not given["retraining"]
        yield flow.ANSWERS["retraining"][again], {"retraining": again}, False
    for kernels in [each for each in ("any", "int8", "int4") if each != given["kernels"]][:2]:
        yield flow.ANSWERS["kernels"][kernels], {"kernels": kernels}, False
    target = _fewer(given["kernels"])
    small = "fewer than 8 bits wanted" + ("" if target == given["kernels"] else f", on {flow.ANSWERS['kernels'][target]}")
    yield small, {"kernels": target}, True
    if given["images"] != "none":
        yield f"{flow.ANSWERS['images']['none']}, and {small}", {"kernels": target, "images": "none"}, True


def what_if(rows: Sequence[Row], criteria: Sequence[Mapping[str, Any]],
            answers: Mapping[str, Any] | None = None) -> list[dict]:
    """What the flow would ship under other answers than the study's; situations that lead to the same file share an entry.

    The first entry is the recommendation. Each holds `if` (the situations) and what is cited of the file.
    """
    given, found = decision.complete(answers), {}
    by_name = {row["name"]: row for row in rows}
    for text, other, fewer in _situations(given):
        left = [row for row in rows if not flow.eight_bits(row)] if fewer else rows
        name = decision.recommend(left, criteria, given | other)["variant"]
        entry = found.setdefault(name, {"if": [], **_cited(by_name.get(name), criteria)})
        entry["if"].append(text)
    return list(found.values())


# --- in words ---
def said(answers: Mapping[str, Any]) -> str:
    """The answers as a phrase."""
    given = decision.complete(answers)
    return ", ".join(flow.ANSWERS[name][given[name]] for name in ("images", "retraining", "kernels")
                     if name != "retraining" or given["images"] != "none")


def table(results: Mapping[str, Any]) -> list[list[str]]:
    """The rows of `what_if` as text, under HEAD."""
    return [[_joined(entry["if"]), _shipped(entry), technique(entry["technique"]), bits(entry), drop(entry),
             number(entry["ratio"]), number(entry["latency_ratio"]), standing(entry["status"], SHORT), entry["stage"]]
            if entry["variant"] else [_joined(entry["if"]), "nothing yet", *["–"] * (len(HEAD) - 2)]
            for entry in results["what_if"]]


def _joined(situations: Sequence[str]) -> str:
    text = "; or ".join(situations)
    return text[0].upper() + text[1:]


def _shipped(entry: Mapping[str, Any]) -> str:
    short = {"missed", "not measured"} & set(entry["status"].values())
    return f"nothing; nearest `{entry['variant']}`" if short else f"`{entry['variant']}`"


def caption(results: Mapping[str, Any]) -> str:
    """What the table shows, for whom and decided on what."""
    return (f"What the same flow would ship in other situations, by the same criteria and on the same {_n(results):,} "
            f"validation images, whose drops these are. As answered: {said(results['answers'])}. Any other situation changes "
            "what it names and nothing else; nothing is shipped where no file meets every criterion. Notebook: where the file "
            "is made and its tables stand.")


def _n(results: Mapping[str, Any]) -> int:
    return next(iter(results["validation"].values()))["n"] or 0


def lines(results: Mapping[str, Any]) -> list[str]:
    """One sentence a branch of the flow, with the best files that it holds in this study."""
    found = []
    for leaf, (_, asks) in LEAVES.items():
        cited = [f"{'Below 8 bits' if entry['bits'] == 'fewer' else 'with 8 bits a weight or more'} {_cite(entry)}"
                 for entry in results["branches"] if entry["leaf"] == leaf]
        found.append(f"**{' '.join(flow.FLOW[leaf]['text'].split())}** {asks}: {'. '.join(cited)}.")
    return found


def _cite(entry: Mapping[str, Any]) -> str:
    if entry["variant"] is None:
        return "the shelf holds no file"
    trained = {"labels": ", trained on labels", "outputs": ", trained on float32's outputs"}.get(entry["trained"], "")
    return (f"`{entry['variant']}` (of `{entry['stage']}`{trained}): drop {drop(entry)}, agrees on "
            f"{number(entry['agreement'], 1)} %, {number(entry['ratio'])} × smaller, {number(entry['latency_ratio'])} × "
            f"latency; criteria {standing(entry['status'], SHORT)}")


def heading(results: Mapping[str, Any]) -> str:
    """What the lines are about: which target, and on which images."""
    targets = {entry["bits"]: entry["kernels"] for entry in results["branches"]}
    other = "" if targets["fewer"] == targets["8 or more"] else (
        f", below 8 bits for {flow.ANSWERS['kernels'][targets['fewer']]}")
    return (f"The best file of each branch, taken or not, for {flow.ANSWERS['kernels'][targets['8 or more']]}{other}; drops "
            f"in points on {_n(results):,} validation images.")


def notes(results: Mapping[str, Any]) -> dict[str, str]:
    """Leaf → a few short lines on its best files, for the figure of the flow."""
    found: dict[str, list[str]] = {}
    for entry in results["branches"]:
        if entry["variant"]:
            found.setdefault(entry["leaf"], []).extend((
                f"{entry['bits']}: {entry['variant']}",
                f"   drop {number(entry['drop'])}, {number(entry['ratio'])} ×, {standing(entry['status'], SHORT)}"))
    return {leaf: "\n".join(texts) for leaf, texts in found.items()}
