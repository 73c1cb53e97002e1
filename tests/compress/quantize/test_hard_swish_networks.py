"""A hard swish of plain layers is one operation in the file, and several in the training graph."""

import numpy as np
import tf_keras as keras

from edgeq_lib.compress.quantize import qat, qat_export
from edgeq_lib.measure.accuracy import check_parity
from edgeq_lib.models import plain_layers
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.tflite.inspect import inspect_file


def _trained(images, labels):
    keras.utils.set_random_seed(0)
    x = image = keras.Input((8, 8, 3))
    for number in range(2):
        x = keras.layers.Conv2D(12, 3, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.8)(x)
        x = plain_layers.hard_swish(f"swish_{number}", x)
    gate = keras.layers.Conv2D(12, 1)(keras.layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = keras.layers.Multiply()([x, plain_layers.hard_sigmoid("gate", gate)])
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(4)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(SIGNED(images), labels, epochs=8, batch_size=32, verbose=0)
    return model


def test_the_file_is_integer_only_and_computes_what_training_saw(pictures):
    images, labels = pictures
    model = _trained(images, labels)
    aware = qat.quantize_aware(model, SIGNED(images[:64]))
    file = qat_export.export_int8(aware, SIGNED(images[:64]))
    report = inspect_file(file)
    assert report["integer_only"] and report["ops"]["HARD_SWISH"] == 2
    parity = check_parity(aware, file, images, SIGNED)
    assert parity["top-1 agreement %"] >= 99.5
    assert parity["largest difference"] <= 4 * parity["output step"]
    outputs = model(SIGNED(images)).numpy()
    assert np.mean(outputs.argmax(-1) == labels) > 0.9, "or the comparison says nothing"
