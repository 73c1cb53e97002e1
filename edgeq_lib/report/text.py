"""What a study's results say, in words and in one table for the terminal: computed from results.json alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgeq_lib.analysis import decision, flow
from edgeq_lib.analysis.alternatives import LEAVES
from edgeq_lib.analysis.criteria import status

ALTERNATIVES_HEAD = (
    "Situation",
    "Ship",
    "Technique",
    "Bits w / a",
    "Drop, points",
    "Smaller ×",
    "Latency ×",
    "Criteria",
    "Notebook",
)


# --- in words ---
def situation(answers: Mapping[str, Any]) -> str:
    """The answers as a phrase."""
    given = decision.complete_answers(answers)
    return ", ".join(
        flow.ANSWERS[name][given[name]]
        for name in ("images", "retraining", "kernels")
        if name != "retraining" or given["images"] != "none"
    )


def alternatives_table(results: Mapping[str, Any]) -> list[list[str]]:
    """The rows of `what_if` as text, under HEAD."""
    return [
        [
            _joined(entry["if"]),
            _shipped(entry),
            technique(entry["technique"]),
            bits(entry),
            drop(entry),
            number(entry["ratio"]),
            number(entry["latency_ratio"]),
            status_text(entry["status"], SHORT),
            entry["stage"],
        ]
        if entry["variant"]
        else [_joined(entry["if"]), "nothing yet", *["–"] * (len(ALTERNATIVES_HEAD) - 2)]
        for entry in results["what_if"]
    ]


def _joined(situations: Sequence[str]) -> str:
    text = "; or ".join(situations)
    return text[0].upper() + text[1:]


def _shipped(entry: Mapping[str, Any]) -> str:
    short = {"missed", "not measured"} & set(entry["status"].values())
    return f"nothing; nearest `{entry['variant']}`" if short else f"`{entry['variant']}`"


def alternatives_caption(results: Mapping[str, Any]) -> str:
    """What the table shows, for whom and decided on what."""
    return (
        f"What the same flow would ship in other situations, by the same criteria and on the same {_n_validation(results):,} "
        f"validation images, whose drops these are. As answered: {situation(results['answers'])}. Any other situation changes "
        "what it names and nothing else; nothing is shipped where no file meets every criterion. Notebook: where the file "
        "is made and its tables stand."
    )


def _n_validation(results: Mapping[str, Any]) -> int:
    return next(iter(results["validation"].values()))["n"] or 0


def branch_lines(results: Mapping[str, Any]) -> list[str]:
    """One sentence a branch of the flow, with the best files that it holds in this study."""
    found = []
    for leaf, (_, asks) in LEAVES.items():
        cited = [
            f"{'Below 8 bits' if entry['bits'] == 'fewer' else 'with 8 bits a weight or more'} {_cite(entry)}"
            for entry in results["branches"]
            if entry["leaf"] == leaf
        ]
        found.append(f"**{' '.join(flow.FLOW[leaf]['text'].split())}** {asks}: {'. '.join(cited)}.")
    return found


def _cite(entry: Mapping[str, Any]) -> str:
    if entry["variant"] is None:
        return "the shelf holds no file"
    trained = {"labels": ", trained on labels", "outputs": ", trained on float32's outputs"}.get(
        entry["trained"], ""
    )
    return (
        f"`{entry['variant']}` (of `{entry['stage']}`{trained}): drop {drop(entry)}, agrees on "
        f"{number(entry['agreement'], 1)} %, {number(entry['ratio'])} × smaller, {number(entry['latency_ratio'])} × "
        f"latency; criteria {status_text(entry['status'], SHORT)}"
    )


def branch_heading(results: Mapping[str, Any]) -> str:
    """What the lines are about: which target, and on which images."""
    targets = {entry["bits"]: entry["kernels"] for entry in results["branches"]}
    other = (
        ""
        if targets["fewer"] == targets["8 or more"]
        else (f", below 8 bits for {flow.ANSWERS['kernels'][targets['fewer']]}")
    )
    return (
        f"The best file of each branch, taken or not, for {flow.ANSWERS['kernels'][targets['8 or more']]}{other}; drops "
        f"in points on {_n_validation(results):,} validation images."
    )


def branch_notes(results: Mapping[str, Any]) -> dict[str, str]:
    """Leaf → a few short lines on its best files, for the figure of the flow."""
    found: dict[str, list[str]] = {}
    for entry in results["branches"]:
        if entry["variant"]:
            found.setdefault(entry["leaf"], []).extend(
                (
                    f"{flow.BITS[entry['bits']]}: {entry['variant']}",
                    f"   drop {number(entry['drop'])}, {number(entry['ratio'])} ×, {status_text(entry['status'], SHORT)}",
                )
            )
    return {leaf: "\n".join(texts) for leaf, texts in found.items()}


Row = Mapping[str, Any]
SIGNIFICANT = 0.05
# Criteria, where room is scarce.
SHORT = {
    "max_drop": "drop",
    "min_agreement": "agreement",
    "min_ratio": "size",
    "max_latency_ratio": "speed",
}


# --- numbers as text ---
def number(value: float | None, digits: int = 2) -> str:
    """A figure with its digits and a true minus sign; – for None."""
    return "–" if value is None else f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def with_interval(row: Row, value: str, low: str, high: str, digits: int = 2) -> str:
    """`value [low, high]` of three fields of a row."""
    if row[value] is None:
        return "–"
    ends = "" if row[low] is None else f" [{number(row[low], digits)}, {number(row[high], digits)}]"
    return number(row[value], digits) + ends


def drop(row: Row) -> str:
    """The drop of a row with its interval."""
    return with_interval(row, "drop", "drop_low", "drop_high")


def p_value(value: float | None) -> str:
    """A p-value with three digits."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def kilobytes(count: int | None) -> str:
    """Bytes as thousands of bytes."""
    return "–" if count is None else f"{count / 1000:,.{1 if count < 1e6 else 0}f}"


