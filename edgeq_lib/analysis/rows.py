"""A variant's row of the results table, from its records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq_lib.study import Variant

if TYPE_CHECKING:
    pass


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
FROM_QUALITY = (
    "low",
    "high",
    "n",
    "ties",
    "top5",
    "worst_class",
    "drop",
    "drop_low",
    "drop_high",
    "p_value",
    "detectable_drop",
    "agreement",
)
FROM_COST = (
    "bytes",
    "gzip_bytes",
    "ratio",
    "latency_ratio",
    "latency_ratio_low",
    "latency_ratio_high",
    "latency_ratio_by_threads",
    "latency_ms",
    "load_ms",
    "peak_memory_bytes",
    "arena_bytes",
    "fits",
)
COMPARED = ("drop", "drop_low", "drop_high", "p_value", "detectable_drop", "agreement")


def as_row(
    variant: Variant,
    quality: dict | None,
    cost: dict | None,
    base_bytes: int | None,
    checkpoint_bytes: int | None = None,
) -> dict:
    """A variant's row of the results table, from its records of quality (one split) and cost; what is null says why.

    `ratio` compares with the float32 file of `base_bytes`, `checkpoint_ratio` with a checkpoint with optimizer state.
    """
    facts, cost, quality = variant.facts, cost or {}, quality or {}
    report = cost.get("report") or {}
    row = {"name": variant.name, "kind": facts.get("kind", "variant")}
    row |= {field: facts.get(field) for field in FROM_FACTS} | {
        field: report.get(field) for field in FROM_REPORT
    }
    row |= {"metric": "top1", "value": quality.get("top1")} | {
        field: quality.get(field) for field in FROM_QUALITY
    }
    row |= {field: cost.get(field) for field in FROM_COST} | {
        "seconds_to_make": facts.get("seconds")
    }
    row["ratio"] = base_bytes / row["bytes"] if base_bytes and row["bytes"] else None
    peer, baseline = row["kind"] == "peer", row["technique"] == "baseline"
    row["checkpoint_ratio"] = (
        checkpoint_bytes / row["bytes"] if checkpoint_bytes and row["bytes"] and not peer else None
    )
    why = {
        "top5": "five classes or fewer" if quality else "not evaluated",
        "seed": "it draws no random numbers",
        "parent": "made by others" if peer else "made from the network itself",
        "trained": "made by others" if peer else "nothing was trained for it",
        "checkpoint_ratio": "not of our checkpoint"
        if peer
        else "no checkpoint was measured"
        if row["bytes"]
        else "not benchmarked",
    }
    why |= dict.fromkeys(
        COMPARED, "what the others are compared with" if baseline else "not evaluated"
    )
    why |= dict.fromkeys(("value", *FROM_QUALITY[:4], "worst_class"), "not evaluated")
    why |= dict.fromkeys((*FROM_COST, *FROM_REPORT), "not benchmarked") | cost.get("why", {})
    return row | {
        "passed": {},
        "why": {
            field: why.get(field, "not recorded") for field, value in row.items() if value is None
        },
    }
