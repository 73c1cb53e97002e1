"""Is the float baseline what its maker measured? Checks on validation before anything rests on it.

A wrong scaling of pixels, a wrong order of classes and untrained weights all give a number that
looks like any other. Each is found by what it leaves behind on labelled images:

1. Preprocessing (`settle_preprocessing`): the usual ones are tried on the same images and compared
   by a paired test (mid-p McNemar, adjusted by Holm, see `statistics`).
2. Class order (`likely_order`): the assignment of outputs to classes that explains most labels is
   the optimum of a linear sum assignment on the confusion matrix (Kuhn 1955,
   doi:10.1002/nav.3800020109). It is fitted on one half of the images and judged on the other, so
   that what it gains is no artefact of fitting.
3. Chance (`check_baseline`): an accuracy whose interval does not clear the share of the most
   frequent class says nothing about a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from scipy.optimize import linear_sum_assignment

from edgeq_lib.files import EdgeqError
from edgeq_lib.measure.statistics import accuracy, correctness, holm, mid_p, paired
from edgeq_lib.models.preprocessing import Preprocessing, usual

Predict = Callable[[np.ndarray, Preprocessing], np.ndarray]  # uint8 images → scores (n, classes)
SAMPLE = 400  # validation images that preprocessings are tried on
CLOSE = 0.05  # two preprocessings whose paired test gives at least this p are close
SURE = 0.01  # p below which another preprocessing, or another order, counts as better
FAR = 5.0  # points by which a stated preprocessing, or a stated accuracy, must be missed
FAR_ORDER = 20.0  # points that another order of the classes must gain
NAMES_SHOWN = 60  # classes that a sentence lists


@dataclass(frozen=True)
class Choice:
    """The preprocessing of a study, and why.

    Attributes:
        preprocessing: The one to use.
        rows: A record per preprocessing tried: name, top1, low, high (percent), p_value against the
            best (None for the best itself, and for one that names the same classes), chosen.
        images: How many validation images they were tried on.
        stated: The study's file states it.
        notes: What the page and the notebook must say, one sentence each.
    """

    preprocessing: Preprocessing
    rows: list[dict[str, Any]] = field(default_factory=list)
    images: int = 0
    stated: bool = True
    notes: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """As the baseline's record holds it."""
        return {"stated": self.stated, "images": self.images, "rows": self.rows}


def settle_preprocessing(
    predict: Predict,
    images: np.ndarray,
    labels: np.ndarray,
    stated: Preprocessing | None,
    *,
    classes: Sequence[str],
    scales_inside: bool = False,
    allow_chance: bool = False,
) -> Choice:
    """Try the usual preprocessings on validation, and take the stated or the best one.

    Args:
        predict: The float network: uint8 images and a preprocessing → scores (n, classes).
        images: Validation, uint8 (n, H, W, C); at most `SAMPLE` of them, evenly spread, are used.
        labels: int64 (n,).
        stated: The study's preprocessing; None to choose.
        classes: Their names, in the order of the outputs.
        scales_inside: The network scales pixels itself, so that "none" is taken whenever nothing
            is better than it.
        allow_chance: The user says that the weights may be untrained: take the best, however close.

    Returns:
        The choice. A stated preprocessing is always taken; a note says when another one is far
        better.

    Raises:
        EdgeqError: Nothing is stated, and the images cannot tell which one is right, or another
            order of the classes explains them far better.
    """
    sample = np.unique(np.linspace(0, len(labels) - 1, min(SAMPLE, len(labels))).astype(int))
    pixels, labels = np.asarray(images[sample]), np.asarray(labels)[sample]
    candidates = usual(images.shape[-1])
    name_of_stated = next((name for name, one in candidates.items() if one == stated), "as stated")
    if stated is not None:
        candidates = {name_of_stated: stated} | candidates
    elif scales_inside:
        candidates = {"none": candidates["none"]} | candidates  # the first of equals is taken
    scores = {name: predict(pixels, one) for name, one in candidates.items()}
    right = {name: correctness(part, labels)[0] for name, part in scores.items()}
    best = max(right, key=lambda name: right[name].sum())
    p_values = _against(best, scores, right)
    close = [name for name, p in p_values.items() if p is not None and p >= CLOSE]
    chosen = best
    if stated is not None:
        chosen = name_of_stated
    elif scales_inside and "none" in (best, *close):
        chosen = "none"
    elif not allow_chance:
        if _is_chance(right[best], labels):
            _refuse_chance(scores, right, labels, best, classes)
        _ask_where_close(right, len(labels), best, close)
    rows = [_row(name, right[name], p_values[name], name == chosen) for name in candidates]
    notes = []
    if stated is not None:
        notes = _note_where_far(name_of_stated, best, scores, right)
    return Choice(candidates[chosen], rows, len(labels), stated is not None, notes)


