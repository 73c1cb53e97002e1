"""Corrected biases give channels the means that they have in float, and change nothing else."""

import numpy as np

from edgeq_lib.compress.quantize import calibration, quantizer
from edgeq_lib.compress.quantize.bias_correction import (
    correct_biases,
    correct_if_better,
    mean_output,
)
from edgeq_lib.compress.quantize.kernels import KERNEL_OPS
from edgeq_lib.compress.quantize.sensitivity import Int8Recipe, layers_of
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.tflite.buffers import scales_of, writable_buffers
from edgeq_lib.tflite.conv_geometry import window
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.runtime import dequantize_array, make_interpreter, quantize_array


def tensors(model, images):
    """Mean over images and positions of every computed tensor, by name."""
    interpreter, found = make_interpreter(model, keep_tensors=True), {}
    graph = read_graph(model)
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    for image in images:
        detail = interpreter.get_input_details()[0]
        interpreter.set_tensor(detail["index"], quantize_array(image[None], detail))
        interpreter.invoke()
        for op in graph.ops:
            index = op.outputs[0]
            values = dequantize_array(interpreter.get_tensor(index), details[index])
            found.setdefault(graph.tensors[index].name, []).append(
                values.reshape(-1, values.shape[-1]).mean(axis=0)
            )
    return {name: np.mean(values, axis=0) for name, values in found.items()}


def test_corrected_biases_give_each_channel_its_mean_back(depthwise):
    model, images = depthwise
    observed = calibration.observe(model, images)
    int8 = quantizer.quantize(
        model,
        quantizer.scheme("int8"),
        calibration.summarize(observed, "min_max", (-4.5, 4.5)),
        weight_ranges="mse",
    )
    mended = correct_biases(model, int8, images)
    exact, before, after = (tensors(each, images) for each in (model, int8, mended))
    plain = [
        name for name in exact if np.abs(exact[name]).max() > 0 and not name.startswith("Stateful")
    ]
    worse = [np.abs(before[name] - exact[name]).mean() for name in plain]
    better = [np.abs(after[name] - exact[name]).mean() for name in plain]
    assert sum(better) < 0.5 * sum(worse)
    assert len(mended) == len(int8) and layers_of(mended) == layers_of(int8), "only numbers changed"
    changed = [
        index
        for index, values in writable_buffers(bytearray(int8)).items()
        if (values != writable_buffers(bytearray(mended))[index]).any()
    ]
    biases = {op.inputs[2] for op in read_graph(int8).ops if op.name in KERNEL_OPS}
    assert changed and set(changed) <= biases


def test_a_shifted_bias_is_found_and_put_back(depthwise):
    model, images = depthwise
    int8 = quantizer.quantize(
        model, quantizer.scheme("int8"), calibration.calibrate(model, images, (-4.5, 4.5))
    )
    spoilt = bytearray(int8)
    op = [op for op in read_graph(int8).ops if op.name == "DEPTHWISE_CONV_2D"][0]
    step = scales_of(int8)[op.inputs[2]][0]
    writable_buffers(spoilt)[op.inputs[2]][:] += np.rint(0.5 / step).astype(np.int32)
    healed, usual = (
        writable_buffers(bytearray(correct_biases(model, each, images)))[op.inputs[2]]
        for each in (bytes(spoilt), int8)
    )
    assert np.abs((healed - usual) * step).max() < 1e-4


def test_float_layers_keep_their_bias(context, pictures):
    part = layers_of(context.model)[1]
    int8 = context.make(Int8Recipe("covering", left_float=part.outputs))
    mended = correct_biases(context.model, int8, SIGNED(pictures[0][:16]))
    op = [
        op
        for op in read_graph(int8).ops
        if read_graph(int8).tensors[op.outputs[0]].name == part.name
    ][0]
    before, after = (writable_buffers(bytearray(each))[op.inputs[2]] for each in (int8, mended))
    assert before.dtype == np.float32 and np.array_equal(before, after)


