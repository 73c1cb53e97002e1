"""Fine-tuning on the grid: what it trains on, and when what it trained may be taken up again."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from edgeq_lib.compress.quantize import (
    calibration,
    layerwise_rounding,
    low_bit,
    quantized_weights,
)
from edgeq_lib.compress.quantize.bias_correction import correct_biases
from edgeq_lib.data.dataset import Data, Split
from edgeq_lib.models import training
from edgeq_lib.models.preprocessing import SIGNED

CONFIG = training.TrainingConfig(epochs=2, learning_rate=1e-4, batch=8, seed=1)


@pytest.fixture
def data():
    """30 images of three classes, unevenly, of which each is another constant."""
    labels = np.repeat([0, 1, 2], [5, 10, 15])
    images = np.broadcast_to(np.arange(30, dtype=np.uint8)[:, None, None, None], (30, 4, 4, 1))
    split = Split(images, labels)
    return Data(split, split, split, list("abc"), np.array([1, 7]), {"fingerprint": "f"})


def network(value):
    return SimpleNamespace(get_weights=lambda: [np.full(3, value, np.float32)])


@pytest.fixture
def calls(monkeypatch):
    """What `training.fit` was called with, call by call."""
    noted = []
    monkeypatch.setattr(
        training, "fit", lambda *args, **options: noted.append((args, options)) or ["history"]
    )
    return noted


def tune(data, config=CONFIG, simulation=0, model=1, **options):
    return low_bit.fine_tune(
        network(simulation), network(model), data, SIGNED, config, folder="here", **options
    )


def test_a_limited_train_is_balanced_and_keeps_images_with_their_labels(data):
    part = low_bit.limited(data.train, 12, seed=0)
    assert np.bincount(part.labels).tolist() == [4, 4, 4] and part.images.shape == (12, 4, 4, 1)
    assert np.array_equal(data.train.labels[part.images[:, 0, 0, 0]], part.labels)
    assert np.array_equal(low_bit.limited(data.train, 12, seed=0).images, part.images)
    assert not np.array_equal(low_bit.limited(data.train, 12, seed=1).images, part.images)


def test_without_a_limit_train_is_not_copied(data):
    assert low_bit.limited(data.train, None, seed=0) is data.train


def test_the_float_network_teaches_on_train_and_validation_judges(data, calls):
    assert tune(data, limit_train=6) == ["history"]
    (simulation, train, validation, preprocess, config), options = calls[0]
    assert simulation.get_weights()[0][0] == 0 and options["teacher"].get_weights()[0][0] == 1
    assert len(train.labels) == 6 and validation is data.validation
    assert preprocess is SIGNED and config is CONFIG and options["folder"] == "here"


def test_only_the_same_start_data_and_settings_are_taken_up_again(data, calls):
    changes = [
        {},
        {"simulation": 2},
        {"model": 3},
        {"limit_train": 9},
        {"key": "other"},
        {"config": replace(CONFIG, learning_rate=1e-3)},
        {"config": replace(CONFIG, seed=2)},
        {"data": replace(data, calibration=np.array([1, 8]))},
        {"data": replace(data, manifest={"fingerprint": "g"})},
    ]
    for change in (*changes, {}):
        tune(**{"data": data, **change})
    keys = [options["key"] for _, options in calls]
    assert keys[-1] == keys[0]
    assert all(key != other for i, key in enumerate(keys[:-1]) for other in keys[:i])


@pytest.mark.parametrize("correct", [True, False])
def test_files_made_again_from_the_same_images_are_the_same_files(small_net, pictures, correct):
    model, images = small_net[1], SIGNED(pictures[0][:24])
    again = low_bit.make_again(
        model,
        images,
        SIGNED.range,
        bits=4,
        classifier_bits=[8, 4],
        method="nearest",
        rounding_images=8,
        correct=correct,
    )
    observed = calibration.observe(model, images, histogram=False)
    ranges = calibration.summarize(observed, "covering", SIGNED.range)
    chosen = images[calibration.drop_outlier_images(observed, 8)]
    for last in (8, 4):
        widths = layerwise_rounding.default_widths(model, bits=4, classifier=last)
        codes = layerwise_rounding.round_layers(model, chosen, ranges, widths, "nearest")
        file = quantized_weights.to_file(model, codes, ranges)
        assert again[last] == (correct_biases(model, file, chosen) if correct else file)