def _against(
    name: str, scores: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]
) -> dict[str, float | None]:
    """Adjusted p-values of one against each other; None where both name the same classes."""
    named = {key: part.argmax(-1) for key, part in scores.items()}
    raw = [
        None
        if np.array_equal(named[key], named[name])
        else paired(right[name], right[key])["p_value"]
        for key in scores
    ]
    return dict(zip(scores, holm(raw), strict=True))


def _row(name: str, right: np.ndarray, p_value: float | None, chosen: bool) -> dict[str, Any]:
    top1, low, high = accuracy(right)
    return {
        "name": name,
        "top1": top1,
        "low": low,
        "high": high,
        "p_value": p_value,
        "chosen": chosen,
    }


def _refuse_chance(
    scores: Mapping[str, np.ndarray],
    right: Mapping[str, np.ndarray],
    labels: np.ndarray,
    best: str,
    classes: Sequence[str],
) -> NoReturn:
    """Raise where no preprocessing gives more than chance: an order of the classes may."""
    orders = {name: order for name in scores if (order := likely_order(scores[name], labels))}
    if orders:
        name = max(orders, key=lambda name: orders[name][1]["other"])
        if orders[name][1]["gain"] >= FAR_ORDER:
            sentence = _order_sentence(*orders[name], classes, len(labels))
            raise EdgeqError(f"With the preprocessing '{name}': {sentence}")
    raise EdgeqError(
        f"With none of the usual preprocessings is the model better than the most frequent class "
        f"(at best {_percent(right[best])} of {len(labels)} validation images, with '{best}'): "
        "state `preprocessing:` in the section 'baseline', check the order of the classes, or set "
        "`allow_chance: true` there if its weights are untrained."
    )


def _ask_where_close(
    right: Mapping[str, np.ndarray], n: int, best: str, close: Sequence[str]
) -> None:
    """Raise where the study's file does not state the preprocessing and the images do not tell."""
    if close:
        rival = max(close, key=lambda name: right[name].sum())
        raise EdgeqError(
            f"The model's preprocessing is not stated, and {n} validation images cannot tell "
            f"'{best}' ({_percent(right[best])} right) from '{rival}' "
            f"({_percent(right[rival])}): state `preprocessing:` in the section 'baseline', as the "
            "model was trained."
        )


def _note_where_far(
    stated: str, best: str, scores: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]
) -> list[str]:
    gain = 100 * float(right[best].mean() - right[stated].mean())
    p_value = _against(stated, scores, right)[best]
    if p_value is None or p_value >= SURE or gain < FAR:
        return []
    return [
        f"The stated preprocessing ('{stated}') gets {_percent(right[stated])} of "
        f"{len(right[stated])} validation images where '{best}' gets {_percent(right[best])}: "
        "check `preprocessing` in the section 'baseline'."
    ]


def _percent(right: np.ndarray) -> str:
    return f"{100 * right.mean():.1f} %"


def _is_chance(right: np.ndarray, labels: np.ndarray) -> bool:
    """Whether neither interval shows the network to be better than always the same class."""
    counts = np.bincount(labels)
    above_share = accuracy(right)[1] > 100 * counts.max() / len(labels)
    constant = (labels == counts.argmax()).astype(float)
    return not above_share and paired(constant, right)["drop_high"] >= 0


