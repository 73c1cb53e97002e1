import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from edgeq_lib.files import EdgeqError
from edgeq_lib.models.convert import convert
from edgeq_lib.models.float_files import read_float_file
from edgeq_lib.tflite.inspect import inspect_file
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.runtime import make_interpreter, run_images

layers = keras.layers


def _network(flatten=True, seed=0):
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, activation="relu")(image)
    x = layers.Flatten()(x) if flatten else layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(4)(x))


def _at_batch(model, batch, configure=lambda converter: None):
    call = tf.function(lambda image: model(image, training=False))
    spec = tf.TensorSpec((batch, *model.input_shape[1:]), tf.float32)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [call.get_concrete_function(spec)], model
    )
    configure(converter)
    return converter.convert()


def _read(content, tmp_path):
    (tmp_path / "net.tflite").write_bytes(content)
    return read_float_file(tmp_path / "net.tflite")


def _images(n=5):
    return np.random.default_rng(0).normal(0, 1, (n, 8, 8, 3)).astype(np.float32)


@pytest.mark.parametrize("flatten", [True, False])
@pytest.mark.parametrize("batch", [None, 1, 7])
def test_any_batch_becomes_one_or_is_refused(batch, flatten, tmp_path):
    model = _network(flatten)
    content = _at_batch(model, batch)
    if batch == 7 and flatten and "-1" not in str(content):
        try:
            file = _read(content, tmp_path)
        except EdgeqError as error:
            assert "on one image" in str(error) and "batch of one" in str(error)
            return
    file = _read(content, tmp_path)
    graph = read_graph(file)
    assert graph.tensors[graph.inputs[0]].shape == (1, 8, 8, 3)
    assert graph.tensors[graph.outputs[0]].shape == (1, 4)
    assert not {"SHAPE", "STRIDED_SLICE", "PACK"} & set(inspect_file(file)["ops"])
    outputs = run_images(make_interpreter(file), _images())
    assert np.allclose(outputs, model(_images()), atol=1e-5)


def test_quantized_files_are_refused_by_what_they_hold(tmp_path):
    model = _network()

    def dynamic(converter):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]

    def half(converter):
        dynamic(converter)
        converter.target_spec.supported_types = [tf.float16]

    def static(converter):
        dynamic(converter)
        converter.representative_dataset = lambda: ([image[None]] for image in _images())

    wide = keras.Model(model.input, layers.Dense(4)(layers.Dense(600)(model.layers[-2].output)))
    for configure, says in ((dynamic, "int8"), (half, "float16"), (static, "int8")):
        with pytest.raises(EdgeqError, match=f"quantized already .*{says}.*float32 file"):
            _read(_at_batch(wide, 1, configure), tmp_path)


def test_several_inputs_other_types_and_rubbish_are_refused(tmp_path):
    one, two = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    model = keras.Model([one, two], layers.Flatten()(layers.Add()([one, two])))
    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    with pytest.raises(EdgeqError, match="2 inputs and 1 outputs"):
        _read(content, tmp_path)
    image = keras.Input((8, 8, 3), dtype="uint8")
    model = keras.Model(image, layers.Flatten()(tf.cast(image, tf.float32)))
    with pytest.raises(EdgeqError, match="quantized|takes uint8"):
        _read(tf.lite.TFLiteConverter.from_keras_model(model).convert(), tmp_path)
    pixels = keras.Model(one, layers.Conv2D(2, 3)(one))
    with pytest.raises(EdgeqError, match="row of class scores"):
        _read(convert(pixels), tmp_path)
    model = _network()
    model.layers[-1].set_weights([np.full((216, 4), np.nan), np.zeros(4)])
    with pytest.raises(EdgeqError, match="NaN or infinite"):
        _read(convert(model), tmp_path)
    for rubbish in (b"", b"nothing at all"):
        with pytest.raises(EdgeqError, match="tflite|flatbuffer"):
            _read(rubbish, tmp_path)
