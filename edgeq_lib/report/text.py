"""What a study's results say, in sentences, and one table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeq_lib.analysis import decision, flow
from edgeq_lib.analysis.criteria import misses, status
from edgeq_lib.report.numbers import (
    SHORT,
    Row,
    bits,
    drop,
    find_row,
    kilobytes,
    latency,
    latency_intervals,
    listed,
    machine_name,
    number,
    own_machine,
    p_value,
    range_text,
    status_text,
    technique,
    verdict,
    with_interval,
)

SIGNIFICANT = 0.05
NAMED = 4  # variants that a sentence names; the rest it counts
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


def recommendation_text(results: Mapping[str, Any]) -> str:
    """Say the recommendation in one sentence, with what the variant is on the test images."""
    choice = results["recommendation"]
    if choice["variant"] is None:
        return "Ship nothing yet: no variant on the shelf can run on this target."
    row = find_row(results, choice["variant"])
    if row["technique"] == "baseline":
        misses = f", and it misses {' and '.join(choice['misses'])}"
        return f"Keep {row['name']}: no compressed variant meets the criteria" + (
            "." if choice["met"] else f"{misses}."
        )
    facts = [*_gains(row, results), _loss(row)]
    if choice["met"]:
        met = _on_validation(choice) + _on_test(results)
        return f"Ship {row['name']} ({_kind(row)}): {', '.join(facts)}{met}."
    return (
        f"No variant meets every criterion; {row['name']} ({_kind(row)}) comes nearest and misses "
        f"{' and '.join(choice['misses'])} on validation: {', '.join(facts)}."
    )


def _kind(row: Row) -> str:
    if row["weight_bits"] is None:
        return technique(row["technique"])
    return (
        f"{technique(row['technique'])}, {row['weight_bits']:.3g} bits per weight, "
        f"{row['activation_bits'] or 0:.3g} per activation"
    )


def _gains(row: Row, results: Mapping[str, Any]) -> list[str]:
    gains = [] if row["ratio"] is None else [f"{number(row['ratio'])} × smaller than float32"]
    if row["latency_ratio"] is not None:
        gains.append(f"{number(row['latency_ratio'])} × its latency on {own_machine(results)}")
    return gains


def _loss(row: Row) -> str:
    if row["drop"] is None:
        return "not evaluated"
    return (
        f"{number(abs(row['drop']))} points {'less' if row['drop'] >= 0 else 'more'} accurate on "
        f"{row['n']:,} test images (drop, 95 %: {number(row['drop_low'])} to "
        f"{number(row['drop_high'])})"
    )


def _on_validation(choice: Mapping[str, Any]) -> str:
    if not choice["status"]:
        return ""
    noisy = [name for name, mark in choice["status"].items() if mark == "met within noise"]
    reserve = f" ({' and '.join(noisy)} within noise)" if noisy else " without reserve"
    return f"; on validation it meets every criterion{reserve}"


def _on_test(results: Mapping[str, Any]) -> str:
    """What must stand beside "meets every criterion": what the file misses on test."""
    row = find_row(results, results["recommendation"]["variant"])
    missed = misses(row, results["criteria"])
    return f", but on the test images it misses {' and '.join(missed)}" if missed else ""


def on_test(results: Mapping[str, Any], name: str) -> str:
    """Say in a few words how a file stands to the criteria on the test images."""
    marks = status(find_row(results, name), results["criteria"])
    return status_text(marks, SHORT).replace("met within noise", "within noise")


# --- claims ---
def claims(results: Mapping[str, Any]) -> list[str]:
    """Say what follows from the measurements: one plain sentence per claim, the important first."""
    name = results["recommendation"]["variant"]
    chosen = find_row(results, name) if name else None
    groups: dict[str, list[Row]] = {"less": [], "more": [], "alone": [], "alike": []}
    for row in results["variants"]:
        if row["drop"] is not None:
            groups[_group(row)].append(row)
    others = {group: [row for row in rows if row["name"] != name] for group, rows in groups.items()}
    sentences = [_chosen_claim(chosen)] if chosen and chosen["drop"] is not None else []
    if others["alike"]:
        likewise = bool(chosen) and chosen in groups["alike"]
        sentences.append(_alike_claim(others["alike"], results["data"]["n_test"], likewise))
    sentences += [
        _beyond_chance_claim(others[group], word)
        for group, word in (("less", "less"), ("more", "more"))
        if others[group]
    ]
    if others["alone"]:
        sentences.append(
            "Different from float32 when looked at alone, but not beyond chance once all variants "
            f"of the table are counted: {_drops(others['alone'])}."
        )
    ours = [row for row in groups["alike"] if row["kind"] != "peer"]
    return [
        *sentences,
        *_size_and_speed(ours, chosen, own_machine(results)),
        *_seed_claims(results.get("seeds") or []),
        *_machine_claims(results, name),
    ]


def _group(row: Row) -> str:
    """How a compared row stands to float32: less, more, alone (before the adjustment) or alike."""
    if row["p_value"] is not None and row["p_value"] < SIGNIFICANT:
        return "less" if row["drop"] > 0 else "more"
    return "alone" if row["drop_low"] > 0 or row["drop_high"] < 0 else "alike"


def _chosen_claim(row: Row) -> str:
    group = _group(row)
    standing = {
        "less": f"less accurate than float32 beyond chance (p {p_value(row['p_value'])})",
        "more": f"more accurate than float32 beyond chance (p {p_value(row['p_value'])})",
        "alone": "different from float32 when looked at alone, but not beyond chance once all "
        "variants are counted",
        "alike": f"not distinguishable from float32 on {row['n']:,} test images; they would have "
        f"shown a drop above {number(row['detectable_drop'])} points (minimum detectable effect, "
        "all comparisons of the table counted)",
    }[group]
    return f"The recommended `{row['name']}` is {standing} (drop {drop(row)} points)."


def _alike_claim(rows: Sequence[Row], n: int, likewise: bool) -> str:
    many = len(rows) > 1
    effect = number(max(row["detectable_drop"] for row in rows))
    return (
        f"{listed((row['name'] for row in rows), NAMED)} {'are' if many else 'is'}"
        f"{' likewise' if likewise else ''} not distinguishable from float32 on {n:,} images "
        f"(drop{'s' if many else ''} {range_text(row['drop'] for row in rows)}; minimum detectable "
        f"effect {effect} points)."
    )


def _beyond_chance_claim(rows: Sequence[Row], word: str) -> str:
    largest = p_value(max(row["p_value"] for row in rows))
    bound = largest if "<" in largest else f"≤ {largest}"
    ordered = sorted(rows, key=lambda row: row["drop"])
    which = "1 file is" if len(rows) == 1 else f"{len(rows)} files are"
    return (
        f"{which} {word} accurate than float32 beyond chance (p {bound} after Holm): "
        f"{_drops(ordered)}."
    )


def _drops(rows: Sequence[Row]) -> str:
    """The first rows with their drops; of many the first and the last."""
    shown = list(rows) if len(rows) <= NAMED else [*rows[: NAMED - 1], rows[-1]]
    texts = [f"`{row['name']}` {drop(row)}" for row in shown]
    if len(rows) > NAMED:
        texts[-1] = f"… up to {texts[-1]}"
    return "; ".join(texts)


def _size_and_speed(alike: Sequence[Row], chosen: Row | None, machine: str) -> list[str]:
    sentences = []
    sized = [row for row in alike if row["ratio"]]
    timed = [row for row in alike if row["latency_ratio"]]
    if sized and timed:
        small = max(sized, key=lambda row: row["ratio"])
        fast = min(timed, key=lambda row: row["latency_ratio"])
        sentences.append(
            f"Of what cannot be told from float32, `{small['name']}` is the smallest "
            f"({number(small['ratio'])} × smaller) and `{fast['name']}` the fastest "
            f"({number(fast['latency_ratio'])} × its latency{_interval(fast)}) on {machine}."
        )
    if chosen and chosen.get("checkpoint_ratio"):
        sentences.append(
            f"`{chosen['name']}` is {number(chosen['ratio'])} × smaller than the float32 file of "
            "the same network; against a training checkpoint with optimizer state, as is often "
            f"quoted, it would read {number(chosen['checkpoint_ratio'])} ×."
        )
    return sentences


def _interval(row: Row) -> str:
    """The interval of a row's latency ratio, with its kind."""
    if row["latency_ratio_low"] is None:
        return ""
    ends = f"{number(row['latency_ratio_low'])} to {number(row['latency_ratio_high'])}"
    return f"; {latency_intervals([row])}: {ends}"


