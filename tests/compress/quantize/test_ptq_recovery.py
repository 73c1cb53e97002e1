from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from edgeq_lib.compress.quantize import calibration, ptq_recovery, quantizer
from edgeq_lib.compress.quantize.bias_correction import correct_biases
from edgeq_lib.compress.quantize.kernels import KERNEL_OPS
from edgeq_lib.compress.quantize.sensitivity import (
    EvaluationContext,
    Int8Recipe,
    display_name,
    fidelity,
    layer_sensitivity,
    layers_of,
    most_faithful,
    signal_to_noise,
    sweep,
)
from edgeq_lib.measure.statistics import quality_record
from edgeq_lib.models.convert import convert
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.models.tf import keras
from edgeq_lib.tflite.buffers import scales_of, writable_buffers
from edgeq_lib.tflite.reader import read_graph
from edgeq_lib.tflite.runtime import dequantize_array, make_interpreter, quantize_array, run_images


@pytest.fixture(scope="module")
def case(small_net, pictures):
    images, labels = pictures
    observed = calibration.observe(small_net[1], SIGNED(images[:48]))
    reference = run_images(make_interpreter(small_net[1]), SIGNED(images[200:300]))
    return EvaluationContext(
        small_net[1], observed, images[200:300], labels[200:300], reference, SIGNED
    )


