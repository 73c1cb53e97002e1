"""How sure a measured accuracy is: intervals, paired tests against the baseline, a rule for ties.

1. Correctness of each image (`correctness`). An integer softmax has few levels, so the true class
   often shares its rank with others. Their order is then taken as random, and an image counts as
   the probability of being right, a number from 0 to 1.
2. Accuracy with its Wilson interval (`accuracy`): Wilson 1927, doi:10.1080/01621459.1927.10502953.
3. The paired difference from the baseline (`paired`): interval of Bonett & Price 2012,
   doi:10.3102/1076998611411915, and mid-p McNemar test of Fagerland, Lydersen & Laake 2013,
   doi:10.1186/1471-2288-13-91.
4. The minimum detectable effect (`smallest_detectable_drop`): Connor 1987, doi:10.2307/2531961.
5. Adjustment for many variants (`holm`): Holm 1979.
6. Any two files on the same images (`only_one_right`), for the same test.

Rates are in percent, differences in percent points, intervals of 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.special import betainc
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from edgeq_lib.files import EdgeqError

CONFIDENCE = 0.95
TOP5_CLASSES = 5


def _check(outputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and labels as arrays that go together and hold no NaN."""
    outputs, labels = np.asarray(outputs), np.asarray(labels)
    if outputs.ndim != 2 or labels.shape != outputs.shape[:1] or len(labels) == 0:
        raise EdgeqError(
            f"Outputs of shape {outputs.shape} do not go with labels of shape {labels.shape}: one "
            "row of class scores per image is needed, and at least one image."
        )
    if labels.min() < 0 or labels.max() >= outputs.shape[1]:
        raise EdgeqError(
            f"Labels run from {labels.min()} to {labels.max()}, but the model has "
            f"{outputs.shape[1]} outputs: give it the data set that it was trained for."
        )
    broken = 0 if outputs.dtype.kind in "iu" else int(np.isnan(outputs).any(axis=1).sum())
    if broken:
        raise EdgeqError(
            f"The model answers NaN on {broken} of {len(labels)} images: look for NaN in its "
            "weights or in the images."
        )
    return outputs, labels


