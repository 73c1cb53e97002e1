"""The report as a short paper, a list of blocks (see `pages`) built from results.json: question, setup, results, what we
conclude, what we do not know; figures and tables that few readers need stand in the appendix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgeq_lib.report.render import Block
from edgeq_lib.report.text import (
    ALTERNATIVES_HEAD,
    SHORT,
    alternatives_caption,
    alternatives_table,
    bits,
    board_name,
    branch_heading,
    branch_lines,
    claims,
    data_form,
    drop,
    kilobytes,
    limits,
    listed,
    number,
    p_value,
    range_text,
    recommendation_text,
    situation,
    technique,
    verdict,
    with_interval,
)

Row = Mapping[str, Any]
Results = Mapping[str, Any]
MAIN_FIGURES = ("pareto_bytes", "drop", "pareto_latency")
CAPTIONS = {
    "decision": "The decision flow; the path that this study took is filled in. Fewer than 8 bits only where no file "
    "with 8 or more meets every criterion; a step is enough when a variant of it meets them and validation cannot "
    "tell that a costlier one is more accurate. Beside each end: this study's best files for it.",
    "drop": "What each variant loses against float32 on the same test images, with 95 % intervals.",
    "pareto_bytes": "Accuracy against file size; the line is the Pareto front, dominated "
    "variants are hollow, the ring is around the recommended file; peers have no part in the front.",
    "pareto_latency": "Accuracy against latency; the line is the Pareto front, dominated "
    "variants are hollow, the ring is around the recommended file; peers have no part in the front.",
    "size": "File size, and size after gzip.",
    "latency": "Latency against float32, with its spread.",
}
METHODS = (
    "Accuracy is top-1 with a 95 % Wilson interval. Where the true class shares the top score with k − 1 others the "
    "image counts 1/k (its expected value in a random order of the tied classes); for the top five likewise.",
    "The drop is float32 minus the variant on the same images, with Bonett and Price's 95 % interval for paired "
    "proportions; p is the two-sided mid-p McNemar test, adjusted by Holm over the table, peers included.",
    "The smallest drop that would have been seen is the one that a paired test at 5 % finds four times in five, given "
    "how many images the two files disagreed on.",
    "Every choice, the recommendation included, was made on the validation images; test images only serve to report. A "
    "criterion is decided by the point estimate, and is met without reserve only when the interval keeps to it too.",
    "Latency is a ratio to float32, measured in turns with it on the machine named above; ratios travel to other "
    "machines better than times do. LiteRT has no fast kernels for 16-bit activations and for 4-bit convolutions: the "
    "latency of those schemes is that of its reference kernels, not of the arithmetic.",
    "“Smaller” compares float32's `.tflite` file with the variant's: the same network in the same format. Others often "
    "divide the size of a training checkpoint by that of the compressed file. Adam's state holds two more numbers a weight, "
    "so that the quotient comes out about three times as large without a byte having been compressed; it stands in a column "
    "of its own, only to be compared with such claims.",
)


def blocks(
    results: Results, figures: Sequence[str], extra: Mapping[str, str] | None = None
) -> list[Block]:
    """The report as a list of blocks (kind, content…), the same for all formats; text may hold `code`.

    `figures` are names of ours, `extra` name → caption of the figures of other stages.
    """

    def shown(names: Iterable[str]) -> Iterator[Block]:
        for name in names:
            yield "figure", name, CAPTIONS.get(name, name.replace("_", " ").capitalize() + ".")

    main = [name for name in MAIN_FIGURES if name in figures]
    return [
        ("title", f"{results['study']}: which model to ship"),
        ("lead", recommendation_text(results)),
        ("heading", "Question"),
        ("text", _question(results)),
        ("heading", "Setup"),
        *(("text", text) for text in _setup(results)),
        ("heading", "Results"),
        _main_table(results),
        *_seeds(results),
        *_boards(results),
        *_reference(results),
        *shown(main),
        ("heading", "What we conclude"),
        ("list", claims(results)),
        ("heading", "What we do not know"),
        ("list", limits(results)),
        ("heading", "Appendix"),
        ("subheading", "The recommendation, step by step"),
        ("list", results["recommendation"]["reasons"]),
        *shown(name for name in figures if name == "decision"),
        ("subheading", "What each branch of the flow holds"),
        ("text", branch_heading(results)),
        ("list", branch_lines(results)),
        ("subheading", "If the answers were others"),
        (
            "table",
            alternatives_caption(results),
            list(ALTERNATIVES_HEAD),
            alternatives_table(results),
            0,
        ),
        ("subheading", "Why not the others"),
        ("list", _rejected(results)),
        ("subheading", "Accuracy in full"),
        _accuracy_table(results),
        *shown(name for name in figures if name not in (*main, "decision")),
        ("subheading", "Size, speed and fit in full"),
        _cost_table(results),
        *_peers(results),
        *([("subheading", "Figures of the techniques")] if extra else []),
        *(("figure", name, caption) for name, caption in (extra or {}).items()),
        *_minutes(results),
        ("subheading", "How it was measured"),
        ("list", list(METHODS)),
        ("subheading", "What was not measured"),
        ("list", _missing(results)),
        ("subheading", "Provenance"),
        ("facts", _facts(results)),
    ]


# --- question and setup ---
def _question(results: Results) -> str:
    ours = sum(row["kind"] != "peer" for row in results["variants"]) - 1
    peers = len(results["variants"]) - 1 - ours
    beside = f", beside {peers} that others published" if peers else ""
    asked = results.get("question") or "Which of them should be shipped?"
    return (
        f"{ours} compressed files of one network stand against its float32 file{beside}, on the same images and the same "
        f"machine. {asked}"
    )


def _setup(results: Results) -> list[str]:
    data, setup, machine = results["data"], results.get("setup") or {}, results["machine"]
    size = " × ".join(map(str, data["image_size"]))
    said = [
        f"**Data.** {data['name']}; {data['form']}; {data['n_classes']} classes at {size} pixels: {data['n_train']:,} "
        f"images train, {data['n_validation']:,} validate (every choice), {data['n_test']:,} test (the figures below)."
    ]
    if setup:
        said.append(f"**Network.** {_network(setup)} {_recipe(setup)}")
        if setup.get("n_calibration"):
            said.append(
                f"**Calibration.** {setup['n_calibration']:,} training images set the activation ranges; none of them "
                "validates or tests."
            )
    said.append(
        f"**Machine.** {machine.get('cpu', 'not recorded')}, {machine.get('cores', '?')} cores; "
        f"ai-edge-litert {results['versions'].get('ai-edge-litert', 'of unknown version')}. Latency at one thread."
    )
    bounds = ", ".join(
        f"{criterion['name']} {criterion['bound']}" for criterion in results["criteria"]
    )
    said.append(
        f"**Criteria.** {bounds or 'None'}. **Situation.** There are {situation(results['answers'])}."
    )
    return said


def _network(setup: Row) -> str:
    width = "" if setup.get("alpha") in (None, 1.0) else f" at width {setup['alpha']:g}"
    weights = (
        "random weights"
        if setup.get("weights") in (None, "None", "none")
        else f"the weights `{setup['weights']}`"
    )
    count = "" if not setup.get("parameters") else f", {setup['parameters']:,} parameters"
    return f"`{setup['model']}`{width}{count}, from {weights}."


def _recipe(setup: Row) -> str:
    if not setup.get("epochs"):
        return "It was not trained further."
    told, augment = (
        ", ".join(
            name if value is True else f"{name} {value}"
            for name, value in (setup.get(part) or {}).items()
            if value
        )
        for part in ("recipe", "augmentation")
    )
    best = f"; best on validation: epoch {setup['best_epoch']}" if setup.get("best_epoch") else ""
    return (
        f"Trained for {setup['epochs']} epochs ({_time(setup.get('training_seconds') or 0)}{best})"
        f"{f'; {told}' if told else ''}{f'; augmented by {augment}' if augment else ''}."
    )


def _time(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


# --- tables ---
def _marked(results: Results, rows: Sequence[Row]) -> int | None:
    chosen = results["recommendation"]["variant"]
    return next((place for place, row in enumerate(rows) if row["name"] == chosen), None)


def _name(row: Row) -> str:
    return f"`{row['name']}`" + (" (peer)" if row["kind"] == "peer" else "")


def _latency(row: Row) -> str:
    return with_interval(row, "latency_ratio", "latency_ratio_low", "latency_ratio_high")


def _main_table(results: Results) -> Block:
    rows, data = results["variants"], results["data"]
    lines = [
        [
            _name(row),
            bits(row),
            with_interval(row, "value", "low", "high"),
            drop(row),
            kilobytes(row["bytes"]),
            number(row["ratio"]),
            _latency(row),
            "–" if row["kind"] == "peer" else verdict(row, results["criteria"], SHORT),
        ]
        for row in rows
    ]
    caption = (
        f"All files on the {data['n_test']:,} test images of {data_form(data)} "
        "and on one machine, with 95 % intervals; the recommended one is marked. "
        "Drop: points of top-1 lost against float32, paired. Criteria: as they stand on test."
    )
    return (
        "table",
        caption,
        [
            "Variant",
            "Bits w / a",
            "Top-1, %",
            "Drop, points",
            "KB",
            "Smaller ×",
            "Latency ×",
            "Criteria",
        ],
        lines,
        _marked(results, rows),
    )


def _seeds(results: Results) -> list[Block]:
    if not results.get("seeds"):
        return []
    lines = [
        [
            f"`{seed['name']}`",
            ", ".join(str(run["seed"]) for run in seed["runs"]),
            ", ".join(number(run["drop"]) for run in seed["runs"]),
            number(seed["drop_mean"]),
            number(seed["drop_sd"]),
            range_text((seed["drop_min"], seed["drop_max"])),
            range_text((run["agreement"] for run in seed["runs"]), 1),
        ]
        for seed in results["seeds"]
    ]
    return [
        (
            "table",
            "The same technique with other seeds (calibration draw, training): the spread that a difference between "
            "variants has to exceed.",
            ["Variant", "Seeds", "Drops, points", "Mean", "SD", "From … to", "Agrees, %"],
            lines,
            None,
        )
    ]


def _boards(results: Results) -> list[Block]:
    boards = results.get("boards") or []
    if not boards:
        return []

    def cell(measured: Row | None) -> str:
        if not measured or measured.get("latency_ratio") is None:
            return "–"
        p50 = ((measured.get("latency_ms") or {}).get("1") or {}).get("p50")
        return number(measured["latency_ratio"]) + (f" ({p50:.3g} ms)" if p50 is not None else "")

    lines = [
        [_name(row), cell(row), *(cell(board["variants"].get(row["name"])) for board in boards)]
        for row in results["variants"]
    ]
    here = results["machine"].get("cpu", "this machine")
    return [
        (
            "table",
            "Latency as a ratio to float32 on the same machine (median in milliseconds), one thread.",
            ["Variant", f"Here: {here}", *map(board_name, boards)],
            lines,
            _marked(results, results["variants"]),
        )
    ]


def _reference(results: Results) -> list[Block]:
    entries = results.get("reference") or []
    return (
        [
            (
                "table",
                "What others published: other data forms, splits and code, so not to be compared to the digit.",
                ["What", "Value", "Source"],
                [[str(entry[key]) for key in ("what", "value", "source")] for entry in entries],
                None,
            )
        ]
        if entries
        else []
    )


def _accuracy_table(results: Results) -> Block:
    def worst(found: Row) -> str:  # of a handful of images of a class, none right says nothing
        return f"{found['name']}: {found['top1']:.1f}" if found["n"] >= 10 else "–"

    lines = [
        [
            _name(row),
            technique(row["technique"]),
            str(row["engine"] or "–"),
            p_value(row["p_value"]),
            number(row["detectable_drop"]),
            number(row["agreement"], 1),
            worst(row["worst_class"] or {"n": 0}),
            number(row["top5"]),
            "–" if row["ties"] is None else str(row["ties"]),
        ]
        for row in results["variants"]
    ]
    return (
        "table",
        "On the test images. Seen: the smallest drop that would have been seen, in points. Worst class: left out "
        "where it has fewer than ten images.",
        [
            "Variant",
            "Technique",
            "Engine",
            "p (Holm)",
            "Seen",
            "Agrees, %",
            "Worst class",
            "Top-5, %",
            "Ties",
        ],
        lines,
        _marked(results, results["variants"]),
    )


def _cost_table(results: Results) -> Block:
    def p50(row: Row) -> str:
        found = ((row["latency_ms"] or {}).get("1") or {}).get("p50")
        return "–" if found is None else f"{found:.3g}"

    def fits(row: Row) -> str:
        found = row["fits"]
        return (
            "–"
            if not found
            else "all"
            if all(found.values())
            else ", ".join(name for name, fit in found.items() if fit) or "none"
        )

    lines = [
        [
            _name(row),
            kilobytes(row["gzip_bytes"]),
            number(row.get("checkpoint_ratio")),
            p50(row),
            kilobytes(row["arena_bytes"]),
            kilobytes(row["peak_memory_bytes"]),
            "–" if row["integer_only"] is None else "yes" if row["integer_only"] else "no",
            fits(row),
        ]
        for row in results["variants"]
    ]
    return (
        "table",
        "Checkpoint ×: size of a training checkpoint with optimizer state over the file's, as others quote it "
        "(see below why that misleads). Arena: planned activations. Peak: what a fresh process grew by.",
        [
            "Variant",
            "gzip KB",
            "Checkpoint ×",
            "p50 ms",
            "Arena KB",
            "Peak KB",
            "Integer only",
            "Fits",
        ],
        lines,
        _marked(results, results["variants"]),
    )


def _peers(results: Results) -> list[Block]:
    def text(value: Any) -> str:
        return (
            " × ".join(map(str, value))
            if isinstance(value, list)
            else "–"
            if value is None
            else str(value)
        )

    lines = [
        [
            f"`{peer['name']}`",
            *(
                text(peer.get(key))
                for key in ("image_size", "preprocessing", "class_offset", "source", "licence")
            ),
        ]
        for peer in results.get("peers") or []
    ]
    return (
        [
            (
                "table",
                "Peers: files that others published, measured on the same images by the same code.",
                ["Peer", "Pixels", "Preprocessing", "Class offset", "Source", "Licence"],
                lines,
                None,
            )
        ]
        if lines
        else []
    )


def _minutes(results: Results) -> list[Block]:
    entries = results.get("minutes") or []
    if not entries:
        return []
    spent = [max(entry["seconds"], entry["training_seconds"]) for entry in entries]
    lines = [
        [entry["stage"], f"{entry['seconds'] / 60:.1f}", f"{entry['training_seconds'] / 60:.1f}"]
        for entry in entries
    ]
    return [
        ("subheading", "Where the minutes went"),
        (
            "table",
            "The last run of each stage, and what training took; a training that an earlier run had finished is in "
            f"the second figure alone. Total, the larger of both: {sum(spent) / 60:.1f} minutes.",
            ["Stage", "Last run, min", "Training, min"],
            lines,
            None,
        ),
    ]


# --- lists ---
def _rejected(results: Results) -> list[str]:
    why: dict[str, list[str]] = {}
    for name, reason in results["recommendation"]["rejected"].items():
        why.setdefault(reason, []).append(name)
    return [f"{listed(names)}: {reason}." for reason, names in why.items()] or [
        "There is no other."
    ]


def _missing(results: Results) -> list[str]:
    nulls: dict[tuple[str, str], list[str]] = {}
    for row in results["variants"]:
        for field, reason in row["why"].items():
            nulls.setdefault((field, reason), []).append(row["name"])
    merged: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (field, reason), names in nulls.items():
        merged.setdefault((reason, tuple(names)), []).append(field)
    every = tuple(row["name"] for row in results["variants"])
    return [
        f"{', '.join(fields)} of {'all files' if names == every else listed(names)}: {reason}."
        for (reason, names), fields in merged.items()
    ] or ["Every figure was measured for every variant."]


def _facts(results: Results) -> list[tuple[str, str]]:
    return [
        ("Fingerprint", f"data {results['data']['fingerprint'][:16]}"),
        ("Machine", _record(results["machine"])),
        ("Versions", _record(results["versions"])),
        ("To reproduce", f"`{results['command']}`"),
    ]


def _record(named: Mapping[str, Any]) -> str:
    """A record in one line: names with their values, bytes as gigabytes, lists joined."""
    said = []
    for name, value in named.items():
        if name.endswith("_bytes") and value:
            name, value = name.removesuffix("_bytes"), f"{value / 1e9:.1f} GB"
        said.append(f"{name} {' '.join(map(str, value)) if isinstance(value, list) else value}")
    return ", ".join(said) or "not recorded"
