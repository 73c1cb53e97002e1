"""The seed draws the splits and the calibration set, class by class."""

import numpy as np
import pytest
from image_files import photos

from edgeq_lib.data.dataset import load
from edgeq_lib.data.prepare import prepare
from edgeq_lib.data.source import SPLITS
from edgeq_lib.data.splits import _draw, draw_calibration
from edgeq_lib.files import EdgeqError
from edgeq_lib.study import Study


def test_the_seed_decides_and_nothing_else(tmp_path, study):
    one = prepare(study, "digits", 8, 1, seed=1)
    assert prepare(Study("other"), "digits", 8, 1, seed=1) == one
    two = prepare(Study("third"), "digits", 8, 1, seed=2)
    assert two["fingerprint"] != one["fingerprint"]
    assert two["calibration"]["indices"] != one["calibration"]["indices"]


def test_a_given_test_set_is_the_same_at_any_seed(tmp_path, study):
    photos(tmp_path / "p" / "train")
    photos(tmp_path / "p" / "test", first=100)
    prints = [
        prepare(Study(f"s{seed}"), str(tmp_path / "p"), 8, calibration=6, seed=seed)["splits"]
        for seed in (1, 2)
    ]
    assert prints[0]["test"] == prints[1]["test"]
    assert prints[0]["train"]["fingerprint"] != prints[1]["train"]["fingerprint"]


def test_numbers_and_shares(tmp_path, study):
    root = photos(tmp_path / "p")
    manifest = prepare(
        study, str(root), (8, 6), validation=6, test=0.2, limit_train=9, calibration=6
    )
    assert [manifest["splits"][split]["per_class"] for split in SPLITS] == [
        [3] * 3,
        [2] * 3,
        [4] * 3,
    ]
    assert load(study).train.images.shape == (9, 8, 6, 3)
    assert manifest["image_size"] == [8, 6] and manifest["classes"] == ["cat", "dog", "emu"]


def test_prefixes_are_class_mixed(tmp_path, study):
    prepare(study, str(photos(tmp_path / "p")), 8, calibration=6)
    assert all(len(set(getattr(load(study), split).labels[:6])) > 1 for split in SPLITS)


def test_draws_are_stratified_exact_and_leave_no_class_empty():
    labels = np.repeat(np.arange(5), [1, 2, 10, 100, 1000])
    for n in (1, 7, 300, 1000, 1108):  # the last leaves one of each class
        mask = _draw(labels, n, np.random.default_rng(n), True)
        assert mask.sum() == n and np.bincount(labels[~mask], minlength=5).min() >= 1
        share = n / len(labels) * np.bincount(labels)
        assert np.abs(np.bincount(labels[mask], minlength=5) - share).max() <= (
            2 if n < 1108 else 4
        )
    assert _draw(np.arange(1000), 400, np.random.default_rng(0), False).sum() == 400


def test_calibration_is_balanced_as_far_as_classes_go():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [3, 50, 500]))
    chosen = draw_calibration(labels, 33, 0)
    assert len(set(chosen)) == 33 and np.bincount(labels[chosen]).tolist() == [3, 15, 15]
    np.testing.assert_array_equal(chosen, draw_calibration(labels, 33, 0))
    assert not np.array_equal(chosen, draw_calibration(labels, 33, 1))


@pytest.mark.parametrize("n", [0, 1, 21])
def test_a_representative_set_of_no_use(n):
    with pytest.raises(EdgeqError, match=f"representative set of {n} images"):
        draw_calibration(np.zeros(20, np.int64), n, 0)


def test_too_few_images(tmp_path, study):
    root = str(photos(tmp_path / "p", n=4))
    with pytest.raises(EdgeqError, match="representative set of 128 images cannot be drawn from"):
        prepare(study, root, 8)
    with pytest.raises(EdgeqError, match="20 test images cannot be taken from the 12 train images"):
        prepare(study, root, 8, test=20)
    with pytest.raises(EdgeqError, match="0 validation images cannot be taken"):
        prepare(study, root, 8, validation=0)
    with pytest.raises(EdgeqError, match="train images of p have none of the classes '"):
        prepare(study, root, 8, limit_train=2, calibration=2)
    photos(tmp_path / "q" / "train", n=4)
    photos(tmp_path / "q" / "test", n=4, first=100)
    with pytest.raises(EdgeqError, match="brings its own test images"):
        prepare(study, str(tmp_path / "q"), 8, test=3)