def test_the_mean_output_of_each_linear_layer_is_floats(depthwise):
    model, images = depthwise
    int8 = quantizer.quantize(
        model,
        quantizer.scheme("int8"),
        calibration.calibrate(model, images, (-4.5, 4.5), "min_max"),
    )
    graph = read_graph(int8)
    scales = {
        graph.tensors[index].name: float(values[0][0]) for index, values in scales_of(int8).items()
    }
    exact, before, after = (
        tensors(each, images) for each in (model, int8, correct_biases(model, int8, images))
    )
    linear = [layer.name for layer in layers_of(model)[-2:]]  # others clip what they compute
    off = [
        max(np.abs(means[name] - exact[name]).max() / scales[name] for name in linear)
        for means in (before, after)
    ]
    assert off[1] < 0.25 < off[0], "in scales of the output"


def test_a_file_is_corrected_only_where_that_brings_it_nearer(depthwise):
    model, images = depthwise
    int8 = quantizer.quantize(
        model, quantizer.scheme("int8"), calibration.calibrate(model, images, (-4.5, 4.5))
    )
    corrected = correct_biases(model, int8, images[:4])
    for wanted, other in ((int8, corrected), (corrected, int8)):
        file, figures = correct_if_better(
            model,
            int8,
            images[:4],
            lambda each, wanted=wanted: {"agreement": 90.0, "snr": 20.0 + (each == wanted)},
        )
        assert file == wanted != other
        assert figures == {"agreement": 90.0, "snr": 21.0, "corrected": wanted == corrected}


def test_a_grouped_convolution_has_the_mean_of_its_groups():
    rng = np.random.default_rng(0)
    kernel, mean = rng.normal(size=(4, 3, 3, 2)), rng.normal(size=(7, 7, 4))
    place = {"same": True, "size": (3, 3), "stride": (2, 2), "dilation": (1, 1)}
    together = mean_output("CONV_2D", kernel, place, mean)
    apart = [
        mean_output("CONV_2D", kernel[2 * i : 2 * i + 2], place, mean[..., 2 * i : 2 * i + 2])
        for i in range(2)
    ]
    assert np.allclose(together, np.concatenate(apart))


def naively_corrected(float_model, model, images):
    """The definition, every mean from the whole file anew, in float64."""
    corrected, graph = bytearray(model), read_graph(model)
    exact_graph = read_graph(float_model)
    exact, constants = writable_buffers(bytearray(float_model)), writable_buffers(corrected)
    scales = scales_of(model)

    def mean(file, index):
        interpreter = make_interpreter(bytes(file), keep_tensors=True)
        details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
        (first,), rows = interpreter.get_input_details(), []
        for image in images:
            interpreter.set_tensor(first["index"], quantize_array(image[None], first))
            interpreter.invoke()
            rows.append(dequantize_array(interpreter.get_tensor(index)[0], details[index]))
        return np.mean(rows, axis=0, dtype=np.float64)

    for number, (twin, op) in enumerate(zip(exact_graph.ops, graph.ops, strict=True)):
        if op.name not in KERNEL_OPS:
            continue
        geometry = window(float_model, number, exact[twin.inputs[1]].shape)
        wanted = mean_output(
            twin.name, exact[twin.inputs[1]], geometry, mean(float_model, twin.inputs[0])
        )
        kernel, kernel_scales = constants[op.inputs[1]], scales[op.inputs[1]][0].astype(np.float64)
        first = op.name != "DEPTHWISE_CONV_2D"
        shape = (-1, *(1,) * (kernel.ndim - 1)) if first else (-1,)
        given = mean_output(
            op.name, kernel * kernel_scales.reshape(shape), geometry, mean(corrected, op.inputs[0])
        )
        scale = scales[op.inputs[2]][0].astype(np.float64)
        constants[op.inputs[2]][:] = np.rint((wanted + exact[twin.inputs[2]] - given) / scale)
    return bytes(corrected)


def test_advancing_through_the_graph_gives_what_the_definition_gives(depthwise):
    model, images = depthwise
    int8 = quantizer.quantize(
        model, quantizer.scheme("int8"), calibration.calibrate(model, images, (-4.5, 4.5))
    )
    ours, wanted = (
        writable_buffers(bytearray(file))
        for file in (correct_biases(model, int8, images), naively_corrected(model, int8, images))
    )
    biases = [op.inputs[2] for op in read_graph(int8).ops if op.name in KERNEL_OPS]
    for index in biases:
        assert np.abs(ours[index].astype(np.int64) - wanted[index]).max() <= 1, "rounding of sums"
