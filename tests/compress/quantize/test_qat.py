"""Quantization-aware training: the file must be the int8 PTQ file in all but its values, and do
what Keras does.
"""

import numpy as np
import pytest
import tf_keras as keras

from edgeq_lib.compress.quantize import (
    block_reconstruction,
    calibration,
    fake_quant,
    qat,
    qat_export,
    quantized_weights,
    quantizer,
)
from edgeq_lib.compress.quantize.kernels import float_kernels
from edgeq_lib.files import EdgeqError
from edgeq_lib.models.convert import convert
from edgeq_lib.models.graph import WITH_KERNEL, fold_batch_norms
from edgeq_lib.tflite.buffers import writable_buffers
from edgeq_lib.tflite.inspect import inspect_file
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.rewrite import as_dense
from edgeq_lib.tflite.runtime import dequantize_array, make_interpreter, run_images

layers = keras.layers
SHAPE = (16, 16, 3)


def scenes(n, seed=0):
    """Images of four classes (a bright quadrant each) and their labels; pixels on the grid that
    real ones lie on.
    """
    noise = np.random.default_rng(seed)
    labels = noise.integers(0, 4, n)
    pixels = noise.integers(0, 128, (n, *SHAPE))
    for image, label in zip(pixels, labels, strict=True):
        row, column = 8 * (label // 2), 8 * (label % 2)
        image[row : row + 8, column : column + 8] += 64
    return (pixels / 127.5 - 1).astype(np.float32), labels


def norm_relu(x, relu=True):
    x = layers.BatchNormalization(momentum=0.8)(x)
    return layers.Activation("relu")(x) if relu else x


def resnet8():
    """The network of MLPerf Tiny's image classification benchmark (arXiv 2106.07597)."""
    inputs = keras.Input(SHAPE)
    x = norm_relu(layers.Conv2D(16, 3, padding="same")(inputs))
    for stack, width in enumerate((16, 32, 64)):
        stride = 1 if stack == 0 else 2
        y = norm_relu(layers.Conv2D(width, 3, strides=stride, padding="same")(x))
        y = norm_relu(layers.Conv2D(width, 3, padding="same")(y), relu=False)
        x = x if stack == 0 else layers.Conv2D(width, 1, strides=stride, padding="same")(x)
        x = layers.Activation("relu")(layers.Add()([x, y]))
    x = layers.Flatten()(layers.AveragePooling2D(4)(x))
    return keras.Model(inputs, layers.Dense(4)(x))


def squeeze_excite():
    """What EfficientNet and MobileNetV2 are made of."""
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = layers.Activation("swish")(layers.BatchNormalization(momentum=0.8)(x))
    skip = x
    x = layers.Conv2D(16, 1, use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.8)(x))
    x = layers.ZeroPadding2D(1)(x)
    x = layers.DepthwiseConv2D(3, use_bias=False)(x)
    x = layers.Activation("swish")(layers.BatchNormalization(momentum=0.8)(x))
    gate = layers.Reshape((1, 1, 16))(layers.GlobalAveragePooling2D()(x))
    gate = layers.Conv2D(4, 1, activation="swish")(gate)
    gate = layers.Conv2D(16, 1, activation="sigmoid")(gate)
    x = layers.Multiply()([x, gate])
    x = layers.BatchNormalization(momentum=0.8)(layers.Conv2D(8, 1, use_bias=False)(x))
    x = layers.Add()([layers.Dropout(0.1, noise_shape=(None, 1, 1, 1))(x), skip])
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D(2)(x))
    return keras.Model(inputs, layers.Dense(4)(layers.Dropout(0.2)(x)))


def tiny():
    """Convolution, norm, swish: the least that shows what the selective recipe loses."""
    inputs = keras.Input(SHAPE)
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, strides=4, use_bias=False)(inputs))
    x = layers.GlobalAveragePooling2D()(layers.Activation("swish")(x))
    return keras.Model(inputs, layers.Dense(4)(x))


