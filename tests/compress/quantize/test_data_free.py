"""What equalization and its companions leave as it was, and what they win, without an image."""

import numpy as np
import pytest
from batch_norm_networks import IMAGES, RANGE, depthwise, made, normalized, run

from edgeq_lib.compress.quantize import bn_statistics, data_free, quantized_weights, squant
from edgeq_lib.compress.quantize.kernels import float_kernels
from edgeq_lib.models.convert import convert
from edgeq_lib.models.tf import keras
from edgeq_lib.tflite.buffers import writable_buffers
from edgeq_lib.tflite.inspect import inspect_file
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.runtime import make_interpreter, quantize_array, run_images
from edgeq_lib.tflite.segments import cut

layers = keras.layers


def signal_to_noise(one, other):
    return 10 * np.log10(np.square(one).sum() / np.square(one - other).sum())


def test_chains_are_paired_through_pooling(net):
    found = data_free.pairs(net[0])
    assert [pair[:2] for pair in found] == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 6)] and found[
        -1
    ].between == ("MEAN",)
    assert len(data_free.pairs(net[0], ("NONE",))) == 0


def test_nothing_is_paired_across_swish_additions_and_shared_readers(small_net):
    assert data_free.pairs(made("swish")[1]) == []
    graph = read_graph(small_net[1])
    for first, second, _ in data_free.pairs(small_net[1]):
        between = graph.ops[first].outputs[0]
        assert [number for number, op in enumerate(graph.ops) if between in op.inputs] == [second]
    adders = {index for op in graph.ops if op.name in ("ADD", "MUL") for index in op.inputs}
    assert not any(
        graph.ops[first].outputs[0] in adders for first, *_ in data_free.pairs(small_net[1])
    )
    assert len(data_free.pairs(small_net[1])) == 3, "one inside each residual block"


def test_equalization_leaves_the_float_outputs(net):
    """ReLU: to 1e-5 of the largest output; ReLU6: to 30 dB, as few values meet the ceiling."""
    float32, norms, activation = net
    equal, after = data_free.equalize(float32, norms)
    exact, found = run(float32), run(equal)
    assert (
        np.abs(found - exact).max() < 1e-5 * np.abs(exact).max()
        if activation == "relu"
        else signal_to_noise(exact, found) > 30
    )
    assert len(equal) == len(float32) and equal != float32 and after.keys() == norms.keys()


def spread(model):
    """How unequal the weight ranges of a kernel's channels are, the mean over kernels of
    log10(largest / median).
    """
    largest = [np.abs(kernel.weights).max(axis=0) for kernel in float_kernels(model)]
    return np.mean([np.log10(each.max() / np.median(each)) for each in largest])


def test_channels_are_more_equal_and_per_tensor_int8_is_better(net):
    """Of the ReLU6 network few channels may move, so that int8 gains nothing; it must not lose more
    than 2 dB either.
    """
    float32, norms, activation = net
    equal, after = data_free.equalize(float32, norms)
    assert spread(equal) < spread(float32)
    ratios = [
        signal_to_noise(run(model), run(data_free.int8_per_tensor(model, known, RANGE)))
        for model, known in ((float32, norms), (equal, after))
    ]
    assert ratios[1] > ratios[0] - (2 if activation == "relu6" else 0)


def test_statistics_follow_the_weights(net):
    float32, norms, activation = net
    if activation == "relu6":
        pytest.skip("the ceiling cuts")
    equal, after = data_free.equalize(float32, norms)
    for model, known in ((float32, norms), (equal, after)):
        names = list(read_graph(model).tensors)
        interpreter = make_interpreter(model, keep_tensors=True)
        seen = {name: [] for name in known}
        for image in IMAGES:
            run_images(interpreter, image[None])
            for index, tensor in enumerate(names):
                if tensor.name in seen:
                    seen[tensor.name].append(interpreter.get_tensor(index).mean(axis=(0, 1, 2)))
        first = next(iter(known))  # deeper ones meet values that are not normal
        expected = bn_statistics.unary(
            bn_statistics.Moments(*known[first], *known[first]), bn_statistics.UNARY["RELU"]
        ).mean
        assert np.allclose(
            np.mean(seen[first], axis=0), expected, rtol=0.2, atol=0.05 * expected.max()
        )


def test_dead_channels_are_left_alone():
    model = depthwise()
    norm = next(layer for layer in model.layers if isinstance(layer, layers.BatchNormalization))
    gamma, beta, *rest = norm.get_weights()
    gamma[:3], beta[:3] = (0.0, 1e-30, 0.0), (-2.0, -3.0, 2.5)
    norm.set_weights([gamma, beta, *rest])
    float32 = convert(model)
    norms = bn_statistics.batch_norm_statistics(model, float32)
    equal, after = data_free.equalize(float32, norms)
    assert np.abs(run(equal) - run(float32)).max() < 1e-4 * np.abs(run(float32)).max()
    for name, (beta, gamma) in after.items():
        assert np.isfinite(beta).all() and np.isfinite(gamma).all()
        assert np.abs(beta).max() <= (np.abs(norms[name][0]) + 3 * norms[name][1]).max() * 1.001, (
            "no bias blown up"
        )
    assert (
        signal_to_noise(run(float32), run(data_free.int8_per_tensor(equal, after, RANGE, equal)))
        > 5
    )


