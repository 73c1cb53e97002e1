"""The report as a short paper: a list of blocks, the same for Markdown, HTML and PDF.

The order is that of a paper: question, setup, results, what we conclude, what we do not know. What
few readers need stands in the appendix. A block is a tuple (kind, content…); see `render.Block`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from edgeq_lib.analysis import flow
from edgeq_lib.report.numbers import (
    SHORT,
    Row,
    agreement,
    bits,
    data_form,
    drop,
    kilobytes,
    latency,
    latency_intervals,
    listed,
    machine_name,
    machines,
    number,
    own_machine,
    p_value,
    range_text,
    technique,
    verdict,
    with_interval,
)
from edgeq_lib.report.render import Block
from edgeq_lib.report.text import (
    ALTERNATIVES_HEAD,
    NAMED,
    OBJECTIVES_HEAD,
    alternatives_caption,
    alternatives_table,
    claims,
    float_parts,
    left_out_table,
    limits,
    objectives_caption,
    objectives_table,
    recommendation_text,
    situation,
)

Results = Mapping[str, Any]
MAIN_FIGURES = ("pareto_bytes", "drop", "pareto_latency")
FRONT = (
    "the line is the front, hollow markers are files that another one beats in both respects, the "
    "ring is around the recommended file; peers have no part in the front."
)
CAPTIONS = {
    "decision": "The decision flow; the path that this study took is filled in. A step suffices "
    "when one of its files meets every criterion and no paired test on validation proves a file of "
    "it, or of a costlier step, to be more accurate than that. Beside each end stand the study's "
    "best files for it.",
    "drop": "What each variant loses against float32 on the same test images, with 95 % intervals.",
    "pareto_bytes": f"Accuracy against file size: {FRONT}",
    "pareto_latency": f"Accuracy against latency on {{machine}}: {FRONT}",
}
METHODS = (
    "Accuracy is top-1 with a 95 % Wilson interval. Where the true class shares the top score with "
    "k − 1 others, the image counts 1/k, its expected value in a random order of the tied classes; "
    "the top five likewise.",
    "The drop is float32 minus the variant on the same images, with Bonett and Price's 95 % "
    "interval for paired proportions; p is the two-sided mid-p McNemar test, adjusted by Holm over "
    "the table, peers included.",
    "The minimum detectable effect is the smallest drop that a paired test finds four times in "
    "five (80 % power), given how many images only one of the two files gets right. The test's 5 % "
    "are divided by the number of comparisons in the table, Holm's first step: what such a test "
    "finds, the adjusted p finds too.",
    "Agreement is the share of images on which a file names the class that float32 names, with a "
    "95 % Wilson interval.",
    "Every choice, the recommendation included, was made on the validation images; test images "
    "only "
    "serve to report. A criterion is decided by the point estimate, in a strict study by the whole "
    "interval; it is met without reserve only when the whole interval lies within the bound. One "
    "file is preferred to another for its accuracy only where a paired test (mid-p McNemar) on the "
    "same validation images says so at 95 %; where agreement is a criterion, the test is on "
    "agreement with float32.",
    "Latency is a ratio to float32 at one thread, interleaved with it on {machine}: the median "
    "over rounds of the quotient of the two in a round. {brackets}A file whose call takes less "
    "than a millisecond is timed in batches of calls; its percentiles are of batches. A ratio "
    "travels to machines of the same instruction set and to no other. LiteRT has no fast "
    "kernels for 16-bit activations and for 4-bit convolutions: the latency of those schemes is "
    "that of its reference kernels.",
    "“Smaller” compares float32's `.tflite` file with the variant's: the same network in the same "
    "format. Others often divide the size of a training checkpoint by that of the compressed file. "
    "Adam's state holds two more numbers per weight, so that this quotient is about three times as "
    "large without a byte having been compressed; it stands in a column of its own.",
)


def blocks(
    results: Results, figures: Sequence[str], extra: Mapping[str, str] | None = None
) -> list[Block]:
    """Write the report.

    Args:
        results: The content of results.json.
        figures: Names of the analysis' own figures.
        extra: Name → caption of the figures that other stages kept for the report.

    Returns:
        Blocks in reading order; text may hold `code` and **bold** marks.
    """
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
        *_objectives(results),
        *_left_out(results),
        *_seeds(results),
        *_machines_side_by_side(results),
        *_reference(results),
        *_shown(results, main),
        ("heading", "What we conclude"),
        ("list", claims(results)),
        ("heading", "What we do not know"),
        ("list", limits(results)),
        ("heading", "Appendix"),
        *_appendix(results, [name for name in figures if name not in main], extra or {}),
    ]


def _appendix(results: Results, figures: Sequence[str], extra: Mapping[str, str]) -> list[Block]:
    return [
        ("subheading", "The recommendation, step by step"),
        (
            "list",
            [*results["recommendation"]["reasons"], f"Times are those of {own_machine(results)}."],
        ),
        *_shown(results, (name for name in figures if name == "decision")),
        ("subheading", "Other situations"),
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
        *_shown(results, (name for name in figures if name != "decision")),
        ("subheading", "Size, speed and fit in full"),
        _cost_table(results),
        *_targets(results),
        *_float_parts(results),
        *_peers(results),
        *([("subheading", "Figures of the techniques")] if extra else []),
        *(("figure", name, caption) for name, caption in extra.items()),
        *_minutes(results),
        ("subheading", "How it was measured"),
        ("list", _methods(results)),
        ("subheading", "What was not measured"),
        ("list", _missing(results)),
        ("subheading", "Provenance"),
        ("facts", _facts(results)),
    ]


def _shown(results: Results, names: Iterable[str]) -> Iterator[Block]:
    for name in names:
        caption = CAPTIONS.get(name, f"{name.replace('_', ' ').capitalize()}.")
        yield "figure", name, caption.replace("{machine}", own_machine(results))


def _methods(results: Results) -> list[str]:
    kind = latency_intervals(results["variants"])
    words = {"{machine}": own_machine(results), "{brackets}": kind and f"Brackets: {kind}. "}
    texts = []
    for text in METHODS:
        for mark, word in words.items():
            text = text.replace(mark, word)
        texts.append(text)
    return texts


# --- question and setup ---
def _question(results: Results) -> str:
    ours = sum(row["kind"] != "peer" for row in results["variants"]) - 1
    peers = len(results["variants"]) - 1 - ours
    beside = f", beside {peers} that others published" if peers else ""
    asked = results.get("question") or "Which of them should be shipped?"
    return (
        f"{ours} compressed files of one network stand against its float32 file{beside}, on the "
        f"same images and the same machine. {asked}"
    )


def _setup(results: Results) -> list[str]:
    data, setup = results["data"], results.get("setup") or {}
    size = " × ".join(map(str, data["image_size"]))
    texts = [
        f"**Data.** {data['name']}; {data['form']}; {data['n_classes']} classes at {size} pixels: "
        f"{data['n_train']:,} images train, {data['n_validation']:,} validate (every choice), "
        f"{data['n_test']:,} test (the figures below)."
    ]
    if left_out_text(data):
        texts.append(left_out_text(data))
    if setup:
        texts.append(f"**Network.** {_network(setup)} {_recipe(setup)}{_scaling(setup)}")
        texts += [f"**Mind.** {note}" for note in setup.get("notes") or []]
    if setup.get("n_calibration"):
        texts.append(
            f"**Calibration.** {setup['n_calibration']:,} training images set the activation "
            "ranges; none of them validates or tests."
        )
    own = next(iter(machines(results)), {})
    runtime = results["versions"].get("ai-edge-litert", "of unknown version")
    texts.append(
        f"**Machine.** {machine_name(own)}, {own.get('cores', '?')} cores; ai-edge-litert "
        f"{runtime}. "
        "Latency at one thread."
    )
    bounds = ", ".join(f"{entry['name']} {entry['bound']}" for entry in results["criteria"])
    strictly = ", each by the whole interval" if results.get("strict") and bounds else ""
    objective = results.get("objective")
    wanted = f" **Objective.** {flow.OBJECTIVES[objective].capitalize()}." if objective else ""
    texts.append(
        f"**Criteria.** {bounds or 'None'}{strictly}. **Situation.** There are "
        f"{situation(results['answers'])}.{wanted}"
    )
    return texts


def left_out_text(data: Row) -> str:
    """Say which files of the data set stand in no split, by reason, with up to five names each.

    Args:
        data: The part `data` of results.json.

    Returns:
        A paragraph; empty where nothing was left out, and for results older than the count.
    """
    reasons = [
        f"{row['n']:,} × {row['why']} ({', '.join(row['names'])}"
        f"{', …' if row['n'] > len(row['names']) else ''})"
        for row in data.get("left_out", [])
    ]
    sentences = [f"**Left out.** {'; '.join(reasons)}."] if reasons else []
    if data.get("near_crowd"):
        sentences.append(
            f"**Alike.** {data['near_crowd']:,} images look nearly the same as many of another "
            "split, as frames of one scene do, and stay: the accuracy may be lower on other scenes."
        )
    return " ".join(sentences)


def _is_own(setup: Row) -> bool:
    """Whether the network is a file of the user's, of whose past nothing is known."""
    own = setup.get("own")
    return bool(PurePath(str(setup["model"])).suffix) if own is None else own


