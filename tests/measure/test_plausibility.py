"""Traces of a wrong scaling, a wrong order and untrained weights are found, and only these."""

import numpy as np
import pytest

from edgeq_lib.files import EdgeqError
from edgeq_lib.measure import plausibility
from edgeq_lib.models.preprocessing import PREPROCESSING, Preprocessing, usual


def answers(labels, classes, accuracy, rng):
    """Scores whose largest is the true class on about that share of the images."""
    named = np.where(
        rng.random(len(labels)) < accuracy, labels, rng.integers(0, classes, len(labels))
    )
    return np.eye(classes)[named] + rng.uniform(0, 0.1, (len(labels), classes))


@pytest.mark.parametrize("seed", range(12))
def test_a_permuted_order_is_found_and_named(seed):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 15))
    labels = rng.integers(0, classes, 40 * classes)
    order = rng.permutation(classes)
    if (order == np.arange(classes)).mean() > 0.5:
        order = np.roll(np.arange(classes), 1)
    scores = answers(labels, classes, 0.9, rng)[:, order]  # output j is class order[j]
    names = [f"it's {index}" for index in range(classes)]
    with pytest.raises(EdgeqError, match="in another order") as error:
        plausibility.check_baseline(scores, labels, names)
    said = ", ".join("'" + names[index].replace("'", "''") + "'" for index in order)
    assert f"classes: [{said}]" in str(error.value)


@pytest.mark.parametrize("seed", range(12))
def test_the_right_order_passes_whatever_the_network_confuses(seed):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 15))
    labels = rng.integers(0, classes, 40 * classes)
    assert (
        plausibility.check_baseline(answers(labels, classes, 0.6, rng), labels, ["x"] * classes)
        == []
    )


@pytest.mark.parametrize("seed", range(40))
def test_random_scores_never_suggest_an_order_and_always_stop(seed):
    rng = np.random.default_rng(seed)
    classes, n = int(rng.integers(2, 12)), int(rng.integers(40, 200))
    labels, scores = rng.integers(0, classes, n), rng.normal(size=(n, classes))
    order = plausibility.likely_order(scores, labels)
    assert order is None or order[1]["gain"] < plausibility.FAR_ORDER
    labels[rng.random(n) < rng.uniform(0, 0.6)] = 0  # one class may be far more frequent
    constant = np.eye(classes)[np.full(n, 1)]
    with pytest.raises(
        EdgeqError, match="no better than naming the most frequent class.*allow_chance"
    ):
        plausibility.check_baseline(constant, labels, ["x"] * classes)
    assert (
        len(plausibility.check_baseline(constant, labels, ["x"] * classes, allow_chance=True)) == 1
    )


def test_a_few_swapped_classes_are_a_note_not_a_stop():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 30)
    scores = answers(labels, 20, 0.95, rng)
    scores[:, [3, 4]] = scores[:, [4, 3]]
    [note] = plausibility.check_baseline(scores, labels, [str(i) for i in range(20)])
    assert "'2', '4', '3', '5'" in note


def test_one_image_per_class_tells_no_order():
    labels = np.arange(50)
    scores = np.roll(np.eye(50), 1, axis=1)
    assert plausibility.likely_order(scores, labels) is None


def test_an_accuracy_far_below_the_stated_stops():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 400)
    scores = answers(labels, 4, 0.7, rng)
    top1 = 100 * (scores.argmax(-1) == labels).mean()
    assert plausibility.check_baseline(scores, labels, list("abcd"), expected_top1=top1 + 3) == []
    with pytest.raises(EdgeqError, match="far below the 95 % that `expected_top1` states"):
        plausibility.check_baseline(scores, labels, list("abcd"), expected_top1=95)
    with pytest.raises(EdgeqError, match="Because of this."):
        plausibility.check_baseline(
            scores, labels, list("abcd"), expected_top1=95, doubts=["Because of this."]
        )


