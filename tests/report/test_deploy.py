"""The hand-over: predict.py, run as a program of its own, repeats the predictions that the study
stored.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from edgeq_lib.compress.quantize import calibration, quantizer
from edgeq_lib.data.decode import ASPECTS, decode_image
from edgeq_lib.files import EdgeqError
from edgeq_lib.measure.accuracy import predict_file
from edgeq_lib.models import zoo
from edgeq_lib.models.convert import convert
from edgeq_lib.models.preprocessing import CAFFE, SIGNED
from edgeq_lib.models.tf import keras
from edgeq_lib.report import deploy
from edgeq_lib.study import Study
from edgeq_lib.tflite.runtime import dequantize_array, make_interpreter

CLASSES = ["cat", "Größe", "a b", "d"]
# Runs predict.py with its arguments, and fails when it took more than its three packages.
WRAPPER = """import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0])
taken = {"tensorflow", "tf_keras", "edgeq_lib", "scipy", "pandas", "matplotlib"} & set(sys.modules)
sys.exit(f"predict.py imports {taken}" if taken else 0)"""


def originals(channels):
    """Photos of many sizes and kinds as Pillow images: colour, grey, transparent, 16 bits, one of
    the network's own size.
    """
    rng = np.random.default_rng(0)
    shapes = [(37, 20), (20, 37), (8, 8), (5, 6), (64, 64), (9, 8)]
    kinds = ["L"] * 5 + ["RGB"] if channels == 1 else ["RGB"] * 4 + ["RGBA", "L"]
    found = []
    for (height, width), kind in zip(shapes, kinds, strict=True):
        depth = {"L": (), "RGB": (3,), "RGBA": (4,)}[kind]
        found.append(
            Image.fromarray(rng.integers(0, 256, (height, width, *depth)).astype(np.uint8), kind)
        )
    return [*found, Image.fromarray(rng.integers(0, 65536, (16, 12)).astype(np.uint16))]


def study_of(model, channels, aspect, preprocess):
    study = Study("handover", "90_analysis")
    study.write(
        "data", {"classes": CLASSES, "image_size": [8, 8], "channels": channels, "aspect": aspect}
    )
    study.write("baseline", {"preprocessing": preprocess.record()})
    variant = study.save_variant(
        "chosen", model, technique="ptq", scheme="int8", engine="x", seconds=1
    )
    row = {
        "name": "chosen",
        "technique": "ptq",
        "ratio": 4.0,
        "latency_ratio": 0.3,
        "drop": None,
        "bytes": len(model),
        "sha256": variant.facts["sha256"],
        "weight_bits": 8.0,
        "activation_bits": 8.0,
    }
    return study, {
        "variants": [row],
        "versions": {"ai-edge-litert": "2.3.0"},
        "command": "edgeq run handover",
        "criteria": [],
        "recommendation": {"variant": "chosen", "met": True, "status": {}},
    }


def check(tmp_path, model, channels, aspect, preprocess):
    study, results = study_of(model, channels, aspect, preprocess)
    assert deploy.write(study, results) == [
        "model.tflite",
        "labels.txt",
        "preprocess.json",
        "predict.py",
        "README.md",
    ]
    paths, decoded = [], []
    for number, image in enumerate(originals(channels)):
        paths.append(tmp_path / f"{number}.png")
        image.save(paths[-1])
        decoded.append(decode_image(paths[-1], (8, 8), channels, aspect)[0])
    stored = predict_file(model, np.array(decoded), preprocess)
    scores = dequantize_array(stored, make_interpreter(model).get_output_details()[0])
    program = study.folder / "report" / "deploy" / "predict.py"
    done = subprocess.run(
        [sys.executable, "-c", WRAPPER, program, *paths], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told = [line.split("\t") for line in done.stdout.splitlines()]
    if make_interpreter(model).get_output_details()[0]["shape"][-1] == 1:
        scores = scores[:, 1:]  # the second class's, whichever is named
    assert [path for path, _, _ in told] == [str(path) for path in paths]
    assert [label for _, label, _ in told] == [CLASSES[best] for best in stored.argmax(axis=1)]
    assert [float(score) for _, _, score in told] == pytest.approx(
        scores.max(axis=1).tolist(), rel=1e-5
    )


@pytest.fixture(scope="module")
def files(small_net, pictures):
    """The small network's float file, and int8 files with all kinds of input and output."""
    _, flat = small_net
    ranges = calibration.calibrate(flat, SIGNED(pictures[0][:32]), SIGNED.range)
    return {"float32": flat} | {
        name: quantizer.quantize(flat, quantizer.scheme(name), ranges)
        for name in ("int8", "int8_uint8_io", "int8_float_io")
    }


