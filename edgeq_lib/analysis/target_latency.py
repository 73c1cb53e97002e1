"""Whose latency a criterion is judged by: that of the study's target, where it was measured.

A latency ratio travels to machines of the same instruction sets and to no other. So a study that
names a target is judged by a machine that is it: this one, or a board whose benchmark was imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeq_lib import targets

FIELDS = ("target_latency_ratio", "target_latency_ratio_high")


def judge_latency(
    rows: Sequence[dict[str, Any]],
    target: str,
    here: Mapping[str, Any],
    boards: Sequence[Mapping[str, Any]],
) -> None:
    """Fill in the latency that the criterion `max_latency_ratio` bounds, in place.

    Args:
        rows: Rows of the results table, with this machine's latency.
        target: The study's target, or `targets.ANY`: then this machine's latency counts.
        here: The record of this machine.
        boards: What other machines measured (`Study.boards`).
    """
    own = None if target == targets.ANY else targets.load(target)
    is_here = own is None or own.is_machine(here)
    its = [board for board in boards if own and own.is_machine(board["machine"])]
    for row in rows:
        costs = row if is_here else its[0]["variants"].get(row["name"]) or {} if its else {}
        reason = row["why"].get("latency_ratio", "not measured on this machine")
        if not is_here:
            reason = f"not measured on the target ({target})"
        for field in FIELDS:
            row[field] = costs.get(field.removeprefix("target_"))
            row["why"].pop(field, None)
            if row[field] is None:
                row["why"][field] = reason
