"""Scikit-learn's digits, as they are and made faint."""

import json

import numpy as np
import pytest

from edgeq_lib.data.builtin import digits as builtin
from edgeq_lib.data.dataset import load, prove_disjoint
from edgeq_lib.data.prepare import prepare
from edgeq_lib.data.source import SPLITS
from edgeq_lib.files import digest

# Of scikit-learn's digits, faded: published figures of `faint_digits` rest on these pixels.
FADED = "e2825f90cf1b8d106e60f40f45d53cd8d3776a393970e57f65bcd2756257c6fd"


@pytest.fixture(scope="module")
def sources():
    return builtin.digits(), builtin.faint_digits()


def pixels_of(source):
    """uint8 (n, 8, 8) and the labels, in the order of the source."""
    items = source.pools["train"]
    return np.stack([item.content for item in items]), [item.label for item in items]


def test_digits_with_their_own_splits(study):
    manifest = prepare(study, "digits", 16, 1, calibration=100)
    sizes = {split: manifest["splits"][split]["n"] for split in SPLITS}
    assert sum(sizes.values()) == 1797 and sizes["test"] == round(0.3 * 1797)
    for split in SPLITS:  # stratified: each class has its share of the split
        counts = np.array(manifest["splits"][split]["per_class"])
        shares = (
            sizes[split]
            / 1797
            * np.bincount(np.concatenate([getattr(load(study), name).labels for name in SPLITS]))
        )
        assert np.abs(counts - shares).max() <= 2
    data = load(study)
    assert (
        data.train.images.shape == (sizes["train"], 16, 16, 1)
        and data.train.images.dtype == np.uint8
    )
    assert isinstance(data.train.images, np.memmap) and data.train.labels.dtype == np.int64
    assert data.test.images.max() == 255 and data.test.images.min() == 0
    assert manifest["calibration"]["per_class"] == [10] * 10
    assert data.calibration_images.shape == (100, 16, 16, 1)
    assert not any(prove_disjoint(data).values())
    assert study.read("data") == json.loads(json.dumps(manifest))


def test_the_same_seed_fades_to_the_same_pixels_everywhere(sources):
    plain, faint = sources
    ink, _ = pixels_of(plain)
    assert faint.state == digest(builtin.fade(ink).tobytes()) == FADED
    assert np.array_equal(builtin.fade(ink, seed=3), builtin.fade(ink, seed=3))
    assert not np.array_equal(builtin.fade(ink, seed=3), builtin.fade(ink))


def test_every_digit_occurs_once_and_is_the_same_digit_faint_as_plain(sources, monkeypatch):
    (plain, labels), (faint, faint_labels) = map(pixels_of, sources)
    assert len(plain) == len(faint) == len({image.tobytes() for image in faint}) == 1797
    assert faint_labels == labels and sources[1].classes == [str(digit) for digit in range(10)]
    monkeypatch.setattr(builtin, "NOISE", 0)
    for ink, drawn in zip(plain, builtin.fade(plain).astype(int), strict=True):
        by_ink = drawn.ravel()[np.argsort(ink, axis=None)]
        assert (np.diff(by_ink) >= 0).all(), "more ink is never darker"
        assert by_ink[-1] - by_ink[0] > 10, "no digit has vanished"


def test_paper_has_any_brightness_and_ink_stands_little_above_it():
    ink = np.zeros((1000, 8, 8), np.uint8)
    ink[:, 4:] = 255
    faded = builtin.fade(ink).astype(int)
    paper, drawn = (half.mean(axis=(1, 2)) for half in (faded[:, :4], faded[:, 4:]))
    low, high = builtin.PAPER
    shares = [0.1, 0.5, 0.9]
    assert np.quantile(paper, shares) == pytest.approx(np.quantile([low, high], shares), abs=15)
    assert (drawn - paper).std() < 0.2 * paper.std(), "paper says nothing about ink"
    assert builtin.CONTRAST[0] - 3 < (drawn - paper).min()
    assert (drawn - paper).max() < builtin.CONTRAST[1] + 3


def test_no_pixel_stands_higher_above_its_paper_than_full_ink_and_noise(sources, monkeypatch):
    plain, faint = (pixels_of(source)[0].astype(int) for source in sources)
    monkeypatch.setattr(builtin, "NOISE", 0)  # drawn last, so that paper and ink stay the same
    paper = builtin.fade(np.zeros_like(plain)).astype(int)
    clean = builtin.fade(plain).astype(int)
    monkeypatch.undo()
    assert (np.ptp(paper, axis=(1, 2)) == 0).all() and np.ptp(paper) > 190
    assert (faint - paper).max() <= builtin.CONTRAST[1] + 2 * builtin.NOISE
    assert np.abs(faint - clean).max() == 2 * builtin.NOISE
    assert (faint - clean)[(paper > 20) & (clean < 240)].mean() == pytest.approx(0, abs=0.1)


def test_what_reaches_over_the_ends_of_a_byte_is_cut_not_wrapped(monkeypatch):
    monkeypatch.setattr(builtin, "PAPER", (250, 250))
    bright = builtin.fade(np.full((20, 8, 8), 255, np.uint8))
    assert (bright == 255).all()
    monkeypatch.setattr(builtin, "PAPER", (0, 0))
    dark = builtin.fade(np.zeros((20, 8, 8), np.uint8))
    assert dark.max() <= 2 * builtin.NOISE and (dark == 0).mean() > 0.4
