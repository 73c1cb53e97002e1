"""What several files of tests work on: calibrated contexts and trained networks, made once."""

import numpy as np
import pytest
from batch_norm_networks import made
from qat_networks import fit, resnet8, scenes, squeeze_excite

from edgeq_lib.compress.quantize import (
    calibration,
    layerwise_rounding,
    mixed_precision,
    qat,
    qat_export,
)
from edgeq_lib.compress.quantize.sensitivity import EvaluationContext, Probe
from edgeq_lib.measure.accuracy import predict_file
from edgeq_lib.models.convert import convert
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.models.tf import keras
from edgeq_lib.tflite.runtime import make_interpreter, run_images


@pytest.fixture(autouse=True)
def seeded():
    """What a test builds, trains or draws is the same in every run and in any order of tests."""
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def context(small_net, pictures):
    """The small network, calibrated on 48 pictures and compared on 100 others."""
    images, labels = pictures
    observed = calibration.observe(small_net[1], SIGNED(images[:48]))
    reference = run_images(make_interpreter(small_net[1]), SIGNED(images[200:300]))
    return EvaluationContext(
        small_net[1], observed, images[200:300], labels[200:300], reference, SIGNED
    )


@pytest.fixture(scope="session")
def rounded_alone(small_net, pictures):
    """(float flatbuffer, activation ranges, calibration images, probe, each kernel's quantized
    weights by width)
    """
    float32, images = small_net[1], SIGNED(pictures[0][:48])
    ranges = calibration.calibrate(float32, images, SIGNED.range)
    seen = pictures[0][64:164]
    probe = Probe(seen, SIGNED, predict_file(float32, seen, SIGNED))
    widths = mixed_precision.candidates(float32, dense=[4, 2], convolutions=[4])
    return (
        float32,
        ranges,
        images,
        probe,
        layerwise_rounding.round_each(float32, images, ranges, widths),
    )


@pytest.fixture(scope="session")
def ranges(small_net, pictures):
    """Activation ranges of the small network."""
    return calibration.calibrate(small_net[1], SIGNED(pictures[0][:32]), SIGNED.range)


@pytest.fixture(scope="session", params=["relu", "relu6"])
def net(request):
    """(float flatbuffer, statistics of its batch norms, its activation)"""
    return *made(request.param)[1:], request.param


@pytest.fixture(scope="session", params=[resnet8, squeeze_excite], ids=lambda build: build.__name__)
def trained(request):
    """(float model, its QAT model after a little training, its file)"""
    keras.utils.set_random_seed(0)
    model = fit(request.param(), 5e-3, epochs=8)
    calibration_set = scenes(64)[0]
    aware = fit(qat.quantize_aware(model, calibration_set), 1e-4)
    return model, aware, qat_export.export_int8(aware, calibration_set)


@pytest.fixture(scope="session")
def depthwise():
    """(float flatbuffer, images) of a small network with all kinds of weights, odd sizes, strides
    and both paddings, at random.
    """
    keras.utils.set_random_seed(0)
    layers, image = keras.layers, keras.Input((9, 11, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu6")(image)
    x = layers.DepthwiseConv2D(
        3, strides=2, padding="same", activation="relu6", depth_multiplier=2
    )(x)
    x = layers.Conv2D(8, (2, 3), padding="valid", activation="relu6")(x)
    x = layers.Conv2D(8, 3, dilation_rate=2, padding="same")(x)
    model = keras.Model(image, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))
    rng = np.random.default_rng(0)
    model.set_weights(
        [rng.normal(0, 0.4, weight.shape).astype(np.float32) for weight in model.get_weights()]
    )
    return convert(model), rng.normal(0, 1, (32, 9, 11, 3)).astype(np.float32)
