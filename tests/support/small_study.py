"""A whole small study for tests of what comes after training.

16 × 16 photos seen at 8 × 8, a float net and an int8 file.
"""

import numpy as np
from PIL import Image

from edgeq_lib.compress.quantize import calibration, quantizer
from edgeq_lib.data import dataset
from edgeq_lib.data.prepare import prepare
from edgeq_lib.measure.accuracy import score
from edgeq_lib.models import zoo
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.models.tf import keras
from edgeq_lib.study import Study
from edgeq_lib.tflite.rewrite import with_uint8_io


def make_study(folder, pictures, float32: bytes, int8: bytes, n: int = 160) -> Study:
    """Study `sample` with float32 and int8, from the first `n` pictures at twice their size."""
    for i, (image, label) in enumerate(zip(*(part[:n] for part in pictures), strict=True)):
        path = folder / "photos" / f"class{label}" / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((16, 16), Image.Resampling.NEAREST).save(path)
    first = Study("sample", "01_data")
    prepare(first, str(folder / "photos"), 8, validation=40, test=40, calibration=32)
    first.finish({})
    second = Study("sample", "02_baseline")
    second.write("baseline", {"preprocessing": SIGNED.record()})
    data = dataset.load(second)
    for name, model in (("float32", float32), ("int8", int8)):
        variant = second.save_variant(
            name, model, technique="baseline", scheme=name, engine="converter", seconds=0
        )
        score(second, variant, data, SIGNED)
    second.finish({})
    return second


def int8_of(float32: bytes, pictures) -> bytes:
    """The float file in int8, calibrated on 64 of the pictures."""
    ranges = calibration.calibrate(float32, SIGNED(pictures[0][:64]), SIGNED.range)
    return quantizer.quantize(float32, quantizer.scheme("int8"), ranges)


def with_background(keras_model, size: int, pictures) -> bytes:
    """The network on images of another size: uint8 input, and a first output that always wins."""
    from edgeq_lib.models.convert import convert

    image = keras.Input((size, size, 3))
    scores = keras_model(zoo.layers.AveragePooling2D(size // 8)(image))
    constant = zoo.layers.Dense(
        1, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(20.0)
    )
    float32 = convert(keras.Model(image, zoo.layers.Concatenate()([constant(scores), scores])))
    images = np.repeat(np.repeat(pictures[0][:64], size // 8, 1), size // 8, 2)
    ranges = calibration.calibrate(float32, SIGNED(images), SIGNED.range)
    return with_uint8_io(quantizer.quantize(float32, quantizer.scheme("int8"), ranges))