def confusion(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count how often each output is the largest on images of each class.

    Args:
        outputs: Scores (n, classes).
        labels: True classes, integers (n,).

    Returns:
        Counts (classes, outputs).
    """
    counts = np.zeros((outputs.shape[1],) * 2)
    np.add.at(counts, (labels, outputs.argmax(-1)), 1)
    return counts


def best_assignment(counts: np.ndarray) -> np.ndarray:
    """Assign each output to one class so that most labels are explained.

    Args:
        counts: See `confusion`.

    Returns:
        The class of each output, integers (outputs,). Where nothing decides, an output keeps its
        own.
    """
    own = np.eye(len(counts)) / (2 * len(counts))
    classes, outputs = linear_sum_assignment(counts + own, maximize=True)
    order = np.empty(len(counts), int)
    order[outputs] = classes
    return order


def likely_order(outputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, dict] | None:
    """Find an order of the classes that explains the labels far better than the study's.

    Args:
        outputs: Scores (n, classes) on validation.
        labels: True classes, integers (n,).

    Returns:
        The class of each output, and what was found: stated and other (accuracy in percent, the
        latter on images that the order was not fitted on), gain (points), p_value. None when no
        order is better beyond doubt.
    """
    named, right = outputs.argmax(-1), correctness(outputs, labels)[0]
    halves = np.empty(len(labels), int)
    for label in np.unique(labels):  # each class in both halves
        inside = np.flatnonzero(labels == label)
        halves[inside] = np.arange(len(inside)) % 2
    other = np.zeros(len(labels))
    for half in (0, 1):
        fit, judge = halves != half, halves == half
        order = best_assignment(confusion(outputs[fit], labels[fit]))
        other[judge] = order[named[judge]] == labels[judge]
    order = best_assignment(confusion(outputs, labels))
    moved = np.isin(labels, np.flatnonzero(order != np.arange(len(order))))
    lost, won = ((right - other).clip(0).sum(), (other - right).clip(0).sum())
    facts = {
        "stated": 100 * float(right.mean()),
        "other": 100 * float(other.mean()),
        "gain": 100 * float(other.mean() - right.mean()),
        "p_value": mid_p(float(lost), float(won)),
    }
    if not moved.any() or facts["p_value"] >= SURE or facts["gain"] <= 0:
        return None
    if _is_chance(other, labels):  # a network that names one class fits another one as well
        return None
    is_poor = right[moved].mean() < other[moved].mean() / 2
    return (order, facts) if is_poor else None


def check_baseline(
    outputs: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    expected_top1: float | None = None,
    allow_chance: bool = False,
    doubts: Sequence[str] = (),
) -> list[str]:
    """Stop a study whose float baseline cannot be what its maker measured.

    Args:
        outputs: Scores (n, classes) of the float flatbuffer on validation.
        labels: True classes, integers (n,).
        classes: Their names, in the order of the outputs.
        expected_top1: The accuracy in percent that the user knows; None for none.
        allow_chance: Go on with weights that are untrained; what would stop the study is a note
            then.
        doubts: Notes about the preprocessing (see `Choice`), the likely cause of a stop.

    Returns:
        What the page and the notebook must say, one sentence each, `doubts` first; mostly nothing.

    Raises:
        EdgeqError: Another order of the classes explains the labels far better; or the baseline is
            no better than the most frequent class; or it is far below `expected_top1`.
    """
    right = correctness(outputs, labels)[0]
    top1, low, high = accuracy(right)
    measured = f"{top1:.1f} % of {len(labels)} validation images ({low:.1f} … {high:.1f})"
    stops: list[str] = []
    notes: list[str] = []
    order = likely_order(outputs, labels)
    if order is not None:
        far = order[1]["gain"] >= FAR_ORDER
        (stops if far else notes).append(_order_sentence(*order, classes, len(labels)))
    if _is_chance(right, labels):
        share = 100 * np.bincount(labels).max() / len(labels)
        stops.append(
            f"The float model gets {measured}, which is no better than naming the most frequent "
            f"class ({share:.1f} %); likely causes are `preprocessing`, the order of `classes`, or "
            "untrained weights (`allow_chance: true` in the section 'baseline' goes on all the "
            "same)."
        )
    if expected_top1 is not None and high < expected_top1 and expected_top1 - top1 >= FAR:
        stops.append(
            f"The float model gets {measured}, far below the {expected_top1:g} % that "
            "`expected_top1` states; likely causes are `preprocessing`, the order of `classes`, or "
            "weights that are not the ones meant."
        )
    if stops and not allow_chance:
        raise EdgeqError([*doubts, *stops][0])
    return [*doubts, *stops, *notes]


def _order_sentence(
    order: np.ndarray, facts: Mapping[str, float], classes: Sequence[str], n: int
) -> str:
    names = [classes[index] for index in order]
    listed = ", ".join(_quoted(name) for name in names[:NAMES_SHOWN])
    more = ", …" if len(names) > NAMES_SHOWN else ""
    return (
        f"The model's outputs fit the order of the class folders on {facts['stated']:.1f} % of {n} "
        f"validation images, and on {facts['other']:.1f} % in another order: state "
        f"`classes: [{listed}{more}]` in the section 'data' if the model was trained so."
    )


def _quoted(name: str) -> str:
    """A name as YAML takes it inside brackets."""
    return "'" + name.replace("'", "''") + "'"
