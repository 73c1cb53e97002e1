"""What a network cannot have, and why: asked before the first long stage, and by each stage.

The reasons are the techniques' own (`why_not` in their modules), so that what 02_baseline shows and
what a stage says when it leaves itself out cannot differ. Whatever trains, or reads batch norms,
needs a Keras network; all else works on the flatbuffer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from edgeq_lib.compress.quantize import bn_statistics, qat, qkeras
from edgeq_lib.files import CannotTake
from edgeq_lib.models.network import FloatNetwork


class Part(NamedTuple):
    """A stage, or a part of one, that not every network can have."""

    stage: str
    what: str  # "" for the whole stage
    needs: str  # what it needs a Keras network for
    check: Callable[[FloatNetwork], str | None]  # of a network that is one


def _trained(network: FloatNetwork) -> str | None:
    return qat.why_not(network.keras)


PARTS = (
    Part("03_ptq", "converter", "TensorFlow's converter starts from Keras", lambda network: None),
    Part("04_qat", "", "training needs a Keras network", _trained),
    Part(
        "20_data_free",
        "",
        "batch norms say what activations hold, and only a Keras network still has them",
        lambda network: bn_statistics.why_not(network.keras, network.to_file()),
    ),
    Part("30_low_bit", "training", "training needs a Keras network", _trained),
    Part(
        "31_qkeras",
        "",
        "QKeras trains Keras networks",
        lambda network: qkeras.why_not(network.keras),
    ),
    Part("40_mixed_precision", "training", "training needs a Keras network", _trained),
)


def why_not(network: FloatNetwork, stage: str, what: str = "") -> str | None:
    """Say why a stage, or a part of one, cannot take a network.

    Args:
        network: The float network.
        stage: A stage in `PARTS`.
        what: Its part; "" for the whole stage.

    Returns:
        The reason, one sentence; None when it can.
    """
    part = next(part for part in PARTS if (part.stage, part.what) == (stage, what))
    if network.keras is None:
        return f"{part.needs[0].upper()}{part.needs[1:]}: {network.reason}."
    return part.check(network)


def missing_parts(network: FloatNetwork) -> list[dict[str, str]]:
    """List what a network cannot have.

    Args:
        network: The float network.

    Returns:
        A record per stage or part of one that cannot run: stage, without ("all of it", or the
        part), why.
    """
    reasons = [(part, why_not(network, part.stage, part.what)) for part in PARTS]
    return [
        {"stage": part.stage, "without": part.what or "all of it", "why": why}
        for part, why in reasons
        if why is not None
    ]


def require(network: FloatNetwork, stage: str) -> None:
    """Leave a stage out when it cannot take the network.

    Args:
        network: The float network.
        stage: A stage in `PARTS`.

    Raises:
        CannotTake: With the reason.
    """
    if (why := why_not(network, stage)) is not None:
        raise CannotTake(why)