def photos(rng, classes=4, n=240, channels=3):
    """Images whose brightness is their class."""
    labels = rng.integers(0, classes, n)
    grey = (labels + rng.uniform(0.1, 0.9, n)) * 255 / classes
    pixels = grey[:, None, None, None] + rng.normal(0, 2, (n, 4, 4, channels))
    return np.clip(pixels, 0, 255).astype(np.uint8), labels


def reads(scale: Preprocessing, classes=4):
    """A network that tells brightness apart on pixels scaled so, and only so."""

    def predict(images, preprocess):
        values = preprocess(images).reshape(len(images), -1).mean(1)
        low, high = (
            np.mean((end - np.array(scale.mean)) / np.array(scale.std)) for end in (0, 255)
        )
        centres = low + (np.arange(classes) + 0.5) * (high - low) / classes
        return -np.abs(values[:, None] - centres)

    return predict


def settle(predict, images, labels, stated, **more):
    return plausibility.settle_preprocessing(
        predict, images, labels, stated, classes=["a", "b", "c", "d"], **more
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PREPROCESSING)
def test_the_preprocessing_of_training_is_found(name, channels):
    rng = np.random.default_rng(0)
    images, labels = photos(rng, channels=channels)
    if name not in usual(channels):
        return
    choice = settle(reads(PREPROCESSING[name]), images, labels, None)
    assert choice.preprocessing == PREPROCESSING[name] and not choice.stated and not choice.notes
    assert [row["name"] for row in choice.rows if row["chosen"]] == [name]
    assert len(choice.rows) == len(usual(channels)) and choice.images == len(labels)


def test_an_order_of_the_classes_is_found_with_the_preprocessing_and_named():
    images, labels = photos(np.random.default_rng(0))
    with pytest.raises(
        EdgeqError, match=r"preprocessing 'signed': .*classes: \['d', 'c', 'b', 'a'"
    ):
        settle(reads(PREPROCESSING["signed"]), images, 3 - labels, None)


def blind(images, preprocess):
    """A network that sees the same whatever the scaling, but for a few images."""
    scores = reads(PREPROCESSING["none"])(images, PREPROCESSING["none"])
    scores[: int(abs(preprocess.mean[0])) % 5] = np.eye(4)[0]
    return scores


def test_two_that_are_close_are_asked_for_and_a_scaling_inside_decides():
    images, labels = photos(np.random.default_rng(0))
    with pytest.raises(EdgeqError, match="cannot tell .* % right. from .*: state `preprocessing:`"):
        settle(blind, images, labels, None)
    choice = settle(blind, images, labels, None, scales_inside=True)
    assert choice.preprocessing == PREPROCESSING["none"]


def test_those_that_name_the_same_classes_are_not_asked_for():
    images, labels = photos(np.random.default_rng(0))
    same = lambda images, preprocess: reads(PREPROCESSING["none"])(images, PREPROCESSING["none"])  # noqa: E731
    assert settle(same, images, labels, None).preprocessing in usual(3).values()


def test_a_stated_preprocessing_is_used_and_doubted_where_another_is_far_better():
    images, labels = photos(np.random.default_rng(0))
    own = Preprocessing((10.0,), (300.0,))
    choice = settle(reads(own), images, labels, own)
    assert (
        choice.preprocessing == own and choice.notes == [] and choice.rows[0]["name"] == "as stated"
    )
    choice = settle(reads(PREPROCESSING["unit"]), images, labels, PREPROCESSING["caffe"])
    assert choice.preprocessing == PREPROCESSING["caffe"]
    assert "('caffe')" in choice.notes[0] and "'unit' gets" in choice.notes[0]


def test_untrained_weights_are_asked_about_and_may_be_allowed():
    images, labels = photos(np.random.default_rng(0))
    noise = lambda images, preprocess: np.random.default_rng(  # noqa: E731
        int(abs(preprocess.std[0]))
    ).normal(size=(len(images), 4))
    with pytest.raises(EdgeqError, match="none of the usual preprocessings.*allow_chance: true"):
        settle(noise, images, labels, None)
    assert settle(noise, images, labels, None, allow_chance=True).rows
