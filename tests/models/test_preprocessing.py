"""Pixels become a network's input by one affine map per channel."""

import json

import numpy as np
import pytest

from edgeq_lib.files import EdgeqError
from edgeq_lib.models.preprocessing import (
    CAFFE,
    PREPROCESSING,
    SIGNED,
    TORCH,
    Preprocessing,
    preprocessing_of,
)


def test_preprocessing_by_hand():
    pixels = np.array([[[[0, 128, 255]]]], np.uint8)
    assert np.allclose(SIGNED(pixels), [[[[-1, 1 / 255, 1]]]], atol=1e-6)
    assert np.allclose(CAFFE(pixels), [[[[255 - 103.939, 128 - 116.779, -123.68]]]])
    assert np.allclose(TORCH(pixels)[0, 0, 0, 0], -0.485 / 0.229, atol=1e-4)
    assert Preprocessing(**TORCH.record()).range == TORCH.range


@pytest.mark.parametrize("name", PREPROCESSING)
def test_the_range_is_what_black_and_white_pixels_become(name):
    preprocess = PREPROCESSING[name]
    black_and_white = np.array([0, 255], np.uint8)[:, None, None, None].repeat(3, axis=3)
    values = preprocess(black_and_white)
    assert values.dtype == np.float32 and values.shape == black_and_white.shape
    assert preprocess.range == (values.min(), values.max())


def test_a_record_survives_json_and_gives_the_same_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    for preprocess in PREPROCESSING.values():
        again = Preprocessing(**json.loads(json.dumps(preprocess.record())))
        assert np.array_equal(again(pixels), preprocess(pixels))


def test_a_study_gives_a_name_or_mean_and_std_or_nothing():
    assert preprocessing_of(None) is None and preprocessing_of("torch") is TORCH
    given = {"mean": [1.0, 2.0, 3.0], "std": [4.0], "bgr": True}
    assert preprocessing_of(given) == Preprocessing((1.0, 2.0, 3.0), (4.0,), True)
    assert preprocessing_of({"mean": [0.0], "std": [1.0]}) == Preprocessing((0.0,), (1.0,), False)


@pytest.mark.parametrize("given", [{"mean": [0.0]}, {"mean": 1.0, "std": 2.0}, {}])
def test_mean_and_std_must_be_lists(given):
    with pytest.raises(EdgeqError, match="mean and std as lists of numbers"):
        preprocessing_of(given)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(EdgeqError, match="no preprocessing 'tf'; take one of signed, unit, none"):
        preprocessing_of("tf")


@pytest.mark.parametrize(
    ("given", "channels", "says"),
    [
        ("torch", 1, "for grey images state one number each"),
        ({"mean": [1, 2], "std": [1]}, 3, "one per channel"),
        ({"mean": [1, 2], "std": [1, 2, 3]}, None, "one per channel"),
        ({"mean": [0], "std": [0]}, 3, "must be above 0"),
        ({"mean": [0], "std": [1, 0, 1]}, 3, "must be above 0"),
        ({"mean": [float("nan")], "std": [1]}, 3, "lists of numbers"),
        ({"mean": ["a"], "std": [1]}, 3, "lists of numbers"),
        ({"mean": "0", "std": [1]}, 3, "lists of numbers"),
        ({"mean": [0], "std": [1], "sd": [1]}, 3, "not sd"),
    ],
)
def test_a_preprocessing_that_does_not_fit_is_one_sentence(given, channels, says):
    with pytest.raises(EdgeqError, match=says):
        preprocessing_of(given, channels)


def test_any_number_of_channels_may_have_its_mean_and_std():
    rng = np.random.default_rng(0)
    for channels in (1, 3):
        for sizes in ((1, 1), (channels, 1), (1, channels), (channels, channels)):
            mean, std = (rng.uniform(1, 9, size).tolist() for size in sizes)
            pixels = rng.integers(0, 256, (2, 4, 4, channels), np.uint8)
            values = preprocessing_of({"mean": mean, "std": std}, channels)(pixels)
            assert np.allclose(values, (pixels - np.array(mean)) / np.array(std), atol=1e-4)