def _seed_claims(seeds: Sequence[Mapping[str, Any]]) -> list[str]:
    sentences = [
        f"`{seed['name']}` made with {len(seed['runs'])} seeds loses {number(seed['drop_mean'])} ± "
        f"{number(seed['drop_sd'])} points (mean and standard deviation over seeds; "
        f"{number(seed['drop_min'])} to {number(seed['drop_max'])})."
        for seed in seeds
    ]
    if seeds:
        spread = max(seed["drop_max"] - seed["drop_min"] for seed in seeds)
        sentences.append(
            f"Differences smaller than the spread between seeds, {number(spread)} points here, are "
            "no evidence for one variant over another."
        )
    for index, one in enumerate(seeds):
        for other in seeds[index + 1 :]:
            gap = abs(one["drop_mean"] - other["drop_mean"])
            apart = one["drop_min"] > other["drop_max"] or other["drop_min"] > one["drop_max"]
            sentences.append(
                f"Between `{one['name']}` and `{other['name']}` the means differ by {number(gap)} "
                f"points, and the seeds of the two {'do not overlap' if apart else 'overlap'}."
            )
    return sentences


def _machine_claims(results: Mapping[str, Any], name: str | None) -> list[str]:
    ratios = []
    for board in results.get("boards") or []:
        ratio = (board["variants"].get(name) or {}).get("latency_ratio")
        if ratio is not None:
            ratios.append(f"{number(ratio)} on {machine_name(board['machine'])}")
    if not ratios:
        return []
    return [f"Latency of `{name}` against float32 on other machines: {'; '.join(ratios)}."]


