from types import SimpleNamespace

import numpy as np
import pytest

from edgeq_lib import datasets, evaluate, litert, tables, training, zoo
from edgeq_lib.compress import ptq
from edgeq_lib.study import EdgeqError

FACTS = {"technique": "baseline", "scheme": "float32", "engine": "converter", "seconds": 0}


@pytest.fixture(scope="module")
def int8(small_net, pictures):
    ranges = ptq.calibrate(small_net[1], zoo.SIGNED(pictures[0][:32]), zoo.SIGNED.range)
    return ptq.quantize(small_net[1], ptq.scheme("int8"), ranges)


def data(pictures):
    images, labels = pictures
    part = datasets.Split(images[:100], labels[:100]), datasets.Split(images[100:300], labels[100:300])
    return SimpleNamespace(validation=part[0], test=part[1], classes=["a", "b", "c", "d"])


def test_parallel_predictions_are_those_of_a_plain_loop(small_net, int8, pictures):
    for model in (small_net[1], int8):
        plain = litert.run_images(litert.make_interpreter(model), zoo.SIGNED(pictures[0][:333]))
        found = evaluate.predict(model, pictures[0][:333], zoo.SIGNED, workers=3)
        assert found.dtype == plain.dtype and np.array_equal(found, plain)


def test_flatbuffer_and_keras_are_the_same_function(small_net, pictures):
    net, flat = small_net
    parity = evaluate.parity(net, flat, pictures[0][:256], zoo.SIGNED)
    assert parity["disagreements"] == 0 and parity["largest difference"] < 1e-3
    assert np.allclose(evaluate.predict(flat, pictures[0][:64], zoo.SIGNED),
                       training.predict(net, pictures[0][:64], zoo.SIGNED), atol=1e-3)


def test_parity_sees_another_function(small_net, pictures):
    net, flat = small_net
    other = zoo.resnet8((8, 8, 3), 4, alpha=0.25)
    assert evaluate.parity(other, flat, pictures[0][:256], zoo.SIGNED)["top-1 agreement %"] < 90


def test_parity_of_an_integer_file_tells_how_far_its_two_sets_of_kernels_are_apart(small_net, int8, pictures):
    net, flat = small_net
    assert not [name for name in evaluate.parity(net, flat, pictures[0][:64], zoo.SIGNED) if "kernels" in name]
    found = evaluate.parity(net, int8, pictures[0][:256], zoo.SIGNED)
    images = zoo.SIGNED(pictures[0][:256])
    ours, theirs = (litert.run_images(litert.make_interpreter(int8, xnnpack=way), images).argmax(-1) for way in (True, False))
    assert found["between kernels: disagreements"] == (ours != theirs).sum() <= 5


def test_scoring_is_paired_stored_and_not_repeated(study, small_net, int8, pictures, monkeypatch):
    base = study.shelve("float32", small_net[1], **FACTS)
    evaluate.score(study, base, data(pictures), zoo.SIGNED)
    variant = study.shelve("int8", int8, **{**FACTS, "technique": "ptq", "scheme": "int8"})
    quality = evaluate.score(study, variant, data(pictures), zoo.SIGNED)
    assert quality["validation"]["n"] == 100 and quality["test"]["n"] == 200
    assert variant.arrays()["test"].dtype == np.int8 and variant.read("quality") == quality
    expected = base.read("quality")["test"]["top1"] - quality["test"]["top1"]
    assert quality["test"]["drop"] == pytest.approx(expected, abs=1e-6)
    monkeypatch.setattr(evaluate, "predict", lambda *args: pytest.fail("inferred twice"))
    assert evaluate.score(study, variant, data(pictures), zoo.SIGNED) == quality
    table = tables.variants([base, variant])
    assert table.loc["int8", "× smaller"] > 1 and table.loc["int8", "weight bits"] == 8
    against = tables.against(base, [variant], {"test": pictures[1][100:300]}).iloc[0]
    assert against["drop"] == quality["test"]["drop"] and against["% smaller"] == pytest.approx(100 - 100 * len(int8) / len(
        small_net[1]))


@pytest.mark.parametrize("content", [b"", b"TFL3", "truncated", "garbled"])
def test_a_garbled_model_is_an_error_not_a_crash(study, small_net, pictures, content):
    whole = small_net[1]
    content = {"truncated": whole[:len(whole) // 2], "garbled": whole[:40] + whole[:40:-1]}.get(content, content)
    shelved_so = study.shelve("peer", content, **FACTS)
    with pytest.raises(EdgeqError, match="peer"):
        evaluate.score(study, shelved_so, data(pictures), zoo.SIGNED)
    changed_later = study.shelve("int8", whole, **FACTS)
    changed_later.path.write_bytes(content)
    with pytest.raises(EdgeqError, match="not the one that was shelved"):
        evaluate.score(study, changed_later, data(pictures), zoo.SIGNED)


def test_quantization_of_values_by_hand():
    detail = {"dtype": np.int8, "quantization": (0.5, 3)}
    assert litert.quantized(np.array([-100.0, -1.5, 0.0, 0.25, 100.0]), detail).tolist() == [-128, 0, 3, 3, 127]
    assert litert.dequantized(np.array([-128, 3], np.int8), detail).tolist() == [-65.5, 0.0]
    assert litert.quantized(np.array([0.3]), {"dtype": np.float32}).dtype == np.float32


def test_exports_have_a_fixed_batch_and_no_shape_ops(small_net):
    from edgeq_lib import flatbuffer
    report = flatbuffer.report(small_net[1])
    assert not {"SHAPE", "STRIDED_SLICE", "PACK"} & set(report["ops"])
    assert litert.make_interpreter(small_net[1]).get_input_details()[0]["shape"].tolist() == [1, 8, 8, 3]
