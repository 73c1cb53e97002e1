"""The table of techniques: what each is called, how it is drawn, and what it asks of the user.

The decision flow, the report's words and the colours and markers of all figures derive from it, so
a new technique is one line here. Colours are safe for colour-blind readers (Okabe & Ito 2008, then
Paul Tol's muted scheme).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Effort = Literal["ptq", "recovery", "training"]


class Technique(NamedTuple):
    """One line of the table."""

    name: str  # the key in records and in results.json
    label: str  # short, for legends
    words: str  # as a sentence calls it
    colour: str  # of its markers; text stays dark
    marker: str  # of matplotlib
    effort: Effort | None  # None: nothing was compressed by us
    asks: str  # of whoever applies it


RECOVERED = "post-training quantization, recovered"
# What techniques ask of the user.
NET = "nothing but the network"
PICKED = "the network, and validation images with labels to pick the rounding by"
IMAGES = "images without labels and some minutes"
TRAIN = "training images and a network that can be trained again"
PAIR = "training images and a teacher network"
MANY = "training images and the time to train many networks"

TABLE = (
    Technique("baseline", "float32", "float32 baseline", "#333333", "s", None, NET),
    Technique("ptq", "PTQ", "post-training quantization", "#0072B2", "o", "ptq", IMAGES),
    Technique("ptq_recovery", "PTQ recovery", RECOVERED, "#56B4E9", "p", "recovery", IMAGES),
    Technique("qat", "QAT", "quantization-aware training", "#D55E00", "D", "training", TRAIN),
    Technique(
        "data_free", "data-free", "data-free quantization", "#009E73", "^", "recovery", PICKED
    ),
    Technique("low_bit", "low-bit", "low-bit quantization", "#CC79A7", "v", "recovery", IMAGES),
    Technique("mixed_precision", "mixed", "mixed precision", "#E69F00", "P", "recovery", IMAGES),
    Technique("peer", "published peer", "published peer", "#888888", "*", None, "nothing"),
    Technique("pruning", "pruning", "pruning", "#882255", "h", "training", TRAIN),
    Technique(
        "distillation", "distilled", "knowledge distillation", "#44AA99", "<", "training", PAIR
    ),
    Technique("low_rank", "low rank", "low-rank factorization", "#117733", ">", "training", TRAIN),
    Technique("search", "search", "architecture search", "#AA4499", "d", "training", MANY),
    Technique("clustering", "clustering", "weight clustering", "#999933", "H", "training", TRAIN),
)
BY_NAME = {technique.name: technique for technique in TABLE}


def label_of(name: str) -> str:
    """Return the short label of a technique; one that the table does not know keeps its name."""
    return BY_NAME[name].label if name in BY_NAME else name.replace("_", " ")