# --- limits ---
def limits(results: Mapping[str, Any]) -> list[str]:
    """Say what the study does not know: orders that are no evidence, ties, single measurements."""
    rows, n = results["variants"], results["data"]["n_test"]
    sentences = list(results.get("notes") or [])
    alike = [row for row in rows if row["drop"] is not None and _group(row) == "alike"]
    if alike:
        files = "one file" if len(alike) == 1 else f"{len(alike)} files"
        sentences.append(
            f"Float32 and the {files} not distinguishable from it cannot be ranked by accuracy on "
            f"{n:,} test images: their order is no evidence."
        )
    same = [row["name"] for row in rows if row["agreement"] == 100]
    if same:
        sentences.append(
            f"On every test image {listed([*same, 'float32'], NAMED)} name the same class."
        )
    sentences.append(_ties(rows, n))
    choice = results["recommendation"]["variant"]
    if choice and results["criteria"]:
        sentences.append(
            f"On the test images, which had no part in the choice, `{choice}` stands as: criteria "
            f"{verdict(find_row(results, choice), results['criteria'])}."
        )
    elif choice:
        sentences.append("The study sets no acceptance criteria.")
    if not results.get("seeds"):
        sentences.append(
            "Each variant was made once: what another calibration draw or training seed would "
            "change is not known."
        )
    if not results.get("boards"):
        sentences.append(
            f"Latency and memory were measured on one machine, {own_machine(results)}; another "
            "instruction set may order the variants otherwise."
        )
    sentences += _of_target(results)
    sentences += _busy(results)
    if any(row["kind"] == "peer" for row in rows):
        sentences.append(
            "The peers were trained by others, on data and by recipes of their own: what separates "
            "them from our float32 network is not quantization alone."
        )
    return sentences


def _of_target(results: Mapping[str, Any]) -> list[str]:
    """What is not known of the study's target."""
    target = results["answers"].get("target", flow.ANY_TARGET)
    choice = results["recommendation"]["variant"]
    if target == flow.ANY_TARGET or not choice:
        return []
    row, sentences = find_row(results, choice), []
    if row["target_latency_ratio"] is None:
        sentences.append(
            f"Latency was not measured on the target `{target}`: all latencies here are of another "
            "machine, and rule no file out or in. `edgeq export-bench` takes the files there."
        )
    verdict_there = (row["targets"] or {}).get(target)
    if verdict_there and verdict_there["how"] == "checked":
        sentences.append(
            f"That `{target}` runs `{choice}` was checked (operations, widths, size), not tried."
        )
    return sentences


def _busy(results: Mapping[str, Any]) -> list[str]:
    """A sentence per machine that was not quiet while latency was measured."""
    busy = {own_machine(results): results.get("busy")}
    for board in results.get("boards") or []:
        reasons = (cost.get("busy") for cost in board["variants"].values())
        busy[machine_name(board["machine"])] = next(filter(None, reasons), None)
    return [
        f"While latency was measured on {machine}, that machine was busy, so that its latency "
        f"figures may be off. {why}"
        for machine, why in busy.items()
        if why
    ]


def _ties(rows: Sequence[Row], n: int) -> str:
    tied = {row["name"]: row["ties"] for row in rows if row["ties"]}
    if not tied:
        return "No image has a top score that several classes share."
    most = max(tied, key=lambda name: tied[name])
    files = "1 file ties" if len(tied) == 1 else f"{len(tied)} files tie"
    return (
        f"{files} several classes for the top score on some images, at most on {tied[most]} of "
        f"{n:,} (`{most}`); such an image counts as its expected value. The appendix lists all."
    )


