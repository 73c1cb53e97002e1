"""ONNX Runtime answers as LiteRT does; its int8 is per channel, and of seven bits where needed."""

import numpy as np
import pytest

from edgeq_lib.measure.accuracy import predict_file
from edgeq_lib.measure.runtimes import onnxruntime
from edgeq_lib.measure.runtimes.compare import check_qdq
from edgeq_lib.measure.runtimes.engine import predict
from edgeq_lib.models.preprocessing import SIGNED

needs_extra = pytest.mark.skipif(
    bool(onnxruntime.reason_missing()), reason="needs the extra `runtimes`"
)


@pytest.fixture(scope="module")
def floats(small_net):
    return onnxruntime.float_files(small_net[1])


def constants(files):
    """Name → values of the constants, and the nodes, of an ONNX file."""
    import onnx

    graph = onnx.load_from_string(files[onnxruntime.FILE]).graph
    return {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}, graph.node


@pytest.mark.parametrize(
    ("isa", "platform", "needed"),
    [
        (["avx2"], "Linux x86_64", True),
        ([], "Windows AMD64", True),
        (["avx2", "avx512_vnni"], "Linux x86_64", False),
        (["avx2", "avx_vnni"], "Linux x86_64", False),
        (["asimd"], "Linux aarch64", False),
    ],
)
def test_seven_bits_are_for_x86_without_vnni(isa, platform, needed):
    assert onnxruntime.needs_reduced_range(isa, platform) == needed


@needs_extra
def test_the_float_network_is_the_same_function(floats, small_net, pictures):
    images = pictures[0][:100]
    ours = predict(onnxruntime.load, floats, small_net[1], images, SIGNED)
    np.testing.assert_allclose(ours, predict_file(small_net[1], images, SIGNED), atol=1e-4)


@needs_extra
@pytest.mark.parametrize(("reduce_range", "largest"), [(False, 127), (True, 64)])
def test_int8_is_per_channel_and_names_the_same_classes(
    floats, small_net, pictures, reduce_range, largest, capfd
):
    images = pictures[0][100:228]
    int8 = onnxruntime.quantize(floats, SIGNED(pictures[0][:32]), reduce_range=reduce_range)
    ours = predict(onnxruntime.load, int8, small_net[1], images, SIGNED)
    theirs = predict_file(small_net[1], images, SIGNED)
    assert (ours.argmax(1) == theirs.argmax(1)).mean() > 0.95
    values, nodes = constants(int8)
    kernels = [
        values[node.input[0]]
        for node in nodes
        if node.op_type == "DequantizeLinear" and values.get(node.input[0], np.zeros(0)).ndim == 4
    ]
    scales = {
        node.input[0]: values[node.input[1]] for node in nodes if node.op_type == "DequantizeLinear"
    }
    assert kernels and all(kernel.dtype == np.int8 for kernel in kernels)
    assert max(np.abs(kernel.astype(int)).max() for kernel in kernels) == largest
    assert max(scale.size for scale in scales.values()) > 1, "a scale per channel"
    assert not any(capfd.readouterr()), "no warning in a notebook"


@needs_extra
def test_for_tensorrt_zero_points_are_0_and_biases_float(floats, small_net, pictures):
    images = SIGNED(pictures[0][:32])
    files = onnxruntime.quantize_for_tensorrt(floats, images)
    values, nodes = constants(files)
    quantized = [node for node in nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert {values[node.input[2]].dtype for node in quantized} == {np.dtype(np.int8)}
    assert all(not values[node.input[2]].any() for node in quantized)
    assert all(
        values[node.input[2]].dtype == np.float32 for node in nodes if node.op_type == "Conv"
    )
    maker = {name: node.op_type for node in nodes for name in node.output}
    before = {maker[node.input[0]] for node in nodes if node.op_type == "Relu"}
    assert before == {"Conv", "Add"}, "nothing between a layer and its activation"
    base = predict_file(small_net[1], pictures[0][32:132], SIGNED)
    told = check_qdq(files, small_net[1], pictures[0][32:132], SIGNED, base)
    assert told["images"] == 100 and told["same class %"] >= 98
    assert told["agrees with float32 %"] > 95


@needs_extra
def test_invoke_computes_with_the_image_that_was_set(floats, pictures):
    network, images = onnxruntime.load(floats), SIGNED(pictures[0][:2])
    answers = [network.answer(image[None]) for image in images]
    network.set_image(images[1:])
    network.invoke()
    assert np.array_equal(network._bound.copy_outputs_to_cpu()[0], answers[1])
    assert not np.array_equal(*answers)