def _network(setup: Row) -> str:
    width = "" if setup.get("alpha") in (None, 1.0) else f" at width {setup['alpha']:g}"
    count = f", {setup['parameters']:,} parameters" if setup.get("parameters") else ""
    fresh = setup.get("weights") in (None, "None", "none")
    if _is_own(setup):
        weights = "that file" if fresh else f"`{setup['weights']}`"
        return f"`{setup['model']}`{count}, with the weights of {weights}."
    weights = "random weights" if fresh else f"the weights `{setup['weights']}`"
    return f"`{setup['model']}`{width}{count}, from {weights}."


def _scaling(setup: Row) -> str:
    """How its preprocessing was found, where the study's file does not state it."""
    tried = setup.get("preprocessings_tried") or {}
    if tried.get("stated", True):
        return ""
    chosen = next(row["name"] for row in tried["rows"] if row["chosen"])
    return (
        f" Its preprocessing ({chosen}) is the one of {len(tried['rows'])} usual ones that suits "
        f"{tried['images']:,} validation images best."
    )


def _recipe(setup: Row) -> str:
    if not setup.get("epochs"):
        return "This study did not train it." if _is_own(setup) else "It was not trained further."
    recipe, augmentation = (_settings(setup.get(part)) for part in ("recipe", "augmentation"))
    best = f"; best on validation: epoch {setup['best_epoch']}" if setup.get("best_epoch") else ""
    return (
        f"Trained for {setup['epochs']} epochs ({_time(setup.get('training_seconds') or 0)}{best})"
        f"{f'; {recipe}' if recipe else ''}"
        f"{f'; augmented by {augmentation}' if augmentation else ''}."
    )