# --- what the study could not make, and what its files still hold ---
def left_out_table(results: Mapping[str, Any]) -> list[list[str]]:
    """Write what has no result as rows: technique (and the part of it), notebook, reason."""
    rows = []
    for entry in results.get("not_tried") or []:
        name = technique(entry["stage"].split("_", 1)[-1])
        part = f": {entry['part']} only" if entry["part"] else ""
        rows.append([f"{name}{part}", entry["stage"], entry["why"]])
    return rows


# What takes the place of an operation that has no int8 kernel in LiteRT.
INTEGER_FORMS = {
    "PRELU": "ReLU or ReLU6",
    "LEAKY_RELU": "ReLU or ReLU6",
    "ELU": "ReLU or ReLU6",
    "GELU": "ReLU or ReLU6",
    "HARD_SWISH": "ReLU6",
    "REDUCE_MAX": "global average pooling",
}
BOUNDARY = {"QUANTIZE", "DEQUANTIZE"}  # what stands around any float part


def float_parts(results: Mapping[str, Any]) -> list[str]:
    """Name the operations that files of integers still compute in float, and say what to do.

    Files whose scheme leaves activations in float (float16, dynamic range) are not meant.
    """
    own = [row for row in results["variants"] if row["kind"] != "peer"]
    whole = {op for row in own if row["integer_only"] for op in row.get("ops") or {}}
    files: dict[str, list[str]] = {}
    for row in own:
        if row.get("compute") == "integer" and not row["integer_only"]:
            ops = set(row.get("float_ops") or ()) - BOUNDARY
            for op in sorted(ops) or [""]:
                files.setdefault(op, []).append(row["name"])
    by_files: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for op, names in files.items():
        remedy = _remedy(op, op in whole)
        by_files.setdefault((tuple(names), remedy), []).append(op)
    return [
        f"{listed(names, NAMED)} {'compute' if len(names) > 1 else 'computes'} "
        f"{listed(ops)} in float: {remedy}."
        if any(ops)
        else f"{listed(names, NAMED)}: {remedy}."
        for (names, remedy), ops in by_files.items()
    ]


def _remedy(op: str, elsewhere: bool) -> str:
    if not op:
        return (
            "float numbers go in or come out, the rest is integers; a target that runs integers "
            "only takes the file with integer input and output (`io: int8`)"
        )
    if elsewhere:
        return (
            "kept so to lose less, for other files here compute the same in integers; those are "
            "for a target that runs nothing else"
        )
    form = INTEGER_FORMS.get(op, "an operation with an int8 kernel")
    return (
        "a target that runs integers only cannot take it. Put "
        f"{form} in its place in the network and train it again, or choose a target that runs "
        "float too"
    )


# --- other situations ---
OBJECTIVES_HEAD = ("Objective", "File", "Technique", "Drop, points", "Smaller ×", "Latency ×")


def objectives_table(results: Mapping[str, Any]) -> list[list[str]]:
    """Write what each objective would ship as rows, under OBJECTIVES_HEAD."""
    rows = {row["name"]: row for row in results["variants"]}
    lines = []
    for entry in results.get("objectives") or []:
        words = flow.OBJECTIVES[entry["objective"]]
        if entry["variant"] is None:
            lines.append([words, "nothing yet", *["–"] * 4])
            continue
        row = rows[entry["variant"]]
        figures = [technique(row["technique"]), drop(row), number(row["ratio"]), latency(row)]
        name = f"`{row['name']}`"
        lines.append([words, name if entry["met"] else f"nothing; nearest {name}", *figures])
    return lines


def objectives_caption(results: Mapping[str, Any]) -> str:
    """Say what that table shows."""
    how = "their whole intervals" if results.get("strict") else "the point estimates"
    return (
        "What each objective ships of the files that the situation allows and that meet every "
        f"criterion on validation by {how}; the study's own is marked. The choice looked at "
        "validation images, the figures are those of the test images; latency as a ratio to "
        f"float32 on {own_machine(results)}{_kind_of_brackets(results)}."
    )


def _kind_of_brackets(results: Mapping[str, Any]) -> str:
    kind = latency_intervals(results["variants"])
    return f", with the {kind}" if kind else ""


def situation(answers: Mapping[str, Any]) -> str:
    """Say the answers of a study as a phrase."""
    complete = decision.complete_answers(answers)
    target = complete["target"]
    return ", ".join(
        [
            *(
                flow.ANSWERS[name][complete[name]]
                for name in ("images", "retraining")
                if name != "retraining" or complete["images"] != "none"
            ),
            "no target named" if target == flow.ANY_TARGET else f"the target {target}",
        ]
    )


