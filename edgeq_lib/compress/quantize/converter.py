"""Post-training quantization by TensorFlow's converter, the engine of published recipes.

See LiteRT's documentation, "Post-training quantization".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq_lib.compress.quantize.quantizer import Scheme, smoke_tested
from edgeq_lib.files import EdgeqError
from edgeq_lib.models.convert import convert


def quantize_with_converter(model: Any, spec: Scheme, images: np.ndarray) -> bytes:
    """Quantize a Keras model by TensorFlow's converter.

    Args:
        model: The float Keras network.
        spec: The scheme, a row of `quantizer.SCHEMES`.
        images: Preprocessed float32 (n, H, W, C), the representative data set.

    Returns:
        The quantized flatbuffer, loaded and invoked once.

    Raises:
        EdgeqError: For a scheme that the converter cannot make.
    """
    from edgeq_lib.models.tf import tf

    if not spec.converter:
        raise EdgeqError(
            f"TensorFlow's converter cannot make {spec.scheme} so; take it out of "
            "converter_schemes."
        )

    def configure(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter._experimental_disable_per_channel = not spec.per_channel
        if spec.weights == 16:
            converter.target_spec.supported_types = [tf.float16]
        if spec.calibrated:
            converter.representative_dataset = lambda: ([image[None]] for image in images)
            int8, int16 = (
                tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
                tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
            )
            converter.target_spec.supported_ops = [int8 if spec.activations == 8 else int16]
            io = {"float": tf.float32, "uint8": tf.uint8}.get(
                spec.io, tf.int8 if spec.activations == 8 else tf.int16
            )
            converter.inference_input_type = converter.inference_output_type = io

    return smoke_tested(convert(model, configure))