def _settings(values: Row | None) -> str:
    return ", ".join(
        name if value is True else f"{name} {value}"
        for name, value in (values or {}).items()
        if value
    )


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


# --- tables ---
def _recommended_row(results: Results) -> int | None:
    chosen = results["recommendation"]["variant"]
    names = [row["name"] for row in results["variants"]]
    return names.index(chosen) if chosen in names else None


def _name(row: Row) -> str:
    return f"`{row['name']}`" + (" (peer)" if row["kind"] == "peer" else "")


def _table_of_variants(results: Results, caption: str, columns: Mapping[str, Any]) -> Block:
    """A row per variant; `columns` maps a heading to the function that writes its cell."""
    lines = [
        [_name(row), *(write(row) for write in columns.values())] for row in results["variants"]
    ]
    return "table", caption, ["Variant", *columns], lines, _recommended_row(results)


def _main_table(results: Results) -> Block:
    data, criteria = results["data"], results["criteria"]
    kind = latency_intervals(results["variants"])
    caption = (
        f"All files on the {data['n_test']:,} test images of {data_form(data)}; the recommended "
        "one is marked. Top-1 and drop with 95 % intervals; latency as a ratio to float32 on "
        f"{own_machine(results)}, one thread{kind and ', with the '}{kind}. Drop: points of top-1 "
        "lost against float32, paired. "
        "Criteria: as they stand on test."
    )
    columns = {
        "Bits w / a": bits,
        "Top-1, %": lambda row: with_interval(row, "value", "low", "high"),
        "Drop, points": drop,
        "KB": lambda row: kilobytes(row["bytes"]),
        "Smaller ×": lambda row: number(row["ratio"]),
        "Latency ×": latency,
        "Criteria": lambda row: "–" if row["kind"] == "peer" else verdict(row, criteria, SHORT),
    }
    return _table_of_variants(results, caption, columns)