def alternatives_table(results: Mapping[str, Any]) -> list[list[str]]:
    """Write the rows of `what_if` as text, under ALTERNATIVES_HEAD."""
    return [_alternative(entry) for entry in results["what_if"]]


def _alternative(entry: Mapping[str, Any]) -> list[str]:
    situations = "; or ".join(entry["if"])
    situations = situations[0].upper() + situations[1:]
    if entry["variant"] is None:
        return [situations, "nothing yet", *["–"] * (len(ALTERNATIVES_HEAD) - 2)]
    short = {"missed", "not measured"} & set(entry["status"].values())
    return [
        situations,
        f"nothing; nearest `{entry['variant']}`" if short else f"`{entry['variant']}`",
        technique(entry["technique"]),
        bits(entry),
        drop(entry),
        number(entry["ratio"]),
        number(entry["latency_ratio"]),
        status_text(entry["status"], SHORT),
        entry["stage"],
    ]


def alternatives_caption(results: Mapping[str, Any]) -> str:
    """Say what that table shows, for whom and decided on what."""
    n = next(iter(results["validation"].values()))["n"] or 0
    return (
        "What the same flow would ship in other situations, by the same criteria, decided on the "
        f"same {n:,} validation images, whose drops these are. As answered: "
        f"{situation(results['answers'])}. Any other situation changes what it names and nothing "
        "else; nothing is shipped where no file meets every criterion. Latency: on "
        f"{own_machine(results)}. Notebook: where the file is made and its tables stand."
    )


def objective_notes(results: Mapping[str, Any]) -> str:
    """Write a line per objective but the simplest, for the flow's figure."""
    return "\n".join(
        f"{entry['objective']}: {entry['variant']}, {number(entry['ratio'])} ×"
        for entry in results.get("objectives") or []
        if entry["objective"] != "simplest" and entry["variant"] and entry["met"]
    )


def branch_notes(results: Mapping[str, Any]) -> dict[str, str]:
    """Write, per leaf of the flow, a few short lines on its best files, for the flow's figure."""
    notes: dict[str, list[str]] = {}
    for entry in results["branches"]:
        if entry["variant"]:
            notes.setdefault(entry["leaf"], []).extend(
                (
                    f"{flow.BITS[entry['bits']]}: {entry['variant']}",
                    f"   drop {number(entry['drop'])}, {number(entry['ratio'])} × smaller, "
                    f"{status_text(entry['status'], SHORT)}",
                )
            )
    texts = {leaf: "\n".join(lines) for leaf, lines in notes.items()}
    best = objective_notes(results)
    return texts | ({"by_objective": best} if best else {})


# --- the terminal ---
def terminal_table(results: Mapping[str, Any]) -> str:
    """Write the variants as a table of at most 120 columns; → marks the recommended one."""
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
    lines = [_terminal_row(row, results) for row in results["variants"]]
    limits_of_columns = (27, 9, 7, 19, 8, 5, 7, 3)
    widths = [
        min(max(len(cells[column]) for cells in [head, *lines]), limit)
        for column, limit in enumerate(limits_of_columns)
    ]
    rest = 120 - sum(widths) - 2 * len(widths)
    widths.append(min(rest, max(len(cells[-1]) for cells in [head, *lines])))
    ruler = ["─" * width for width in widths]
    return "\n".join(_terminal_line(cells, widths) for cells in [head, ruler, *lines])


def _terminal_row(row: Row, results: Mapping[str, Any]) -> list[str]:
    standing = verdict(row, results["criteria"], SHORT).replace("met within noise", "within noise")
    mark = "→ " if row["name"] == results["recommendation"]["variant"] else "  "
    return [
        mark + row["name"],
        bits(row).replace(" ", ""),
        number(row["value"]),
        with_interval(row, "drop", "drop_low", "drop_high", 1),
        kilobytes(row["bytes"]),
        number(row["ratio"], 1),
        number(row["latency_ratio"]),
        {None: "–", True: "yes", False: "no"}[row["integer_only"]],
        "peer" if row["kind"] == "peer" else standing,
    ]


def _terminal_line(cells: Sequence[str], widths: Sequence[int]) -> str:
    cut = [
        cell if len(cell) <= width else f"{cell[: width - 1]}…"
        for cell, width in zip(cells, widths, strict=True)
    ]
    last = len(widths) - 1
    return "  ".join(
        cell.ljust(width) if column in (0, last) else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cut, widths, strict=True))
    ).rstrip()