def bits(row: Row) -> str:
    """Mean bits a weight and an activation, `8 / 8`."""
    both = row["weight_bits"], row["activation_bits"]
    return " / ".join("–" if each is None else f"{each:.3g}" for each in both)


def range_text(values: Iterable[float], digits: int = 2) -> str:
    """`low to high`, or one figure where both read the same."""
    values = list(values)
    ends = list(dict.fromkeys((number(min(values), digits), number(max(values), digits))))
    return " to ".join(ends)


def listed(names: Iterable[str], limit: int = 99) -> str:
    """`a`, `b` and `c`, as code."""
    coded = [f"`{name}`" for name in names]
    coded = (
        coded if len(coded) <= limit else [*coded[: limit - 1], f"{len(coded) - limit + 1} others"]
    )
    return " and ".join([", ".join(coded[:-1]), coded[-1]] if len(coded) > 1 else coded)


def verdict(
    row: Row, criteria: Sequence[Mapping[str, Any]], names_of: Mapping[str, str] | None = None
) -> str:
    """How a row stands to all criteria, the worst first: `missed: max_drop`, …, `met`."""
    return status_text(status(row, criteria), names_of)


def status_text(found: Mapping[str, str], names_of: Mapping[str, str] | None = None) -> str:
    """The same of the marks that a row has got, by criterion."""
    marks = {(names_of or {}).get(name, name): mark for name, mark in found.items()}
    for mark in ("missed", "not measured", "met within noise"):
        names = [name for name, own in marks.items() if own == mark]
        if names:
            return f"{mark}: {', '.join(names)}"
    return "met" if marks else "–"


def find_row(results: Mapping[str, Any], name: str) -> Row:
    """The row of a variant."""
    return next(row for row in results["variants"] if row["name"] == name)


