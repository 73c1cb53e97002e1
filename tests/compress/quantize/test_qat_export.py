"""The file must be the int8 PTQ file in all but its values, and do what Keras does."""

import numpy as np
import pytest
import tf_keras as keras
from qat_networks import SHAPE, fit, int8_ptq, resnet8, scenes, tiny

from edgeq_lib.compress.quantize import calibration, fake_quant, qat, qat_export, quantized_weights
from edgeq_lib.compress.quantize.kernels import float_kernels
from edgeq_lib.files import EdgeqError
from edgeq_lib.models.convert import convert
from edgeq_lib.models.graph import fold_batch_norms
from edgeq_lib.tflite.buffers import writable_buffers
from edgeq_lib.tflite.inspect import inspect_file
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.runtime import dequantize_array, make_interpreter, run_images

layers = keras.layers


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


def test_uint8_inputs_and_outputs_move_pixels_and_scores_by_128(trained):
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


def test_one_constant_image_is_enough_to_build_and_export():
    aware = qat.quantize_aware(tiny(), np.zeros((1, *SHAPE), np.float32))
    report = inspect_file(qat_export.export_int8(aware, np.zeros((1, *SHAPE), np.float32)))
    assert report["integer_only"]


def test_the_selective_recipe_costs_ops():
    model, calibration_set = tiny(), scenes(16)[0]
    aware = fit(qat.quantize_aware_selective(model), 1e-4)
    assert "BatchNormalization" in {
        type(wrapper.layer).__name__ for wrapper in fake_quant.wrappers(aware)
    }
    ops = inspect_file(qat_export.export_selective(aware, calibration_set))["ops"]
    assert sum(ops.values()) > sum(inspect_file(int8_ptq(model))["ops"].values())


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


def test_bits_for_a_file_of_other_weights_are_refused_by_name():
    model = fold_batch_norms(tiny())
    flat, other = convert(model), convert(fold_batch_norms(tiny()))
    ranges = calibration.calibrate(other, scenes(8)[0], (-1.0, 1.0))
    grids = quantized_weights.round_all_to_nearest(other, ranges, {}, default=4)
    with pytest.raises(EdgeqError, match="not the same in the Keras model and in its float file"):
        qat_export.kernels_by_layer(model, other, grids)
    ranges = calibration.calibrate(flat, scenes(8)[0], (-1.0, 1.0))
    grids = quantized_weights.round_all_to_nearest(flat, ranges, {}, default=4)
    by_layer = qat_export.kernels_by_layer(model, flat, grids)
    shapes = {name: model.get_layer(name).get_weights()[0].shape for name in by_layer}
    assert sorted(shapes.values()) == [(3, 3, 3, 4), (4, 4)]


def test_the_float_model_taken_out_lies_on_the_codes_and_is_not_rounded_again():
    aware = qat.quantize_aware(tiny(), scenes(8)[0])
    plain = qat_export.trained_float_model(aware)
    assert not any(fake_quant.is_wrapper(layer) for layer in plain.layers)
    kernel = plain.layers[-1].get_weights()[0]
    codes = kernel / (np.abs(kernel).max(axis=0) / 127)
    assert np.allclose(codes, np.rint(codes), atol=1e-3)