def _objectives(results: Results) -> list[Block]:
    if not results.get("objectives"):
        return []
    mark = [entry["objective"] for entry in results["objectives"]].index(results["objective"])
    head, lines = list(OBJECTIVES_HEAD), objectives_table(results)
    return [("table", objectives_caption(results), head, lines, mark)]


def _left_out(results: Results) -> list[Block]:
    lines = left_out_table(results)
    if not lines:
        return []
    caption = (
        "Techniques that were not tried, or not in all their parts, and why; the study went on "
        "without."
    )
    head = ["Technique", "Notebook", "Reason"]
    return [("subheading", "Left out"), ("table", caption, head, lines, None)]


def _float_parts(results: Results) -> list[Block]:
    sentences = float_parts(results)
    heading = ("subheading", "Float operations inside integer files")
    return [heading, ("list", sentences)] if sentences else []


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
    caption = (
        "The same technique with other seeds (calibration draw, training): the spread that a "
        "difference between variants has to exceed."
    )
    head = ["Variant", "Seeds", "Drops, points", "Mean", "SD", "From … to", "Agrees, %"]
    return [("table", caption, head, lines, None)]


def _machines_side_by_side(results: Results) -> list[Block]:
    boards = results.get("boards") or []
    if not boards:
        return []
    own = next(iter(machines(results)), {})
    columns: dict[str, Any] = {f"Here: {machine_name(own)}": _measured}
    for board in boards:
        measured = board["variants"]
        columns[machine_name(board["machine"])] = lambda row, measured=measured: _measured(
            measured.get(row["name"])
        )
    caption = (
        "Latency as a ratio to float32 on the machine that heads the column (median in ms), one "
        "thread."
    )
    return [_table_of_variants(results, caption, columns), *_energy(results)]


def _energy(results: Results) -> list[Block]:
    """What an inference takes on the machines that a power meter was on."""
    columns: dict[str, Any] = {}
    for board in results.get("boards") or []:
        energies = {name: cost.get("energy") for name, cost in board["variants"].items()}
        if any(energies.values()):
            columns[machine_name(board["machine"])] = lambda row, energies=energies: _millijoules(
                energies.get(row["name"])
            )
    if not columns:
        return []
    caption = (
        "Energy per inference in millijoules at one thread, above what the machine that heads the "
        "column draws when idle: the median over stretches in which the file ran alone, measured "
        "by a power meter, with its 95 % interval."
    )
    return [_table_of_variants(results, caption, columns)]


def _millijoules(energy: Mapping[str, Any] | None) -> str:
    if not energy:
        return "–"
    names = ("joules", "joules_low", "joules_high")
    value, low, high = (energy[name] and f"{1e3 * energy[name]:.3g}" for name in names)
    return f"{value} [{low}, {high}]" if low else f"{value}"