@pytest.mark.parametrize("aspect", ASPECTS)
@pytest.mark.parametrize("scheme", ["float32", "int8", "int8_uint8_io", "int8_float_io"])
def test_predict_repeats_the_stored_predictions(tmp_path, files, scheme, aspect):
    check(tmp_path, files[scheme], 3, aspect, SIGNED)


def test_predict_with_channels_turned_and_means_a_channel(tmp_path, files):
    check(tmp_path, files["float32"], 3, "crop", CAFFE)


@pytest.mark.parametrize("aspect", ASPECTS)
def test_predict_on_small_grey_pictures(tmp_path, aspect):
    model = zoo.resnet8((8, 8, 1), 4, alpha=0.25)
    check(tmp_path, convert(model), 1, aspect, SIGNED)


def test_predict_is_short():
    lines = [line for line in deploy.PREDICT.read_text().splitlines() if line.strip()]
    assert len(lines) < 50 and max(map(len, lines)) <= 120


def test_preprocess_json_tells_another_language_everything(files):
    study, results = study_of(files["int8_uint8_io"], 3, "crop", SIGNED)
    deploy.write(study, results)
    how = json.loads((study.folder / "report" / "deploy" / "preprocess.json").read_text())
    assert (
        how["image_size"] == [8, 8]
        and how["aspect"] == "crop"
        and how["mean"] == [127.5]
        and not how["bgr"]
    )
    assert (
        how["input"]["dtype"] == "uint8"
        and how["input"]["range"] == [0, 255]
        and how["input"]["scale"] > 0
    )
    assert (study.folder / "report" / "deploy" / "labels.txt").read_text("utf-8").split(
        "\n"
    ) == CLASSES
    text = (study.folder / "report" / "deploy" / "README.md").read_text()
    assert (
        "Ship chosen" in text
        and "pip install numpy Pillow ai-edge-litert" in text
        and "edgeq run handover" in text
    )


def test_nothing_recommended_leaves_nothing(files):
    study, results = study_of(files["int8"], 3, "crop", SIGNED)
    deploy.write(study, results)
    results["recommendation"]["variant"] = None
    assert deploy.write(study, results) == [] and not (study.folder / "report" / "deploy").exists()


def test_a_label_with_a_line_break_is_refused(files):
    study, results = study_of(files["int8"], 3, "crop", SIGNED)
    study.write("data", {**study.read("data"), "classes": ["a\nb"]})
    with pytest.raises(EdgeqError, match="line break"):
        deploy.write(study, results)


@pytest.mark.parametrize("activation", ["sigmoid", None])
@pytest.mark.parametrize("integer", [False, True])
def test_a_single_output_names_the_first_or_the_second_class(
    tmp_path, pictures, activation, integer
):
    image = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(image))
    start = keras.initializers.RandomNormal(stddev=2.0, seed=1)
    output = keras.layers.Dense(1, kernel_initializer=start, activation=activation)(x)
    flat = convert(keras.Model(image, output))
    ranges = calibration.calibrate(flat, SIGNED(pictures[0][:32]), SIGNED.range)
    model = quantizer.quantize(flat, quantizer.scheme("int8"), ranges) if integer else flat
    check(tmp_path, model, 3, "stretch", SIGNED)