def test_relu_in_the_place_of_relu6(net):
    float32, _, activation = net
    replaced = data_free.without_relu6(float32)
    assert (replaced != float32) == (activation == "relu6")
    assert (
        set(bn_statistics.activations(replaced)) == {"NONE", "RELU"}
        and run(replaced).max() >= run(float32).max() - 10
    )


def test_absorbed_biases_change_little_and_lower_the_range():
    """Values are sums of 27 pixels, so nearly normal: below beta - 3 gamma lie some 0.1 %."""
    image = keras.Input((12, 12, 3))
    norm = layers.BatchNormalization(beta_initializer=keras.initializers.Constant(2.0))
    x = layers.ReLU()(norm(layers.Conv2D(8, 3, padding="valid")(image)))
    model = keras.Model(image, layers.Flatten()(layers.Conv2D(4, 1, bias_initializer="ones")(x)))
    norm.gamma.assign([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    float32 = convert(normalized(model, IMAGES))
    norms = bn_statistics.batch_norm_statistics(model, float32)
    absorbed, after = data_free.absorb_high_biases(float32, norms)
    (name,) = norms
    assert np.allclose(
        norms[name][0] - after[name][0], [1.7, 1.4, 1.1, 0.8, 0.5, 0.2, 0, 0], atol=1e-6
    )
    assert absorbed != float32 and signal_to_noise(run(float32), run(absorbed)) > 40


def test_analytic_bias_correction_gives_the_means_back(net):
    float32, norms, _ = net
    rng = np.random.default_rng(0)
    changed = bytearray(float32)
    for kernel in float_kernels(float32):
        writable_buffers(changed)[kernel.index][:] *= 1 + rng.normal(
            0, 0.3, writable_buffers(changed)[kernel.index].shape
        )
    corrected = data_free.correct_biases_from_statistics(float32, bytes(changed), norms, RANGE)
    exact, before, after = (run(each).mean(axis=0) for each in (float32, bytes(changed), corrected))
    assert np.abs(after - exact).mean() < 0.5 * np.abs(before - exact).mean()
    assert data_free.correct_biases_from_statistics(float32, float32, norms, RANGE) == float32


def test_clipped_weights(net):
    clipped = data_free.clip_weights(net[0], 0.5)
    assert max(np.abs(kernel.weights).max() for kernel in float_kernels(clipped)) == 0.5
    assert data_free.clip_weights(net[0], 1e9) == net[0]


def test_low_bit_weights_with_corrected_biases(net):
    float32, norms, _ = net
    ranges = bn_statistics.ranges_from_moments(float32, norms, RANGE)
    grids = squant.round_network(float32, ranges, {}, 4)
    plain, corrected = (
        quantized_weights.with_quantized_weights(float32, grids),
        data_free.with_weights(float32, grids, norms, RANGE),
    )
    exact = run(float32).mean(axis=0)
    assert (
        np.abs(run(corrected).mean(axis=0) - exact).mean()
        < np.abs(run(plain).mean(axis=0) - exact).mean()
    )


@pytest.mark.parametrize("bits", [8, 6, 4, 3])
def test_files_of_few_bits_hold_dense_layers_that_compute_what_convolutions_do(net, bits):
    float32, norms, _ = net
    ranges = bn_statistics.ranges_from_moments(float32, norms, RANGE)
    file = data_free.files_by_rounding(float32, norms, RANGE, bits, "squant")["int8 activations"]
    eights = {k.name: 8 for k in float_kernels(float32) if k.kind == "DEPTHWISE_CONV_2D"}
    codes = squant.round_network(float32, ranges, eights, bits, "squant")
    convolutions = quantized_weights.to_file(
        data_free.with_weights(float32, codes, norms, RANGE), codes, ranges
    )
    graph, twin = read_graph(file), read_graph(convolutions)
    assert inspect_file(file)["integer_only"]
    pointwise = 0
    values = calibration_codes(convolutions)
    for number, (op, other) in enumerate(zip(graph.ops, twin.ops, strict=True)):
        if op.name != other.name:
            assert (op.name, other.name) == ("FULLY_CONNECTED", "CONV_2D") and bits < 8
            pointwise += 1
        ours, theirs = (
            outputs_of_op(model, number, values[other.inputs[0]]) for model in (file, convolutions)
        )
        assert np.abs(ours - theirs).max() <= 1, "one step of rounding"
    assert (pointwise > 0) == (bits <= 4)
    assert len(file) < 1.01 * len(convolutions) + 200


def calibration_codes(model):
    """Tensor → what a file computes on an image."""
    interpreter, graph = make_interpreter(model, keep_tensors=True), read_graph(model)
    detail = interpreter.get_input_details()[0]
    interpreter.set_tensor(detail["index"], quantize_array(IMAGES[:1], detail))
    interpreter.invoke()
    computed = [*graph.inputs, *(index for op in graph.ops for index in op.outputs)]
    return {index: interpreter.get_tensor(index) for index in computed}


def outputs_of_op(model, number, values):
    """What one op of a file makes of values, as int64."""
    op = read_graph(model).ops[number]
    part = make_interpreter(cut(model, slice(number, number + 1), op.inputs[:1], op.outputs))
    part.set_tensor(op.inputs[0], values)
    part.invoke()
    return part.get_tensor(op.outputs[0]).astype(np.int64)