def _measured(cost: Row | None) -> str:
    if not cost or cost.get("latency_ratio") is None:
        return "–"
    p50 = ((cost.get("latency_ms") or {}).get("1") or {}).get("p50")
    return number(cost["latency_ratio"]) + (f" ({p50:.3g} ms)" if p50 is not None else "")


def _reference(results: Results) -> list[Block]:
    if not results.get("reference"):
        return []
    keys = ("what", "value", "source")
    lines = [[str(entry[key]) for key in keys] for entry in results["reference"]]
    caption = (
        "What others published: other data forms, splits and code, so not to be compared to the "
        "digit."
    )
    return [("table", caption, ["What", "Value", "Source"], lines, None)]


def _accuracy_table(results: Results) -> Block:
    caption = (
        "On the test images. MDE: minimum detectable effect, in points (80 % power at 5 % "
        f"{_shared(results)}). Agrees: with float32, 95 % interval. Worst class: left out where it "
        "has fewer than ten images."
    )
    columns = {
        "Technique": lambda row: technique(row["technique"]),
        "Engine": lambda row: str(row["engine"] or "–"),
        "p (Holm)": lambda row: p_value(row["p_value"]),
        "MDE": lambda row: number(row["detectable_drop"]),
        "Agrees, %": agreement,
        "Worst class": _worst_class,
        "Top-5, %": lambda row: number(row["top5"]),
        "Ties": lambda row: "–" if row["ties"] is None else str(row["ties"]),
    }
    return _table_of_variants(results, caption, columns)


def _shared(results: Results) -> str:
    """How the error of 5 % is spent, in results that say so; older ones spent it per comparison."""
    count = sum(row["p_value"] is not None for row in results["variants"])
    if "pairs" not in results:
        return "per comparison"
    return f"divided by the {count} comparisons of the table, as Holm's first step does"


def _worst_class(row: Row) -> str:
    worst = row["worst_class"]
    if not worst or worst["n"] < 10:  # of a handful of images, none right says nothing
        return "–"
    return f"{worst['name']}: {worst['top1']:.1f}"


def _cost_table(results: Results) -> Block:
    caption = (
        "Checkpoint ×: size of a training checkpoint with optimizer state over the file's, as "
        "others quote it (see below why that misleads). p50: latency at one thread on "
        f"{own_machine(results)}. Arena: planned activations. Peak: what a fresh process grew by "
        "there."
    )
    columns = {
        "gzip KB": lambda row: kilobytes(row["gzip_bytes"]),
        "Checkpoint ×": lambda row: number(row.get("checkpoint_ratio")),
        "p50 ms": _p50,
        "Arena KB": lambda row: kilobytes(row["arena_bytes"]),
        "Peak KB": lambda row: kilobytes(row["peak_memory_bytes"]),
        "Integer only": lambda row: {None: "–", True: "yes", False: "no"}[row["integer_only"]],
    }
    return _table_of_variants(results, caption, columns)


def _p50(row: Row) -> str:
    p50 = ((row["latency_ms"] or {}).get("1") or {}).get("p50")
    return "–" if p50 is None else f"{p50:.3g}"


def _targets(results: Results) -> list[Block]:
    """What each target makes of each file, and why not."""
    known = results.get("targets") or {}
    if not known:
        return []
    targets = "; ".join(f"`{name}`: {target['words']}" for name, target in known.items())
    caption = (
        "Does the target run the file? Executed: in the runtime of that target. Compiled: by its "
        f"compiler. Checked: its operations, widths and size, and no more. {targets}."
    )
    columns = {
        name: lambda row, name=name: _verdict((row.get("targets") or {}).get(name))
        for name in known
    }
    by_target: dict[tuple[str, str], list[str]] = {}
    for row in results["variants"]:
        for name, there in (row.get("targets") or {}).items():
            if there["why"]:
                by_target.setdefault((name, there["why"]), []).append(row["name"])
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (name, why), files in by_target.items():
        alike.setdefault((why, tuple(files)), []).append(name)
    sentences = [
        f"{listed(names)}, {listed(files)}: {why}." for (why, files), names in alike.items()
    ]
    return [
        ("subheading", "Where each file runs"),
        _table_of_variants(results, caption, columns),
        *([("list", sentences)] if sentences else []),
    ]


