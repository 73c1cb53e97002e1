"""What a file keeps of float32's output, tensor by tensor and layer by layer."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from edgeq_lib.compress.quantize.kernels import KERNEL_OPS
from edgeq_lib.compress.quantize.sensitivity import (
    Int8Recipe,
    Probe,
    decibels,
    display_name,
    fidelity,
    layer_sensitivity,
    layers_of,
    most_faithful,
    noise_by_width,
    signal_to_noise,
    sweep,
)
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.tflite.reader import read_graph


def test_layers_take_along_the_ops_behind_them(small_net):
    parts, graph = layers_of(small_net[1]), read_graph(small_net[1])
    kernels = [op for op in graph.ops if op.name in KERNEL_OPS]
    assert [part.name for part in parts] == [graph.tensors[op.outputs[0]].name for op in kernels]
    assert sum(len(part.outputs) for part in parts) == len(graph.ops)


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


def test_an_op_left_float_is_float_and_the_rest_is_not(context):
    part = layers_of(context.model)[2]
    graph = read_graph(context.make(Int8Recipe(left_float=part.outputs)))
    floats = {
        graph.tensors[op.outputs[0]].name
        for op in graph.ops
        if op.name in KERNEL_OPS and graph.tensors[op.inputs[0]].is_float
    }
    assert floats == {part.name}
    assert {graph.tensors[index].dtype for index in (*graph.inputs, *graph.outputs)} == {"INT8"}
    last = layers_of(context.model)[-1]
    graph = read_graph(context.make(Int8Recipe(left_float=last.outputs)))
    assert graph.tensors[graph.outputs[0]].dtype == "INT8", (
        "the file's output stays, though its op is float"
    )


def test_one_scale_for_dense_layers_alone(context):
    for per_tensor, wanted in (((), True), (("FULLY_CONNECTED",), False)):
        graph = read_graph(context.make(Int8Recipe(per_tensor=per_tensor)))
        many = {
            op.name: graph.tensors[op.inputs[1]].scales > 1
            for op in graph.ops
            if op.name in KERNEL_OPS
        }
        assert many == {"CONV_2D": True, "FULLY_CONNECTED": wanted}


def test_sweeps_are_the_same_in_one_thread_and_in_four(context):
    recipes = {name: Int8Recipe(activations=name) for name in ("moving_average", "covering", "mse")}
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(4) as four:
        assert sweep(context, recipes, "", one) == sweep(context, recipes, "", four)
    found = sweep(context, {"int8": Int8Recipe("covering")}, "")["int8"]
    alone = context.compare(context.make(Int8Recipe("covering")))
    assert found == alone and found["agreement"] > 90 and found["kB"] < len(context.model) / 1000


def test_a_layer_alone_costs_less_than_all(context):
    rows = layer_sensitivity(context, Int8Recipe("covering"))
    whole = context.compare(context.make(Int8Recipe("covering")))
    assert [row["kind"] for row in rows] == [part.kind for part in layers_of(context.model)]
    assert all(row["only_snr"] > whole["snr"] for row in rows)
    assert max(row["without_snr"] for row in rows) > whole["snr"]


def test_noise_is_measured_tensor_by_tensor(context, pictures):
    images = SIGNED(pictures[0][:16])
    same = signal_to_noise(context.model, context.model, images)
    assert set(same.values()) == {100.0}
    int8 = signal_to_noise(context.model, context.make(Int8Recipe("covering")), images)
    assert int8.keys() == same.keys() and all(10 < ratio < 60 for ratio in int8.values())
    mixed = signal_to_noise(
        context.model,
        context.make(
            replace(Int8Recipe("covering"), left_float=layers_of(context.model)[0].outputs)
        ),
        images,
    )
    assert mixed.keys() == same.keys(), "names that the quantizer duplicates are still paired"


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


def test_noise_is_of_one_kernel_and_falls_with_its_bits(rounded_alone):
    float32, _, _, probe, alone = rounded_alone
    noise = noise_by_width(float32, alone, probe)
    last = list(noise)[-1]
    assert noise[last][2] > noise[last][4] > noise[last][8] == 0
    assert all(each[bits] >= 0 for each in noise.values() for bits in each)
    assert probe.compare(float32) == pytest.approx(
        {"agreement": 100.0, "snr": 100.0, "noise": 1e-10}
    )


def test_decibels_are_of_energies_and_end_at_a_hundred():
    assert decibels(100.0, 1.0) == pytest.approx(20) and decibels(1.0, 10.0) == pytest.approx(-10)
    assert decibels(5.0, 0.0) == 100, "what is exact has no noise"


def test_the_probe_and_the_context_judge_a_file_alike(context):
    file = context.make(Int8Recipe("covering"))
    probe = Probe(context.images, context.preprocess, context.reference)
    figures, wanted = probe.compare(file), context.compare(file)
    assert figures["agreement"] == wanted["agreement"]
    assert figures["snr"] == pytest.approx(wanted["snr"], rel=1e-6)
    assert figures["noise"] == pytest.approx(10 ** (-figures["snr"] / 10))