def data_form(data: Mapping[str, Any]) -> str:
    """What the images are, with their form: `CIFAR-10 (JPEG)`, `Digits (8 × 8 grey)`."""
    return data["name"] if "(" in data["name"] else f"{data['name']} ({data['form']})"


def technique(name: str) -> str:
    """A technique's name in words."""
    return flow.TECHNIQUES.get(name, name.replace("_", " "))


# --- sentences ---
def recommendation_text(results: Mapping[str, Any]) -> str:
    """The recommendation in one sentence, with what the variant is on the test images."""
    choice = results["recommendation"]
    if choice["variant"] is None:
        return "Ship nothing yet: no variant on the shelf can run on this target."
    row = find_row(results, choice["variant"])
    if row["technique"] == "baseline":
        return f"Keep {row['name']}: no compressed variant meets the criteria" + (
            "." if choice["met"] else f", and it misses {' and '.join(choice['misses'])}."
        )
    gains = [
        text.format(number(row[field]))
        for field, text in (
            ("ratio", "{} × smaller than float32"),
            ("latency_ratio", "{} × its latency"),
        )
        if row[field] is not None
    ]
    lost = (
        "not evaluated"
        if row["drop"] is None
        else (
            f"{number(abs(row['drop']))} points {'less' if row['drop'] >= 0 else 'more'} accurate on {row['n']:,} test "
            f"images (drop, 95 %: {number(row['drop_low'])} to {number(row['drop_high'])})"
        )
    )
    noise = [name for name, mark in choice["status"].items() if mark == "met within noise"]
    end = (
        ""
        if not choice["met"] or not choice["status"]
        else "; on validation it meets every criterion"
        + (f" ({' and '.join(noise)} within noise)" if noise else " without reserve")
    )
    kind = technique(row["technique"]) + (
        ""
        if row["weight_bits"] is None
        else f", {row['weight_bits']:.3g} bits a weight, "
        f"{row['activation_bits'] or 0:.3g} an activation"
    )
    start = (
        f"Ship {row['name']} ({kind}): "
        if choice["met"]
        else (
            f"No variant meets every criterion; {row['name']} ({kind}) comes nearest and misses "
            f"{' and '.join(choice['misses'])} on validation: "
        )
    )
    return start + ", ".join([*gains, lost]) + end + "."


def _kind(row: Row) -> str:
    """How a compared row stands to float32: less, more, alone (before the adjustment only) or alike."""
    if row["p_value"] is not None and row["p_value"] < SIGNIFICANT:
        return "less" if row["drop"] > 0 else "more"
    return "alone" if row["drop_low"] > 0 or row["drop_high"] < 0 else "alike"