def fit(model, rate, epochs=1):
    model.compile(
        keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(*scenes(512), batch_size=32, epochs=epochs, verbose=0)
    return model


@pytest.fixture(scope="module", params=[resnet8, squeeze_excite], ids=lambda build: build.__name__)
def trained(request):
    """(float model, its QAT model after a little training, its file)"""
    keras.utils.set_random_seed(0)
    model = fit(request.param(), 5e-3, epochs=8)
    calibration_set = scenes(64)[0]
    aware = fit(qat.quantize_aware(model, calibration_set), 1e-4)
    return model, aware, qat_export.export_int8(aware, calibration_set)


def int8_ptq(model):
    flat = convert(model)
    return quantizer.quantize(
        flat, quantizer.scheme("int8"), calibration.calibrate(flat, scenes(32)[0], (-1.0, 1.0))
    )


def test_the_file_has_the_ops_and_size_of_int8_ptq(trained):
    model, _, file = trained
    peer = int8_ptq(model)
    ours, theirs = inspect_file(file), inspect_file(peer)
    assert ours["ops"] == theirs["ops"]
    assert abs(len(file) / len(peer) - 1) <= 0.03


def test_the_file_is_integer_only(trained):
    report = inspect_file(trained[2])
    assert report["integer_only"] and not report["float_ops"]
    assert (report["input_dtype"], report["output_dtype"]) == ("int8", "int8")
    assert not {"QUANTIZE", "DEQUANTIZE", "FAKE_QUANT"} & set(report["ops"])


def test_uint8_doors_move_pixels_and_scores_by_128(trained):
    _, aware, file = trained
    other = make_interpreter(qat_export.export_int8(aware, scenes(64)[0], "uint8"))
    assert {end["dtype"] for end in (*other.get_input_details(), *other.get_output_details())} == {
        np.uint8
    }
    images = scenes(20, seed=2)[0]
    same = run_images(make_interpreter(file), images).astype(int) + 128
    assert np.array_equal(run_images(other, images), same)


def test_keras_and_the_file_agree(trained):
    _, aware, file = trained
    images = scenes(1000, seed=1)[0]
    interpreter = make_interpreter(file)
    detail = interpreter.get_output_details()[0]
    found = dequantize_array(run_images(interpreter, images), detail)
    expected = aware.predict(images, verbose=0)
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.99
    steps = np.abs(found - expected) / detail["quantization"][0]
    assert np.mean(steps > 0.5) <= 0.02  # nearly all outputs are the same integer


def test_training_keeps_the_accuracy(trained):
    model, aware, _ = trained
    images, labels = scenes(1000, seed=1)
    accuracy = [
        (net.predict(images, verbose=0).argmax(1) == labels).mean() for net in (model, aware)
    ]
    assert accuracy[0] > 0.9 and accuracy[1] > accuracy[0] - 0.03


def test_the_file_holds_the_trained_weights_and_ranges(trained):
    model, aware, file = trained
    head = qat_export.trained_float_model(aware).layers[-1].get_weights()[0]
    assert not np.array_equal(head, model.layers[-1].get_weights()[0])
    largest = np.abs(head).max(axis=0)
    interpreter = make_interpreter(file)
    scales = [
        detail["quantization_parameters"]["scales"] for detail in interpreter.get_tensor_details()
    ]
    assert any(
        scale.shape == largest.shape and np.allclose(scale, largest / 127, rtol=1e-5)
        for scale in scales
    )
    low, high = (float(end) for end in aware.layers[-1].quantize_config.output.bounds())
    assert np.isclose(interpreter.get_output_details()[0]["quantization"][0], (high - low) / 255)


def test_weights_halfway_between_two_codes_have_the_same_code_in_graph_and_file():
    aware = qat.quantize_aware(tiny(), scenes(8)[0])
    wrapper = next(
        each for each in fake_quant.wrappers(aware) if isinstance(each.layer, layers.Conv2D)
    )
    variable = fake_quant.float_weights(wrapper)[0]
    codes = np.random.default_rng(0).integers(-126, 126, variable.shape) + 0.5
    codes[0, 0, 0] = 127
    variable.assign(codes * 2.0**-8)
    computed = wrapper.quantize_config.kernel(variable, False, {}).numpy() * 2**8
    interpreter = make_interpreter(qat_export.export_int8(aware, scenes(8)[0]))
    stored = next(
        interpreter.get_tensor(detail["index"])
        for detail in interpreter.get_tensor_details()
        if detail["dtype"] == np.int8 and tuple(detail["shape"]) == (4, 3, 3, 3)
    )
    assert np.array_equal(stored.transpose(1, 2, 3, 0), np.rint(computed))


def test_a_range_that_was_not_calibrated_reaches_the_file(trained):
    aware = trained[1]
    calibration_set = scenes(16)[0]
    variables = aware.layers[-1].quantize_config.output.variables
    before = [float(variable) for variable in variables.values()]
    for variable, value in zip(variables.values(), (-51.0, 204.0), strict=True):
        variable.assign(value)
    detail = make_interpreter(qat_export.export_int8(aware, calibration_set)).get_output_details()[
        0
    ]
    for variable, value in zip(variables.values(), before, strict=True):
        variable.assign(value)
    assert detail["quantization"] == (1.0, -77)


def test_nothing_is_rounded_between_an_operation_and_its_fused_relu():
    aware = qat.quantize_aware(resnet8(), scenes(8)[0])
    rounded = {
        wrapper.layer.name
        for wrapper in fake_quant.wrappers(aware)
        if wrapper.quantize_config.output
    }
    kinds = [
        type(layer).__name__
        for layer in qat_export.trained_float_model(aware).layers
        if layer.name in rounded
    ]
    assert kinds.count("Activation") == 7 and "Add" not in kinds
    assert (
        kinds.count("Conv2D") == 5
    )  # without relu: the second of each stack, and the two shortcuts
    assert not aware.trainable_weights[0].name.startswith("quant_input")


def test_one_freak_image_does_not_set_the_ranges():
    images = scenes(100)[0]
    with_outlier = images.copy()
    with_outlier[7] *= 1000
    model = resnet8()
    calm, wild = (
        [
            float(end)
            for end in qat.quantize_aware(model, some).layers[-1].quantize_config.output.bounds()
        ]
        for some in (images, with_outlier)
    )
    np.testing.assert_allclose(calm, wild, rtol=0.25)


def test_a_channel_without_weights_keeps_its_bias():
    inputs = keras.Input(SHAPE)
    model = keras.Model(
        inputs, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="dead")(inputs))
    )
    model.get_layer("dead").set_weights([np.zeros((3, 3, 3, 4)), np.float32([-1, 0, 2, 3])])
    calibration_set = scenes(8)[0]
    interpreter = make_interpreter(
        qat_export.export_int8(qat.quantize_aware(model, calibration_set), calibration_set)
    )
    found = dequantize_array(
        run_images(interpreter, calibration_set), interpreter.get_output_details()[0]
    )
    np.testing.assert_allclose(found, np.tile([-1, 0, 2, 3], (8, 1)), atol=0.02)


