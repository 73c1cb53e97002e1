import numpy as np
import pytest
import tf_keras as keras

from edgeq_lib.compress.quantize import qat, why_not
from edgeq_lib.files import CannotTake, EdgeqError
from edgeq_lib.models import zoo
from edgeq_lib.models.convert import convert
from edgeq_lib.models.network import FloatNetwork
from edgeq_lib.models.preprocessing import SIGNED


def _of_keras(model):
    return FloatNetwork("net", model, SIGNED)


def _with(layer):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False)(image)
    x = layer(keras.layers.BatchNormalization()(x))
    return keras.Model(
        image, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)), name="net"
    )


def test_a_plain_network_can_have_everything():
    assert why_not.missing_parts(_of_keras(zoo.resnet8((8, 8, 3), 4, alpha=0.25))) == []
    why_not.require(_of_keras(zoo.resnet8((8, 8, 3), 4, alpha=0.25)), "04_qat")


def test_a_flatbuffer_has_what_works_on_flatbuffers():
    file = convert(zoo.resnet8((8, 8, 3), 4, alpha=0.25))
    network = FloatNetwork("net", None, SIGNED, "net.tflite is a flatbuffer", flatbuffer=file)
    missing = why_not.missing_parts(network)
    whole = [row["stage"] for row in missing if row["without"] == "all of it"]
    assert whole == ["04_qat", "20_data_free", "31_qkeras"]
    assert all("net.tflite is a flatbuffer." in row["why"] for row in missing)
    for stage in whole:
        with pytest.raises(CannotTake, match="net.tflite is a flatbuffer"):
            why_not.require(network, stage)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.ReLU(),
        keras.layers.PReLU(),
        keras.layers.UnitNormalization(),
        keras.layers.LayerNormalization(),
        keras.layers.Conv2DTranspose(4, 3),
        keras.layers.Activation("gelu"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_the_reason_says_what_the_technique_itself_says(layer):
    model = _with(layer)
    images = np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 3)).astype(np.float32)
    reason = why_not.why_not(_of_keras(model), "04_qat")
    try:
        qat.quantize_aware(model, images)
    except EdgeqError as error:
        assert reason == str(error)
    else:
        assert reason is None
    assert reason == why_not.why_not(_of_keras(model), "30_low_bit", "training")


def test_without_batch_norms_there_is_nothing_to_read_ranges_off():
    image = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
    network = _of_keras(keras.Model(image, keras.layers.Dense(4)(x)))
    assert [row["stage"] for row in why_not.missing_parts(network)] == ["20_data_free"]
    with pytest.raises(CannotTake, match="batch norm"):
        why_not.require(network, "20_data_free")