def ranks(outputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank the true class of each image.

    Args:
        outputs: Scores (n, classes), of any number type.
        labels: True classes, integers (n,).

    Returns:
        How many classes score above the true one, and how many share its score (itself included);
        both int64 (n,).

    Raises:
        EdgeqError: Shapes or labels do not fit, or an output is NaN.
    """
    outputs, labels = _check(outputs, labels)
    own = np.take_along_axis(outputs, labels[:, None], axis=1)
    return (outputs > own).sum(axis=1), (outputs == own).sum(axis=1)


def correctness(outputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Compute the probability of being right, top-1 and top-5, and count the ties.

    An image whose true class shares the first rank with k - 1 others counts 1/k; for the top five
    it counts the chance to be among them when the tied classes are ordered at random.

    Args:
        outputs: Scores (n, classes), of any number type.
        labels: True classes, integers (n,).

    Returns:
        top1 and top5, float64 (n,) from 0 to 1, and the number of images whose first rank is
        shared, whether or not the true class is among those that share it.

    Raises:
        EdgeqError: Shapes or labels do not fit, or an output is NaN.
    """
    above, tied = ranks(outputs, labels)
    top1, top5 = (np.clip((k - above) / tied, 0.0, 1.0) for k in (1, TOP5_CLASSES))
    outputs = np.asarray(outputs)
    ties = int(((outputs == outputs.max(axis=1, keepdims=True)).sum(axis=1) > 1).sum())
    return top1, top5, ties


def accuracy(correct: np.ndarray) -> tuple[float, float, float]:
    """Compute the percentage correct with its 95 % Wilson (1927) interval.

    Args:
        correct: Correctness of each image, (n,) from 0 to 1. Fractions from ties just add up.

    Returns:
        Accuracy, and the lower and upper bound of the interval, in percent.

    Raises:
        EdgeqError: There is no image.
    """
    n = len(correct)
    if n == 0:
        raise EdgeqError("There is no image to measure accuracy on: the split is empty.")
    hits = float(np.sum(correct))
    low, high = proportion_confint(hits, n, alpha=1 - CONFIDENCE, method="wilson")
    return 100 * hits / n, 100 * float(low), 100 * float(high)


def _discordant(base: np.ndarray, variant: np.ndarray) -> tuple[float, float]:
    """Images lost and images won, as sums of what each image's correctness fell or rose by.

    For whole values these are McNemar's two counts. For ties it is the smallest discordance that
    agrees with both files, so that a file compared with itself has none.
    """
    base, variant = np.asarray(base, float), np.asarray(variant, float)
    if base.shape != variant.shape or base.ndim != 1 or len(base) == 0:
        raise EdgeqError(
            f"A paired test needs the same images on both sides, not {base.shape} against "
            f"{variant.shape}: make the predictions of both variants again."
        )
    change = base - variant
    return float(change[change > 0].sum()), float(-change[change < 0].sum())


def mid_p(lost: float, won: float) -> float:
    """Compute the two-sided mid-p McNemar test.

    Fagerland, Lydersen & Laake 2013, doi:10.1186/1471-2288-13-91. The binomial tail is written as
    an incomplete beta function: exact for whole counts, and a smooth line between them for the
    fractions that ties bring.

    Args:
        lost: Images that only the baseline gets right.
        won: Images that only the variant gets right.

    Returns:
        The p-value; 1 without discordance.
    """
    small, total = min(lost, won), lost + won
    if total == 0:
        return 1.0
    below = betainc(total - small + 1, small, 0.5) if small > 0 else 0.0
    return float(betainc(total - small, small + 1, 0.5) + below)


def paired(correct_base: np.ndarray, correct_variant: np.ndarray) -> dict[str, float]:
    """Compare a variant with the baseline on the same images.

    The 95 % interval of the drop is Bonett & Price's adjusted Wald interval for paired proportions
    (2012, doi:10.3102/1076998611411915): it adds one image to each discordant count, so it does not
    shrink to nothing when the two files agree on all images.

    Args:
        correct_base: Correctness of each image with the baseline, (n,) from 0 to 1.
        correct_variant: The same with the variant.

    Returns:
        drop (baseline minus variant), drop_low and drop_high in percent points, and p_value
        (`mid_p`).

    Raises:
        EdgeqError: The two are not of the same images, or there is none.
    """
    lost, won = _discordant(correct_base, correct_variant)
    n = len(correct_base)
    plus, minus = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    half = norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt((plus + minus - (plus - minus) ** 2) / (n + 2))
    low, high = (float(np.clip(100 * (plus - minus + sign * half), -100, 100)) for sign in (-1, 1))
    return {
        "drop": 100 * (lost - won) / n,
        "drop_low": low,
        "drop_high": high,
        "p_value": mid_p(lost, won),
    }


def discordance(correct_base: np.ndarray, correct_variant: np.ndarray) -> float:
    """Compute the share of images on which exactly one of two files is right.

    Args:
        correct_base: Correctness of each image with the baseline, (n,) from 0 to 1.
        correct_variant: The same with the variant.

    Returns:
        The share, 0 to 1.

    Raises:
        EdgeqError: The two are not of the same images, or there is none.
    """
    return sum(_discordant(correct_base, correct_variant)) / len(correct_base)


def smallest_detectable_drop(
    n: int, discordance: float, power: float = 0.8, comparisons: int = 1
) -> float:
    """Compute the minimum detectable effect of a paired test at 5 %, shared by all comparisons.

    Connor's (1987, doi:10.2307/2531961) sample size for McNemar's test, solved for the difference,
    at the discordance observed. A drop d needs a discordance of d at least: with little or none
    observed the smallest drop is one that makes all of the discordance itself, about 8 images of n,
    hence no rule of three is needed. Errs towards a larger drop where few images differ.

    Args:
        n: Number of images.
        discordance: Share of images, 0 to 1, on which exactly one of the two files is right.
        power: Probability with which the drop would have been seen.
        comparisons: How many comparisons the test is one of. The test is then at 5 % over their
            number, the first and strictest step of `holm`: what passes it passes Holm.

    Returns:
        The drop in percent points; 100 when no drop would have been seen.
    """
    alpha, beta = norm.isf((1 - CONFIDENCE) / 2 / comparisons), norm.ppf(power)

    def excess(drop: float) -> float:
        differing = max(discordance, drop)
        return drop * np.sqrt(n) - alpha * np.sqrt(differing) - beta * np.sqrt(differing - drop**2)

    return 100.0 if excess(1.0) <= 0 else 100 * float(brentq(excess, 1e-12, 1.0))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values for their number (Holm 1979, Scandinavian Journal of Statistics 6:65-70).

    Args:
        p_values: p-values; None for what was not compared, which does not count.

    Returns:
        The adjusted p-values, in the same order; None stays None.
    """
    compared = [p for p in p_values if p is not None]
    adjusted = iter(multipletests(compared, method="holm")[1] if compared else [])
    return [None if p is None else float(next(adjusted)) for p in p_values]


def same_class(outputs_a: np.ndarray, outputs_b: np.ndarray) -> np.ndarray:
    """Tell on which images two files name the same class.

    Args:
        outputs_a: Scores (n, classes) of one file; of tied classes it names the first.
        outputs_b: Those of the other.

    Returns:
        bool (n,).

    Raises:
        EdgeqError: The shapes differ.
    """
    if np.shape(outputs_a) != np.shape(outputs_b):
        raise EdgeqError(
            f"Outputs of shape {np.shape(outputs_a)} and {np.shape(outputs_b)} cannot be compared: "
            "make the predictions of both variants again."
        )
    return np.argmax(outputs_a, axis=1) == np.argmax(outputs_b, axis=1)


def agreement(outputs_a: np.ndarray, outputs_b: np.ndarray) -> float:
    """Compute the percentage of images on which two files name the same class.

    Args:
        outputs_a: As in `same_class`.
        outputs_b: As in `same_class`.

    Returns:
        The agreement in percent.

    Raises:
        EdgeqError: The shapes differ.
    """
    return 100 * float(np.mean(same_class(outputs_a, outputs_b)))


def only_one_right(correct: Sequence[np.ndarray]) -> np.ndarray:
    """Count for any two files the images that only one of them gets right.

    Args:
        correct: Correctness of each image with each file, (n,) from 0 to 1.

    Returns:
        float64 (files, files): row i, column j counts what i gets right and j does not, ties by
        their fractions as in `paired`. `mid_p` of [i, j] and [j, i] tests the two files.
    """
    table = np.asarray(correct, float)
    return np.array([np.clip(own - table, 0, None).sum(axis=1) for own in table])


def worst_class(correct: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict:
    """Find the class with the lowest top-1, the first of equals.

    Args:
        correct: Correctness of each image, (n,) from 0 to 1.
        labels: True classes, integers (n,).
        names: Of the classes. Those without images are left out.

    Returns:
        name, top1 in percent, and n (images of that class).
    """
    counts = np.bincount(labels, minlength=len(names))
    hits = np.bincount(labels, weights=correct, minlength=len(names))
    rate = np.where(counts > 0, 100 * hits / np.maximum(counts, 1), np.inf)
    worst = int(np.argmin(rate))
    return {"name": names[worst], "top1": float(rate[worst]), "n": int(counts[worst])}


def quality_record(
    outputs: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    base_outputs: np.ndarray | None = None,
) -> dict:
    """Make the record of one split: accuracy, and the comparison with the baseline.

    Args:
        outputs: Scores (n, classes), of any number type.
        labels: True classes, integers (n,).
        classes: Names of the classes.
        base_outputs: The baseline's scores on the same images; None for the baseline itself.

    Returns:
        n; top1, low and high (95 % interval) and top5 in percent, the latter None for five classes
        or fewer, where it would say nothing; ties; worst_class; and, None without `base_outputs`,
        drop, drop_low and drop_high (percent points), p_value (not yet adjusted for many variants),
        discordance (share of images, 0 to 1, for `smallest_detectable_drop`), and agreement with
        its 95 % Wilson interval, agreement_low to agreement_high (percent).

    Raises:
        EdgeqError: Shapes or labels do not fit, or an output is NaN.
    """
    top1, top5, ties = correctness(outputs, labels)
    value, low, high = accuracy(top1)
    record = {
        "n": len(top1),
        "top1": value,
        "low": low,
        "high": high,
        "top5": 100 * float(top5.mean()) if len(classes) > TOP5_CLASSES else None,
        "ties": ties,
        "worst_class": worst_class(top1, labels, classes),
        "drop": None,
        "drop_low": None,
        "drop_high": None,
        "p_value": None,
        "discordance": None,
        "agreement": None,
        "agreement_low": None,
        "agreement_high": None,
    }
    if base_outputs is not None:
        base = correctness(base_outputs, labels)[0]
        record |= paired(base, top1)
        record["discordance"] = discordance(base, top1)
        share = accuracy(same_class(base_outputs, outputs))
        record |= dict(zip(("agreement", "agreement_low", "agreement_high"), share, strict=True))
    return record