def _compared(results: Mapping[str, Any]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {"less": [], "more": [], "alone": [], "alike": []}
    for row in results["variants"]:
        if row["drop"] is not None:
            found[_kind(row)].append(row)
    return found


def _chosen_claim(row: Row) -> str:
    said = {
        "less": f"less accurate than float32 beyond chance (p {p_value(row['p_value'])})",
        "more": f"more accurate than float32 beyond chance (p {p_value(row['p_value'])})",
        "alone": "different from float32 when looked at alone, but not beyond chance once all variants are counted",
        "alike": f"not distinguishable from float32 on {row['n']:,} test images; a drop above "
        f"{number(row['detectable_drop'])} points would have been seen",
    }[_kind(row)]
    return f"The recommended `{row['name']}` is {said} (drop {drop(row)} points)."


def claims(results: Mapping[str, Any]) -> list[str]:
    """What follows from the measurements, a plain sentence a claim, the important ones first and like ones together."""
    choice, groups = results["recommendation"]["variant"], _compared(results)
    chosen = find_row(results, choice) if choice else None
    said = [_chosen_claim(chosen)] if chosen and chosen["drop"] is not None else []
    rest = {kind: [row for row in rows if row["name"] != choice] for kind, rows in groups.items()}
    n = results["data"]["n_test"]
    if rest["alike"]:
        names, many = listed(row["name"] for row in rest["alike"]), len(rest["alike"]) > 1
        said.append(
            f"{names} {'are' if many else 'is'}{' likewise' if choice and chosen in groups['alike'] else ''} not "
            f"distinguishable from float32 on {n:,} images (drop{'s' if many else ''} "
            f"{range_text(row['drop'] for row in rest['alike'])}); a drop above "
            f"{number(max(row['detectable_drop'] for row in rest['alike']))} points would have been seen in "
            f"{'each' if many else 'it'}."
        )
    for kind, word in (("less", "Less"), ("more", "More")):
        if rest[kind]:
            each = "; ".join(
                f"`{row['name']}` {drop(row)}"
                for row in sorted(rest[kind], key=lambda row: row["drop"])
            )
            largest = p_value(max(row["p_value"] for row in rest[kind]))
            said.append(
                f"{word} accurate than float32 beyond chance (p {largest if '<' in largest else f'≤ {largest}'} after "
                f"Holm), by their drops: {each}."
            )
    if rest["alone"]:
        said.append(
            "Different from float32 when looked at alone, but not beyond chance once all variants of the table are "
            "counted: " + "; ".join(f"`{row['name']}` {drop(row)}" for row in rest["alone"]) + "."
        )
    return [
        *said,
        *_size_and_speed([row for row in groups["alike"] if row["kind"] != "peer"], chosen),
        *_seed_claims(results.get("seeds") or []),
        *_board_claims(results, choice),
    ]


def _size_and_speed(alike: Sequence[Row], chosen: Row | None) -> list[str]:
    said = []
    small = min((row for row in alike if row["ratio"]), key=lambda row: -row["ratio"], default=None)
    fast = min(
        (row for row in alike if row["latency_ratio"]),
        key=lambda row: row["latency_ratio"],
        default=None,
    )
    if small and fast:
        said.append(
            f"Of what cannot be told from float32, `{small['name']}` is the smallest ({number(small['ratio'])} × "
            f"smaller) and `{fast['name']}` the fastest "
            f"({with_interval(fast, 'latency_ratio', 'latency_ratio_low', 'latency_ratio_high')} × its latency)."
        )
    if chosen and chosen.get("checkpoint_ratio"):
        said.append(
            f"`{chosen['name']}` is {number(chosen['ratio'])} × smaller than the float32 file of the same network; "
            f"against a training checkpoint with optimizer state, as is often quoted, it would read "
            f"{number(chosen['checkpoint_ratio'])} ×."
        )
    return said


def _seed_claims(seeds: Sequence[Mapping[str, Any]]) -> list[str]:
    said = [
        f"`{seed['name']}` made with {len(seed['runs'])} seeds loses {number(seed['drop_mean'])} ± "
        f"{number(seed['drop_sd'])} points (mean and standard deviation over seeds; "
        f"{number(seed['drop_min'])} to {number(seed['drop_max'])})."
        for seed in seeds
    ]
    if seeds:
        spread = max(seed["drop_max"] - seed["drop_min"] for seed in seeds)
        said.append(
            f"Differences smaller than the spread between seeds, {number(spread)} points here, are no evidence for "
            "one variant over another."
        )
    for place, one in enumerate(seeds):
        for other in seeds[place + 1 :]:
            gap = abs(one["drop_mean"] - other["drop_mean"])
            apart = one["drop_min"] > other["drop_max"] or other["drop_min"] > one["drop_max"]
            said.append(
                f"Between `{one['name']}` and `{other['name']}` the means differ by {number(gap)} points, and the "
                f"seeds of the two {'do not overlap' if apart else 'overlap'}."
            )
    return said


def _board_claims(results: Mapping[str, Any], choice: str | None) -> list[str]:
    found = []
    for board in results.get("boards") or []:
        ratio = (board["variants"].get(choice) or {}).get("latency_ratio")
        if ratio is not None:
            found.append(f"{number(ratio)} on {board_name(board)}")
    return (
        [f"Latency of `{choice}` against float32 on other machines: {'; '.join(found)}."]
        if found
        else []
    )


def board_name(board: Mapping[str, Any]) -> str:
    """What a machine is called in tables: its name, else its processor."""
    machine = board["machine"]
    return (
        str(machine.get("name") or machine.get("cpu") or "a machine")
        if isinstance(machine, Mapping)
        else str(machine)
    )


def limits(results: Mapping[str, Any]) -> list[str]:
    """What the study does not say: which orders are no evidence, ties, what was measured only once or only here."""
    rows, said, n = results["variants"], [], results["data"]["n_test"]
    alike = _compared(results)["alike"]
    if alike:
        said.append(
            f"Float32 and the {'one file' if len(alike) == 1 else f'{len(alike)} files'} not distinguishable from it "
            f"cannot be ranked by accuracy on {n:,} test images: their order is no evidence."
        )
    same = [row["name"] for row in rows if row["agreement"] == 100]
    if same:
        said.append(f"On every test image {listed([*same, 'float32'])} name the same class.")
    tied = {row["name"]: row["ties"] for row in rows if row["ties"]}
    said.append(
        "Images whose top score is shared by several classes: "
        + (
            ", ".join(f"{count} of {n:,} for `{name}`" for name, count in tied.items())
            if tied
            else "none"
        )
        + "."
    )
    choice = results["recommendation"]["variant"]
    if choice:
        said.append(
            f"On the test images, which had no part in the choice, `{choice}` stands as: criteria "
            f"{verdict(find_row(results, choice), results['criteria'])}."
            if results["criteria"]
            else "The study sets no acceptance criteria."
        )
    if not results.get("seeds"):
        said.append(
            "Each variant was made once: what another calibration draw or training seed would change is not "
            "known."
        )
    if not results.get("boards"):
        said.append(
            "Latency and memory were measured on one machine; another one may order the variants otherwise."
        )
    if any(row["kind"] == "peer" for row in rows):
        said.append(
            "The peers were trained by others, on data and by recipes of their own: what separates them from our "
            "float32 network is not quantization alone."
        )
    return said


def terminal_table(results: Mapping[str, Any]) -> str:
    """The variants as a table for the terminal, at most 120 columns wide; → marks the recommended one."""
    head = (
        "  variant",
        "bits w/a",
        "top-1 %",
        "drop, points",
        "KB",
        "ratio",
        "latency",
        "int",
        "criteria",
    )
    lines = [
        [
            ("→ " if row["name"] == results["recommendation"]["variant"] else "  ") + row["name"],
            bits(row).replace(" ", ""),
            number(row["value"]),
            with_interval(row, "drop", "drop_low", "drop_high", 1),
            kilobytes(row["bytes"]),
            number(row["ratio"], 1),
            number(row["latency_ratio"]),
            "–" if row["integer_only"] is None else "yes" if row["integer_only"] else "no",
            "peer"
            if row["kind"] == "peer"
            else verdict(row, results["criteria"], SHORT).replace(
                "met within noise", "within noise"
            ),
        ]
        for row in results["variants"]
    ]
    most = (27, 9, 7, 19, 8, 5, 7, 3)
    wide = [
        min(max(len(row[place]) for row in [head, *lines]), limit)
        for place, limit in enumerate(most)
    ]
    wide.append(min(120 - sum(wide) - 2 * len(wide), max(len(row[-1]) for row in [head, *lines])))

    def line(row: Sequence[str]) -> str:
        cut = [
            cell if len(cell) <= width else cell[: width - 1] + "…"
            for cell, width in zip(row, wide, strict=True)
        ]
        return "  ".join(
            cell.ljust(width) if place in (0, len(most)) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cut, wide, strict=True))
        ).rstrip()

    return "\n".join([line(head), "  ".join("─" * width for width in wide), *map(line, lines)])