def test_checkpoints_fit_a_model_built_again(tmp_path):
    model, calibration_set = squeeze_excite(), scenes(16)[0]
    first = fit(qat.quantize_aware(model, calibration_set), 1e-2)
    first.save_weights(tmp_path / "qat.weights.h5")
    second = qat.quantize_aware(model, calibration_set)
    assert [weight.name for weight in first.weights] == [weight.name for weight in second.weights]
    second.load_weights(tmp_path / "qat.weights.h5")
    assert np.array_equal(
        first.predict(calibration_set, verbose=0), second.predict(calibration_set, verbose=0)
    )


def test_the_selective_recipe_costs_ops():
    model, calibration_set = tiny(), scenes(16)[0]
    aware = fit(qat.quantize_aware_selective(model), 1e-4)
    assert "BatchNormalization" in {
        type(wrapper.layer).__name__ for wrapper in fake_quant.wrappers(aware)
    }
    ops = inspect_file(qat_export.export_selective(aware, calibration_set))["ops"]
    assert sum(ops.values()) > sum(inspect_file(int8_ptq(model))["ops"].values())


def refused(build):
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, build(inputs))


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda x: layers.Conv2D(2, 3)(x * 2.0), r"'tf\.math\.multiply.*TFOpLambda"),
        (lambda x: layers.Lambda(lambda y: y, name="magic")(x), "'magic'.*Lambda"),
        (lambda x: layers.BatchNormalization(name="lonely")(x), "'lonely'.*batch norm"),
        (lambda x: layers.Conv2D(2, 3, activation="softplus", name="soft")(x), "'soft.*softplus"),
        (
            lambda x: (lambda twice: twice(twice(x)))(layers.Conv2D(3, 1, name="shared")),
            "'shared'.*more than once",
        ),
    ],
    ids=["op-lambda", "lambda", "norm", "activation", "shared"],
)
def test_networks_that_cannot_be_taken_are_refused_by_layer(build, message):
    with pytest.raises(EdgeqError, match=message) as refusal:
        qat.quantize_aware(refused(build), scenes(2)[0])
    assert "post-training" in str(refusal.value)


def test_nested_models_and_bad_calibration_images_are_refused():
    nested = refused(
        lambda x: keras.Sequential([keras.Input(SHAPE), layers.Conv2D(2, 3)], name="inner")(x)
    )
    with pytest.raises(EdgeqError, match="'inner'"):
        qat.quantize_aware(nested, scenes(2)[0])
    with pytest.raises(EdgeqError, match="no calibration images"):
        qat.quantize_aware(resnet8(), scenes(2)[0][:0])
    images = scenes(2)[0]
    images[1, 2, 3] = np.nan
    with pytest.raises(EdgeqError, match="NaN"):
        qat.quantize_aware(resnet8(), images)


