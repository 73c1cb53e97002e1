"""A tiny network as real `.tflite` files of every kind, made once."""

import contextlib
import functools
import io
import os

import numpy as np

from edgeq_lib.tflite.rewrite import with_uint8_io

MACS = 8 * 8 * 4 * 3 * 3 * 3 + 8 * 8 * 4 * 3 * 3 + 8 * 8 * 4 * 2 * 2 * 2 + 2 * 5
KERNELS = {
    "conv": 4 * 3 * 3 * 3,
    "depthwise": 4 * 3 * 3,
    "transpose": 2 * 2 * 2 * 4,
    "dense": 2 * 5,
}


@functools.cache
def tiny_files() -> dict[str, bytes]:
    """The tiny network as float32, dynamic range, weight-only, int8, int16x8 and int4.

    int8 has int8, uint8 and float inputs and outputs.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf
    import tf_keras as keras
    from litert_quantizer import qtyping, quantizer, recipe

    keras.utils.set_random_seed(0)
    layers = keras.layers
    data = layers.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(data)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.Conv2DTranspose(2, 2, strides=2)(x)
    x = layers.Dense(5, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(data, x)
    call = tf.function(lambda image: {"output": model(image, training=False)})
    concrete = call.get_concrete_function(tf.TensorSpec((1, 8, 8, 3), tf.float32, name="image"))
    made = {
        "float32": bytes(
            tf.lite.TFLiteConverter.from_concrete_functions([concrete], model).convert()
        )
    }

    noise = np.random.default_rng(0)
    images = [{"image": noise.normal(size=(1, 8, 8, 3)).astype(np.float32)} for _ in range(4)]
    with contextlib.redirect_stderr(io.StringIO()):
        ranges = quantizer.Quantizer(made["float32"], recipe.static_wi8_ai8()).calibrate(
            {"serving_default": images}
        )

    def quantize(rules, ranges=None, more=()) -> bytes:
        engine = quantizer.Quantizer(made["float32"], rules)
        for operation, settings in more:
            engine.update_quantization_recipe(
                regex=".*", operation_name=operation, **settings
            ) if "algorithm_key" in settings else engine.add_static_config(
                regex=".*", operation_name=operation, **settings
            )
        done = engine.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
        return bytes(done.quantized_model)

    name = qtyping.TFLOperationName
    made["dynamic"] = quantize(recipe.dynamic_wi8_afp32())
    made["weight_only"] = quantize(recipe.weight_only_wi8_afp32())
    made["int8"] = quantize(recipe.static_wi8_ai8(), ranges)
    made["int8_float_io"] = quantize(
        recipe.static_wi8_ai8(),
        ranges,
        [
            (name.INPUT, {"algorithm_key": "no_quantize"}),
            (name.OUTPUT, {"algorithm_key": "no_quantize"}),
        ],
    )
    made["int16x8"] = quantize(recipe.static_wi8_ai16(), ranges)
    made["int4"] = quantize(
        recipe.static_wi8_ai8(),
        ranges,
        [(name.CONV_2D, {"activation_num_bits": 8, "weight_num_bits": 4})],
    )
    made["uint8"] = with_uint8_io(made["int8"])
    return made