@pytest.fixture(scope="module")
def depthwise():
    """A small network: all kinds of weights, odd sizes, strides and both paddings, at random."""
    keras.utils.set_random_seed(0)
    layers, image = keras.layers, keras.Input((9, 11, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu6")(image)
    x = layers.DepthwiseConv2D(
        3, strides=2, padding="same", activation="relu6", depth_multiplier=2
    )(x)
    x = layers.Conv2D(8, (2, 3), padding="valid", activation="relu6")(x)
    x = layers.Conv2D(8, 3, dilation_rate=2, padding="same")(x)
    model = keras.Model(image, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))
    rng = np.random.default_rng(0)
    model.set_weights(
        [rng.normal(0, 0.4, weight.shape).astype(np.float32) for weight in model.get_weights()]
    )
    return convert(model), rng.normal(0, 1, (32, 9, 11, 3)).astype(np.float32)


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


def test_layers_take_along_the_ops_behind_them(small_net):
    parts, graph = layers_of(small_net[1]), read_graph(small_net[1])
    kernels = [op for op in graph.ops if op.name in KERNEL_OPS]
    assert [part.name for part in parts] == [graph.tensors[op.outputs[0]].name for op in kernels]
    assert sum(len(part.outputs) for part in parts) == len(graph.ops)


def test_an_op_left_float_is_float_and_the_rest_is_not(case):
    part = layers_of(case.model)[2]
    graph = read_graph(case.make(Int8Recipe(left_float=part.outputs)))
    floats = {
        graph.tensors[op.outputs[0]].name
        for op in graph.ops
        if op.name in KERNEL_OPS and graph.tensors[op.inputs[0]].is_float
    }
    assert floats == {part.name}
    assert {graph.tensors[index].dtype for index in (*graph.inputs, *graph.outputs)} == {"INT8"}
    last = layers_of(case.model)[-1]
    graph = read_graph(case.make(Int8Recipe(left_float=last.outputs)))
    assert graph.tensors[graph.outputs[0]].dtype == "INT8", (
        "the file's output stays, though its op is float"
    )


def test_one_scale_for_dense_layers_alone(case):
    for per_tensor, wanted in (((), True), (("FULLY_CONNECTED",), False)):
        graph = read_graph(case.make(Int8Recipe(per_tensor=per_tensor)))
        many = {
            op.name: graph.tensors[op.inputs[1]].scales > 1
            for op in graph.ops
            if op.name in KERNEL_OPS
        }
        assert many == {"CONV_2D": True, "FULLY_CONNECTED": wanted}


def test_sweeps_are_the_same_in_one_thread_and_in_four(case):
    recipes = {name: Int8Recipe(activations=name) for name in ("moving_average", "covering", "mse")}
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(4) as four:
        assert sweep(case, recipes, "", one) == sweep(case, recipes, "", four)
    found = sweep(case, {"int8": Int8Recipe("covering")}, "")["int8"]
    alone = case.compare(case.make(Int8Recipe("covering")))
    assert found == alone and found["agreement"] > 90 and found["kB"] < len(case.model) / 1000


def test_a_layer_alone_costs_less_than_all(case):
    rows = layer_sensitivity(case, Int8Recipe("covering"))
    whole = case.compare(case.make(Int8Recipe("covering")))
    assert [row["kind"] for row in rows] == [part.kind for part in layers_of(case.model)]
    assert all(row["only_snr"] > whole["snr"] for row in rows)
    assert max(row["without_snr"] for row in rows) > whole["snr"]


def test_noise_is_measured_tensor_by_tensor(case, pictures):
    images = SIGNED(pictures[0][:16])
    same = signal_to_noise(case.model, case.model, images)
    assert set(same.values()) == {100.0}
    int8 = signal_to_noise(case.model, case.make(Int8Recipe("covering")), images)
    assert int8.keys() == same.keys() and all(10 < ratio < 60 for ratio in int8.values())
    mixed = signal_to_noise(
        case.model,
        case.make(replace(Int8Recipe("covering"), left_float=layers_of(case.model)[0].outputs)),
        images,
    )
    assert mixed.keys() == same.keys(), "names that the quantizer duplicates are still paired"


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


def test_float_layers_keep_their_bias(case, pictures):
    part = layers_of(case.model)[1]
    int8 = case.make(Int8Recipe("covering", left_float=part.outputs))
    mended = correct_biases(case.model, int8, SIGNED(pictures[0][:16]))
    op = [
        op
        for op in read_graph(int8).ops
        if read_graph(int8).tensors[op.outputs[0]].name == part.name
    ][0]
    before, after = (writable_buffers(bytearray(each))[op.inputs[2]] for each in (int8, mended))
    assert before.dtype == np.float32 and np.array_equal(before, after)


def test_the_rule_of_choice():
    assert (
        most_faithful({"a": {"agreement": 90, "snr": 9}, "b": {"agreement": 91, "snr": 1}}) == "b"
    )
    assert (
        most_faithful({"a": {"agreement": 90, "snr": 1}, "b": {"agreement": 90, "snr": 9}}) == "b"
    )
    outputs = np.eye(4)[[0, 1, 2, 3]]
    assert fidelity(outputs + 7, outputs) == {"agreement": 100.0, "snr": 100.0}
    assert fidelity(outputs[[1, 1, 2, 3]], outputs)["agreement"] == 75


def test_two_calibration_sets_share_no_image():
    labels = np.repeat(np.arange(10), 30)
    one, two = ptq_recovery.disjoint_calibration_sets(labels, 64, 3)
    assert len(one) == len(two) == 64 and not set(one) & set(two)
    assert np.ptp(np.bincount(labels[np.concatenate([one, two])])) <= 1
    assert [len(part) for part in ptq_recovery.disjoint_calibration_sets(labels, 500, 0)] == [
        150,
        150,
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "net/conv_dw_1_relu/Relu6;net/conv_dw_1_bn/FusedBatchNormV3;net/conv_dw_1/depthwise",
            "conv_dw_1",
        ),
        ("net/b4b_se_reduce/Tensordot/MatMul;net/b4b_se_reduce/BiasAdd", "b4b_se_reduce"),
        ("net/b4a_project/BiasAdd;net/b4b_expand/Tensordot;net/b4b_expand/BiasAdd", "b4b_expand"),
        ("net/block4a_se_excite/mul", "block4a_se_excite"),
        ("StatefulPartitionedCall:0", "output"),
        ("image", "image"),
    ],
)
def test_short_names(name, said):
    assert display_name(name) == said


def test_a_row_of_the_ablation_holds_the_quality_of_the_file(case):
    outputs, classes = np.eye(4)[case.labels], list("abcd")
    row = ptq_recovery.ablation_row(
        "a", "ptq", case.model, outputs, case.labels, classes, case.reference
    )
    expected = quality_record(outputs, case.labels, classes, case.reference)
    assert (row["step"], row["technique"]) == ("a", "ptq")
    assert row["drop"] == expected["drop"] and row["agreement"] == expected["agreement"]