def test_one_constant_image_is_enough_to_build_and_export():
    aware = qat.quantize_aware(tiny(), np.zeros((1, *SHAPE), np.float32))
    report = inspect_file(qat_export.export_int8(aware, np.zeros((1, *SHAPE), np.float32)))
    assert report["integer_only"]


def test_every_layer_class_is_sorted_once():
    sorted_classes = [*qat.OWN_RANGE, *qat.SAME_RANGE, *qat.MOVE_VALUES]
    assert len(sorted_classes) == len(set(sorted_classes)) and WITH_KERNEL[0] in sorted_classes


@pytest.mark.parametrize("shifts", [False, True], ids=["any step", "powers of two"])
def test_low_bit_kernels_start_on_their_grid_and_reach_the_file(shifts):
    keras.utils.set_random_seed(0)
    model = fold_batch_norms(fit(resnet8(), 5e-3, epochs=4))
    calibration_set, flat = scenes(64)[0], convert(model)
    wanted = quantized_weights.round_all_to_nearest(
        flat, calibration.calibrate(flat, calibration_set, (-1.0, 1.0)), {}, default=4
    )
    if shifts:
        wanted = {
            kernel.name: quantized_weights.round_to_nearest(
                kernel.weights, 2.0 ** np.ceil(np.log2(wanted[kernel.name].scales)), 4
            )
            for kernel in float_kernels(flat)
        }
    grids = qat_export.kernels_by_layer(model, flat, wanted)
    assert len(grids) == len(wanted)
    aware = qat.quantize_aware(model, calibration_set, grids)
    before = qat_export.export_int8(aware, calibration_set)
    held = [
        values
        for index, values in writable_buffers(bytearray(before)).items()
        if read_graph(before).tensors[index].dtype == "INT4"
    ]
    assert np.array_equal(
        *(
            np.sort(np.concatenate([np.ravel(codes) for codes in side]))
            for side in (held, [each.codes for each in wanted.values()])
        )
    ), "training starts from exactly these codes"
    steps = [variable.numpy() for variable in aware.trainable_variables if "steps" in variable.name]
    fit(aware, 1e-3)
    assert any(
        not np.array_equal(*pair)
        for pair in zip(
            steps,
            [
                variable.numpy()
                for variable in aware.trainable_variables
                if "steps" in variable.name
            ],
            strict=True,
        )
    )
    after, images = qat_export.export_int8(aware, calibration_set), scenes(500, seed=1)[0]
    interpreter = make_interpreter(after)
    found = dequantize_array(run_images(interpreter, images), interpreter.get_output_details()[0])
    assert (found.argmax(1) == aware.predict(images, verbose=0).argmax(1)).mean() >= 0.985
    low = [
        index for index, tensor in enumerate(read_graph(after).tensors) if tensor.dtype == "INT4"
    ]
    scales = [
        each["quantization_parameters"]["scales"]
        for each in interpreter.get_tensor_details()
        if each["index"] in low
    ]
    assert (
        len(scales) == len(grids)
        and all((np.frexp(each)[0] == 0.5).all() for each in scales) == shifts
    )


def test_block_reconstruction_brings_each_block_nearer_to_float_and_moves_low_bit_kernels_only():
    keras.utils.set_random_seed(0)
    model = fold_batch_norms(fit(squeeze_excite(), 5e-3, epochs=2))
    calibration_set, flat = scenes(64)[0], as_dense(convert(model))
    bits = {
        kernel.name: 2 for kernel in float_kernels(flat)[1:] if kernel.kind == "FULLY_CONNECTED"
    }
    grids = qat_export.kernels_by_layer(
        model,
        flat,
        quantized_weights.round_all_to_nearest(
            flat, calibration.calibrate(flat, calibration_set, (-1.0, 1.0)), bits
        ),
    )
    aware = qat.quantize_aware(model, calibration_set, grids)
    before = {
        wrapper.layer.name: [value.numpy() for value in fake_quant.float_weights(wrapper)]
        for wrapper in fake_quant.wrappers(aware)
    }
    found = block_reconstruction.reconstruct(
        aware, model, calibration_set, steps=300, learning_rate=3e-2
    )
    assert [each["block"] for each in found] == block_reconstruction.blocks_of(aware) and len(
        found
    ) >= 2
    assert np.mean([each["after"] / each["before"] for each in found]) < 0.9
    moved = {
        wrapper.layer.name
        for wrapper in fake_quant.wrappers(aware)
        for old, new in zip(
            before[wrapper.layer.name], fake_quant.float_weights(wrapper), strict=True
        )
        if not np.array_equal(old, new.numpy())
    }
    assert moved and moved <= set(grids)
