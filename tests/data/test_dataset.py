"""Checks that images must pass once they are decoded."""

import numpy as np
import pytest

from edgeq_lib.data.dataset import (
    Data,
    check_calibration,
    check_images,
    load,
    open_split,
    pixel_hash,
    prove_disjoint,
)
from edgeq_lib.data.prepare import prepare
from edgeq_lib.files import EdgeqError


def test_shared_images_are_an_error(study):
    prepare(study, "digits", 8, 1)
    data = load(study)
    spoilt = Data(data.train, data.train, data.test, data.classes, data.calibration, data.manifest)
    with pytest.raises(EdgeqError, match="Train and validation share 8"):
        prove_disjoint(spoilt)


def test_representative_images_of_no_use():
    good = np.random.default_rng(0).random((4, 8, 8, 3)).astype(np.float32)
    check_calibration(good)
    check_calibration((good * 255).astype(np.uint8))
    flat = np.ones((4, 8, 8, 3), np.float32) * np.arange(12, dtype=np.float32).reshape(4, 1, 1, 3)
    for bad, why in (
        (good[:0], "no images"),
        (good[:1], "one image"),
        (flat, "constant"),
        (np.repeat(good[:1], 5, axis=0), "all the same"),
    ):
        with pytest.raises(EdgeqError, match=why):
            check_calibration(bad)
    good[2, 3, 3, 1] = np.nan
    with pytest.raises(EdgeqError, match="Image 2 of the representative set holds NaN"):
        check_calibration(good)


def test_nan_images_are_named():
    array = np.zeros((600, 4, 4, 1), np.float32)
    check_images(array)
    array[555, 0, 0, 0] = np.inf
    with pytest.raises(EdgeqError, match="Image 555 of the photos"):
        check_images(array, "the photos")
    with pytest.raises(EdgeqError, match="shape"):
        check_images(array[0])


def test_a_hash_tells_pixels_apart_however_they_lie_in_memory():
    image = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
    turned = np.asfortranarray(image)
    assert pixel_hash(turned) == pixel_hash(image) and len(pixel_hash(image)) == 16
    other = image.copy()
    other[5, 5, 2] ^= 1
    assert pixel_hash(other) != pixel_hash(image)


def test_images_and_labels_of_different_number_are_no_split(tmp_path):
    np.save(tmp_path / "test_images.npy", np.zeros((3, 4, 4, 1), np.uint8))
    np.save(tmp_path / "test_labels.npy", np.zeros(3, np.int64))
    assert isinstance(open_split(tmp_path, "test").images, np.memmap)
    np.save(tmp_path / "test_labels.npy", np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="differ in number"):
        open_split(tmp_path, "test")
