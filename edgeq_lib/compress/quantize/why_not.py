"""What a network cannot have, and why: asked before the first long stage, and by each stage.

The reasons are the techniques' own (`why_not` in their modules), so that what 02_baseline shows and
what a stage says when it leaves itself out cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from edgeq_lib.compress.quantize import bn_statistics, converter, qat, qkeras
from edgeq_lib.files import CannotTake
from edgeq_lib.models.network import FloatNetwork


class Part(NamedTuple):
    """A stage, or a part of one, that not every network can have."""

    stage: str
    what: str  # "" for the whole stage
    why_not: Callable[[FloatNetwork], str | None]


PARTS = (
    Part("03_ptq", "files by TensorFlow's converter", converter.why_not),
    Part("04_qat", "", qat.why_not),
    Part("20_data_free", "", bn_statistics.why_not),
    Part("30_low_bit", "simulation, blocks and fine-tuning", qat.why_not),
    Part("31_qkeras", "", qkeras.why_not),
    Part("40_mixed_precision", "fine-tuning", qat.why_not),
)


def missing_parts(network: FloatNetwork) -> list[dict[str, str]]:
    """List what a network cannot have.

    Args:
        network: The float network.

    Returns:
        A record per stage or part of one that cannot run: stage, what ("all" for the whole stage)
        and why.
    """
    reasons = [(part, part.why_not(network)) for part in PARTS]
    return [
        {"stage": part.stage, "what": part.what or "all", "why": why}
        for part, why in reasons
        if why is not None
    ]


def require(stage: str, network: FloatNetwork) -> None:
    """Leave a stage out when it cannot take the network.

    Args:
        stage: A stage in `PARTS`.
        network: The float network.

    Raises:
        CannotTake: With the reason.
    """
    for part in PARTS:
        if part.stage == stage and not part.what and (why := part.why_not(network)) is not None:
            raise CannotTake(why)
