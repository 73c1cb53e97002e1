"""Other people's files: declared, checked, measured on the very same images."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_study import int8_of, make_study, with_background

from edgeq_lib.data import dataset
from edgeq_lib.data.prepare import at_size
from edgeq_lib.files import EdgeqError
from edgeq_lib.measure import peers
from edgeq_lib.models.preprocessing import SIGNED, TORCH
from edgeq_lib.study import Study
from edgeq_lib.tflite.inspect import inspect_file
from edgeq_lib.tflite.runtime import make_interpreter, quantize_array

ASSETS = os.environ.get("EDGEQ_ASSETS")


@pytest.fixture(scope="module")
def models(small_net, pictures):
    keras_model, float32 = small_net
    return {
        "float32": float32,
        "int8": int8_of(float32, pictures),
        "google": with_background(keras_model, 16, pictures),
    }


@pytest.fixture
def shelf(tmp_path, pictures, models):
    for name, model in models.items():
        (tmp_path / f"{name}.tflite").write_bytes(model)
    make_study(tmp_path, pictures, models["float32"], models["int8"])
    return Study("sample", "70_peers")


@pytest.fixture
def google(tmp_path):
    return {
        "file": str(tmp_path / "google.tflite"),
        "preprocessing": "raw",
        "class_offset": 1,
        "licence": "Apache-2.0",
    }


def test_a_peer_is_measured_on_the_same_images_at_its_own_size(shelf, google):
    (peer,) = peers.save_peer(shelf, [google])
    data = dataset.load(shelf)
    quality = peers.score_peer(shelf, peer, data)
    assert peer.name == "google" and peer.facts["kind"] == peer.facts["technique"] == "peer"
    assert peer.facts["scheme"] == "int8"
    assert peer.facts["image_size"] == [16, 16] and peer.facts["class_offset"] == 1
    pixels = at_size(shelf, data, (16, 16), 3)
    interpreter = make_interpreter(peer.model())
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    for split in ("validation", "test"):
        stored = peer.arrays()[split]
        assert stored.shape == (40, 4) and stored.dtype == np.uint8
        for image, row in zip(getattr(pixels, split).images, stored, strict=True):
            interpreter.set_tensor(source["index"], image[None])  # the pixels as they are
            interpreter.invoke()
            assert (interpreter.get_tensor(target["index"])[0, 1:] == row).all()
        assert quality[split]["n"] == 40 and quality[split]["agreement"] > 90
        assert quality[split]["drop"] is not None


def test_pixels_reach_an_int8_input_shifted_and_nothing_else():
    every = np.arange(256, dtype=np.uint8)
    for dtype, shift in ((np.uint8, 0), (np.int8, -128)):
        for scale, zero in (
            (1.0, -128 - shift),
            (0.0078125, 128 + shift),
            (0.007843137718737125, 127 + shift),
        ):
            detail = {"dtype": dtype, "quantization": (scale, zero)}
            values = peers.peer_preprocessing("raw", detail, "x")(every)
            assert (quantize_array(values, detail) == every.astype(int) + shift).all()
    assert peers.peer_preprocessing("torch", {}, "x") is TORCH
    for dtype, scale in ((np.float32, 0.0), (np.int16, 0.1), (np.uint8, 0.0)):
        with pytest.raises(EdgeqError, match="say how"):
            peers.peer_preprocessing("raw", {"dtype": dtype, "quantization": (scale, 0)}, "x")


def test_what_is_measured_stays_until_its_declaration_or_the_data_change(
    shelf, google, monkeypatch
):
    (peer,) = peers.save_peer(shelf, [google])
    peers.score_peer(shelf, peer, dataset.load(shelf))
    shelf.finish({})
    from edgeq_lib.measure import accuracy

    monkeypatch.setattr(accuracy, "predict_file", lambda *_: pytest.fail("predicted again"))
    again = Study("sample", "70_peers")
    (peer,) = peers.save_peer(again, [google | {"source": None}])
    peers.score_peer(again, peer, dataset.load(again))
    (peer,) = peers.save_peer(Study("sample", "70_peers"), [google | {"preprocessing": "signed"}])
    assert not peer.arrays() and peer.read("quality") is None
    study = Study("sample", "70_peers")
    peer.write_arrays(test=np.zeros((40, 4)))
    study.write("data", study.read("data") | {"fingerprint": "other"})
    (peer,) = peers.save_peer(study, [google | {"preprocessing": "signed"}])
    assert not peer.arrays()


def test_a_peer_no_longer_declared_goes(shelf, google):
    peers.save_peer(shelf, [google])
    shelf.finish({})
    assert "google" in [variant.name for variant in Study("sample").variants()]
    later = Study("sample", "70_peers")
    assert peers.save_peer(later, []) == []
    later.finish({})
    assert "google" not in [variant.name for variant in Study("sample").variants()]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"class_offset": 0}, "5 outputs, 0 of them no class, and the data have 4 classes"),
        ({"image_size": 8}, "takes images of 16 × 16, not of 8 × 8"),
        ({"preprocessing": "caffee"}, "no preprocessing 'caffee'"),
        ({"preprocessing": None}, "lacks file or preprocessing"),
        ({"mean": 3}, "a field 'mean' that no peer has"),
        ({"class_offset": "1"}, "class_offset 1; give"),
        ({"image_size": [16]}, r"image_size \[16\]"),
        ({"name": "../up"}, "cannot be called '../up'"),
        ({"name": "int8"}, "'int8' stands for another file"),
        ({"file": "$NO_SUCH_THING/a.tflite"}, "environment variable is not set"),
        ({"file": "nowhere/a.tflite"}, "does not exist; correct the path"),
    ],
)
def test_a_wrong_declaration_is_one_sentence(shelf, google, change, says):
    with pytest.raises(EdgeqError, match=says) as caught:
        peers.save_peer(shelf, [google | change])
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert [variant.name for variant in Study("sample").variants()] == ["float32", "int8"]


def test_two_of_the_same_name(shelf, google):
    with pytest.raises(EdgeqError, match="a name of its own"):
        peers.save_peer(shelf, [google, google])


def test_a_file_that_is_broken_or_brings_the_runtime_down(shelf, google, monkeypatch):
    content = Path(google["file"]).read_bytes()
    Path(google["file"]).write_bytes(content[:900])
    with pytest.raises(EdgeqError, match="peer 'google' cannot be used: .*garbled"):
        peers.check_peer(google)
    Path(google["file"]).write_bytes(content)
    crash = Path(google["file"]).with_name("crash.py")
    crash.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    from edgeq_lib.measure import standalone

    monkeypatch.setattr(standalone, "__file__", str(crash))
    with pytest.raises(EdgeqError, match="SIGSEGV"):
        peers.check_peer(google)


def test_each_variant_gets_a_real_image_of_its_own_kind(shelf, google):
    (peer,) = peers.save_peer(shelf, [google])
    variants, data = [shelf.variant("float32"), peer], dataset.load(shelf)
    images = peers.first_images(shelf, variants, data, SIGNED)
    assert (images["float32"] == SIGNED(data.validation.images[:1])).all()
    assert images["google"].shape == (1, 16, 16, 3) and images["google"].dtype == np.float32


def test_the_scheme_is_read_from_the_file():
    from tiny_files import tiny_files

    named = {name: peers.peer_scheme(inspect_file(model)) for name, model in tiny_files().items()}
    assert named == {
        "float32": "float32",
        "dynamic": "dynamic_int8",
        "weight_only": "weight_only_int8",
        "int8": "int8",
        "int8_float_io": "int8",
        "int16x8": "int16x8",
        "int4": "mixed",
        "uint8": "int8",
    }


@pytest.mark.skipif(not ASSETS, reason="needs the published files in EDGEQ_ASSETS")
def test_published_files_are_understood():
    checked = {
        path.stem: peers.check_peer(
            {"file": str(path), "preprocessing": "raw", "class_offset": offset}, classes
        )
        for path in sorted((Path(ASSETS) / "peers").glob("*.tflite"))
        for offset, classes in [(0, 10) if "cifar10" in path.name else (1, 1000)]
    }
    assert checked["mobilenet_v1_0.75_192_quant"]["image_size"] == [192, 192]
    assert checked["mlperf_tiny_ic_resnet8_cifar10_int8"]["image_size"] == [32, 32]
    json.dumps([{**entry, "path": ""} for entry in checked.values()])


def test_nothing_is_left_when_decoding_again_fails(shelf, google, tmp_path):
    (peer,) = peers.save_peer(shelf, [google])
    shutil.rmtree(tmp_path / "photos")
    with pytest.raises(EdgeqError, match="no folder"):
        peers.score_peer(shelf, peer, dataset.load(shelf))
    assert not peer.arrays()
