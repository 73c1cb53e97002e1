"""A Keras network as a float flatbuffer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeq_lib.files import EdgeqError
from edgeq_lib.tflite.quiet import quiet


def convert(model: Any, configure: Callable[[Any], None] = lambda converter: None) -> bytes:
    """Convert a Keras model to a float flatbuffer with the signature `serving_default`.

    Its batch is fixed to one: a dynamic one would leave SHAPE, STRIDED_SLICE and PACK in the graph.

    Args:
        model: A Keras 2 model with one input.
        configure: May set the converter's own quantization, see
            https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/post_training_quantization.

    Returns:
        The flatbuffer.

    Raises:
        EdgeqError: When an op has no LiteRT counterpart.
    """
    from edgeq_lib.models.tf import tf

    call = tf.function(lambda image: {"output": model(image, training=False)}, autograph=False)
    image = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")
    with quiet():
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [call.get_concrete_function(image)], model
        )
        configure(converter)
    return _converted(converter)


def convert_saved_model(folder: str) -> bytes:
    """Convert a SavedModel to a float flatbuffer, by its signature `serving_default`.

    Args:
        folder: The SavedModel.

    Returns:
        The flatbuffer.

    Raises:
        EdgeqError: When an op has no LiteRT counterpart.
    """
    from edgeq_lib.models.tf import tf

    with quiet():
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    return _converted(converter)


def _converted(converter: Any) -> bytes:
    with quiet():
        try:
            return bytes(converter.convert())
        except Exception as error:  # the converter raises its own, undocumented classes
            cause = next(
                (line for line in str(error).splitlines() if "error" in line.lower()),
                type(error).__name__,
            )
    raise EdgeqError(
        f"TensorFlow's converter refuses this model ({cause.strip()[:200]}); replace the layer "
        "that it names."
    )