def _verdict(there: Mapping[str, Any] | None) -> str:
    if there is None:
        return "–"
    runs = {True: "yes", False: "no", None: "unknown"}[there["runs"]]
    ram = f", {kilobytes(there['ram_bytes'])} KB of RAM" if there["ram_bytes"] else ""
    return f"{runs}, {there['how']}{ram if there['runs'] else ''}"


def _peers(results: Results) -> list[Block]:
    peers = results.get("peers") or []
    if not peers:
        return []
    keys = ("image_size", "preprocessing", "class_offset", "source", "licence")
    lines = [[f"`{peer['name']}`", *(_plain(peer.get(key)) for key in keys)] for peer in peers]
    caption = "Peers: files that others published, measured on the same images by the same code."
    head = ["Peer", "Pixels", "Preprocessing", "Class offset", "Source", "Licence"]
    return [("table", caption, head, lines, None)]


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " × ".join(map(str, value))
    return "–" if value is None else str(value)


def _minutes(results: Results) -> list[Block]:
    entries = results.get("minutes") or []
    if not entries:
        return []
    total = sum(max(entry["seconds"], entry["training_seconds"]) for entry in entries)
    lines = [
        [entry["stage"], f"{entry['seconds'] / 60:.1f}", f"{entry['training_seconds'] / 60:.1f}"]
        for entry in entries
    ]
    caption = (
        "The last run of each stage, and what training took; a training that an earlier run had "
        f"finished is in the second figure alone. Total, the larger of both: {total / 60:.1f} "
        "minutes."
    )
    return [
        ("subheading", "Where the minutes went"),
        ("table", caption, ["Stage", "Last run, min", "Training, min"], lines, None),
    ]


# --- lists ---
def _rejected(results: Results) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for name, reason in results["recommendation"]["rejected"].items():
        by_reason.setdefault(reason, []).append(name)
    return [f"{listed(names)}: {reason}." for reason, names in by_reason.items()] or [
        "There is no other."
    ]


def _missing(results: Results) -> list[str]:
    """What is null, and why: fields with the same reason for the same files in one sentence."""
    files: dict[tuple[str, str], list[str]] = {}
    for row in results["variants"]:
        for field, reason in row["why"].items():
            files.setdefault((field, reason), []).append(row["name"])
    fields: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (field, reason), names in files.items():
        fields.setdefault((reason, tuple(names)), []).append(field)
    every = tuple(row["name"] for row in results["variants"])
    return [
        f"{', '.join(same)} of {'all files' if names == every else listed(names, NAMED)}: {reason}."
        for (reason, names), same in fields.items()
    ] or ["Every figure was measured for every variant."]


def _facts(results: Results) -> list[tuple[str, str]]:
    code = results.get("code") or {}
    commit = code.get("commit") or "commit not recorded"
    return [
        ("Code", f"edgeq {code.get('version', 'of unknown version')}, {commit}"),
        ("Data", f"fingerprint {results['data']['fingerprint'][:16]}"),
        *(("Machine", _record(machine)) for machine in machines(results)),
        ("Versions", _record(results["versions"])),
        ("To reproduce", f"`{results['command']}`"),
    ]


def _record(named: Mapping[str, Any]) -> str:
    """A record in one line: names with their values, bytes as gigabytes, lists joined."""
    parts = []
    for name, value in named.items():
        if name.endswith("_bytes") and value:
            parts.append(f"{name.removesuffix('_bytes')} {value / 1e9:.1f} GB")
        else:
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            parts.append(f"{name} {shown}")
    return ", ".join(parts) or "not recorded"
