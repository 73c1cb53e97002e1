"""A converted network answers as Keras does, one image at a time."""

import numpy as np
import pytest

from edgeq_lib.files import EdgeqError
from edgeq_lib.models.convert import convert
from edgeq_lib.models.tf import keras, tf
from edgeq_lib.tflite.inspect import inspect_file
from edgeq_lib.tflite.runtime import make_interpreter, run_images


def test_the_file_computes_what_keras_computes(small_net, pictures):
    model, float32 = small_net
    images = pictures[0][:20].astype(np.float32) / 127.5 - 1
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(run_images(make_interpreter(float32), images), expected, atol=1e-4)


def test_the_batch_is_one_and_nothing_asks_for_a_shape(small_net):
    interpreter = make_interpreter(small_net[1])
    assert interpreter.get_input_details()[0]["shape"].tolist() == [1, 8, 8, 3]
    assert not {"SHAPE", "STRIDED_SLICE", "PACK"} & set(inspect_file(small_net[1])["ops"])


def test_input_and_output_are_named_by_the_signature(small_net):
    signatures = make_interpreter(small_net[1]).get_signature_list()
    assert signatures == {"serving_default": {"inputs": ["image"], "outputs": ["output"]}}


def test_the_converter_can_be_configured(small_net):
    def optimize(converter):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]

    assert len(convert(small_net[0], optimize)) < 0.8 * len(small_net[1])


def test_an_op_without_counterpart_is_refused_in_one_sentence():
    image = keras.Input((4,))
    model = keras.Model(image, keras.layers.Lambda(tf.math.bessel_i0)(image))
    with pytest.raises(EdgeqError, match="converter refuses this model .*replace the layer") as no:
        convert(model)
    assert "\n" not in str(no.value) and len(str(no.value)) < 400
