"""A variant's row of the results table: its fields, and how records are put together to it.

`Row` is what functions take that only read some fields. `ResultRow` is the whole row as
results.json holds it; `check_row` and `check_results` check a row or a table before it is written.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NotRequired

from typing_extensions import TypedDict  # pydantic wants this one below Python 3.12

from edgeq_lib.files import EdgeqError

if TYPE_CHECKING:
    from edgeq_lib.study import Variant

Row = Mapping[str, Any]


class WorstClass(TypedDict):
    """The class with the lowest accuracy."""

    name: str
    top1: float  # percent
    n: int  # images of the class


# What `latency_ratio_low` and `latency_ratio_high` are. Records of version 0.2.0 and before hold
# percentiles, and no word for it.
MEDIAN_95 = "95 % of the median"
PERCENTILES = "10th to 90th percentile over rounds"


class LatencyRatio(TypedDict):
    """Latency as a ratio to float32, interleaved with it, with its interval."""

    ratio: float
    ratio_low: float | None
    ratio_high: float | None
    interval: NotRequired[str | None]  # as `latency_interval`
    rounds: int
    invocations: int
    batch: NotRequired[int]  # invocations timed together


class Latency(TypedDict):
    """Latency in milliseconds at one number of threads, as percentiles over what was timed.

    That is a single invocation, or a batch of them (`LatencyRatio.batch`), per invocation.
    """

    p50: float
    p90: float
    p99: float


class Verdict(TypedDict):
    """Whether a target runs a file, and how that is known."""

    runs: bool | None  # None: nobody knows
    how: Literal["executed", "compiled", "checked"]
    why: str | None  # a sentence: why not, or what else is to be known
    ram_bytes: int | None
    flash_bytes: int | None


class ResultRow(TypedDict):
    """One variant in results.json.

    Rates and drops are in percent and percentage points. What was not measured is None and has its
    `why`.
    """

    name: str
    kind: Literal["variant", "peer", "repeat"]
    technique: str
    scheme: str
    engine: str
    parent: str | None
    seed: int | None
    trained: NotRequired[
        Literal["labels", "outputs"] | None
    ]  # results of version 0.1.0 may lack it
    stage: NotRequired[str]  # results of version 0.1.0 may lack it
    sha256: str
    weight_bits: float | None
    activation_bits: float | None
    weight_bits_share: dict[str, float] | None  # bits to share of the weights
    per_channel: bool | None
    compute: str | None
    integer_only: bool | None
    float_ops: list[str] | None
    ops: dict[str, int] | None
    input_dtype: str | None
    output_dtype: str | None
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    ties: int | None
    top5: float | None
    worst_class: WorstClass | None
    drop: float | None  # baseline minus variant, on the same images
    drop_low: float | None
    drop_high: float | None
    p_value: float | None
    detectable_drop: float | None  # at 5 % shared by all comparisons of the table
    agreement: float | None
    agreement_low: NotRequired[float | None]  # results of version 0.2.0 and before lack it
    agreement_high: NotRequired[float | None]  # the same
    bytes: int | None
    gzip_bytes: int | None
    ratio: float | None  # float32 bytes over bytes
    latency_ratio: float | None
    latency_ratio_low: float | None
    latency_ratio_high: float | None
    latency_interval: NotRequired[str | None]  # what the two are; results of before lack it
    latency_ratio_by_threads: dict[str, LatencyRatio] | None
    latency_ms: dict[str, Latency] | None
    load_ms: float | None
    peak_memory_bytes: int | None
    arena_bytes: int | None
    targets: NotRequired[dict[str, Verdict] | None]  # by name; older results have `fits` instead
    fits: NotRequired[dict[str, bool | None] | None]  # device class to whether the file is small
    # On the study's target, or on this machine where it names none; older results lack both.
    target_latency_ratio: NotRequired[float | None]
    target_latency_ratio_high: NotRequired[float | None]
    seconds_to_make: float | None
    checkpoint_ratio: float | None
    passed: dict[str, bool | None]  # criterion to whether it is met
    why: dict[str, str]  # field to the reason why it is null


FROM_FACTS = ("technique", "scheme", "engine", "parent", "seed", "trained", "stage", "sha256")
FROM_REPORT = (
    "weight_bits",
    "activation_bits",
    "weight_bits_share",
    "per_channel",
    "compute",
    "integer_only",
    "float_ops",
    "ops",
    "input_dtype",
    "output_dtype",
)
SCORED = ("low", "high", "n", "ties")  # beside the value itself
COMPARED = (
    "drop",
    "drop_low",
    "drop_high",
    "p_value",
    "detectable_drop",
    "agreement",
    "agreement_low",
    "agreement_high",
)
FROM_QUALITY = (*SCORED, "top5", "worst_class", *COMPARED)
FROM_COST = (
    "bytes",
    "gzip_bytes",
    "ratio",
    "latency_ratio",
    "latency_ratio_low",
    "latency_ratio_high",
    "latency_interval",
    "latency_ratio_by_threads",
    "latency_ms",
    "load_ms",
    "peak_memory_bytes",
    "arena_bytes",
    "targets",
)


def as_row(
    variant: Variant,
    quality: dict | None,
    cost: dict | None,
    base_bytes: int | None,
    checkpoint_bytes: int | None = None,
    comparisons: int = 1,
) -> dict[str, Any]:
    """Put a variant's row of the results table together from its records; what is null says why.

    Args:
        variant: The variant; its facts are read.
        quality: Its record of quality on one split, or None.
        cost: Its record of the benchmark, or None.
        base_bytes: Bytes of the float32 file, which `ratio` compares with.
        checkpoint_bytes: Bytes of a training checkpoint with optimizer state, which
            `checkpoint_ratio` compares with.
        comparisons: How many rows of the table are compared with float32; they share the error of
            5 % that `detectable_drop` is computed for, as their p-values do.

    Returns:
        A dictionary with the fields of `ResultRow`.
    """
    facts, cost, quality = variant.facts, cost or {}, quality or {}
    report = cost.get("report") or {}
    row: dict[str, Any] = {"name": variant.name, "kind": facts.get("kind", "variant")}
    row |= {field: facts.get(field) for field in FROM_FACTS} | {
        field: report.get(field) for field in FROM_REPORT
    }
    row |= {"metric": "top1", "value": quality.get("top1")} | {
        field: quality.get(field) for field in FROM_QUALITY
    }
    row["detectable_drop"] = _detectable_drop(quality, comparisons)
    row |= {field: cost.get(field) for field in FROM_COST} | {
        "seconds_to_make": facts.get("seconds")
    }
    row |= {"target_latency_ratio": None, "target_latency_ratio_high": None}  # see `judge_latency`
    row["latency_interval"] = latency_interval(cost)
    row["ratio"] = base_bytes / row["bytes"] if base_bytes and row["bytes"] else None
    peer, baseline = row["kind"] == "peer", row["technique"] == "baseline"
    row["checkpoint_ratio"] = (
        checkpoint_bytes / row["bytes"] if checkpoint_bytes and row["bytes"] and not peer else None
    )
    reasons = _reasons(peer, baseline, evaluated=bool(quality), measured=bool(row["bytes"]))
    reasons |= cost.get("why", {})
    missing = [field for field, value in row.items() if value is None]
    return row | {
        "passed": {},
        "why": {field: reasons.get(field, "not recorded") for field in missing},
    }


def latency_interval(cost: Row) -> str | None:
    """Say what kind of interval a cost, or a row of the results table, has for its latency ratio.

    Returns:
        `MEDIAN_95`, or `PERCENTILES` for what was measured before there was a word; None without an
        interval.
    """
    if cost.get("latency_ratio_low") is None:
        return None
    return cost.get("latency_interval") or PERCENTILES


def _detectable_drop(quality: Mapping[str, Any], comparisons: int) -> float | None:
    if quality.get("discordance") is None:
        return None
    # SciPy takes a second to import, and the command line only shows what was computed.
    from edgeq_lib.measure.statistics import smallest_detectable_drop

    return smallest_detectable_drop(
        quality["n"], quality["discordance"], comparisons=max(comparisons, 1)
    )


def _reasons(peer: bool, baseline: bool, evaluated: bool, measured: bool) -> dict[str, str]:
    """Field → why it is null, if it is."""
    checkpoint = "no checkpoint was measured" if measured else "not benchmarked"
    reasons = {
        "top5": "five classes or fewer" if evaluated else "not evaluated",
        "seed": "it draws no random numbers",
        "parent": "made by others" if peer else "made from the network itself",
        "trained": "made by others" if peer else "nothing was trained for it",
        "checkpoint_ratio": "not of our checkpoint" if peer else checkpoint,
    }
    compared = "what the others are compared with" if baseline else "not evaluated"
    reasons |= dict.fromkeys(COMPARED, compared)
    reasons |= dict.fromkeys(("value", *SCORED, "worst_class"), "not evaluated")
    return reasons | dict.fromkeys((*FROM_COST, *FROM_REPORT), "not benchmarked")


@functools.cache
def _row_adapter() -> Any:
    from pydantic import TypeAdapter, with_config

    return TypeAdapter(with_config({"extra": "forbid", "strict": True})(ResultRow))


def check_row(row: Row) -> None:
    """Check a row of the results table before it is written.

    Raises:
        EdgeqError: If a field is missing, unknown or of the wrong type; the sentence names it.
    """
    from pydantic import ValidationError

    try:
        _row_adapter().validate_python(dict(row))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        problem = first["msg"][:1].lower() + first["msg"][1:]
        raise EdgeqError(
            f"The row of '{row.get('name', '?')}' cannot be written to results.json: the field "
            f"'{field}' is wrong ({problem}); correct what writes it, or the list of fields in "
            "edgeq_lib/analysis/rows.py."
        ) from error


def check_results(results: Mapping[str, Any]) -> None:
    """Check the rows of results.json, and that it names its baseline among them.

    Args:
        results: All of results.json, see DESIGN.md.

    Raises:
        EdgeqError: If a row is malformed, two share a name, or there is no row of the baseline.
    """
    for row in results["variants"]:
        check_row(row)
    names = [row["name"] for row in results["variants"]]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise EdgeqError(
            f"The field 'name' of results.json names '{repeated[0]}' twice; each variant needs a "
            "name of its own."
        )
    if results["baseline"] not in names:
        raise EdgeqError(
            f"The field 'baseline' of results.json names '{results['baseline']}', which is none of "
            "its variants; name the row that the others are compared with."
        )
