"""The bundle for a microcontroller: its C code does what the study's NumPy did, to the last bit."""

import shutil
import subprocess

import numpy as np
import pytest

from edgeq_lib.files import EdgeqError
from edgeq_lib.models.preprocessing import PREPROCESSING, Preprocessing
from edgeq_lib.report import micro_bundle
from edgeq_lib.tflite.runtime import dequantize_array, quantize_array

CC, CXX = shutil.which("cc"), shutil.which("c++")
needs_cc = pytest.mark.skipif(CC is None, reason="there is no C compiler (cc)")
needs_cxx = pytest.mark.skipif(CXX is None, reason="there is no C++ compiler (c++)")
LABELS = ["cat", "Größe", 'say "no"??=', "back\\slash"]
MEASURED = {
    "runs": True,
    "why": None,
    "runtime": "tflite-micro 0",
    "images": 100,
    "top1_agreement": 99.0,
    "difference": "1 of 400 outputs differs.",
    "arena_bytes": 6640,
    "arena": {"total": 5312, "head": 768, "tail": 4544, "smallest": 6640},
    "example": {"image": 0, "output": [-3, 5, 100, 7]},
}
# Reads images from its input and writes what model_preprocess makes of them.
PIPE = """#include <stdio.h>
#include "preprocess.h"
static uint8_t pixels[MODEL_INPUTS];
static model_input_t input[MODEL_INPUTS];
int main(void) {
  while (fread(pixels, 1, MODEL_INPUTS, stdin) == MODEL_INPUTS) {
    model_preprocess(pixels, input);
    fwrite(input, sizeof input[0], MODEL_INPUTS, stdout);
  }
  return 0;
}
"""
# Writes the score of each output code, -128 to 127.
SCORES = """#include <stdio.h>
#include "preprocess.h"
int main(void) {
  int code;
  for (code = -128; code < 128; ++code) {
    float score = model_dequantize((model_output_t)code);
    fwrite(&score, sizeof score, 1, stdout);
  }
  return 0;
}
"""


@pytest.fixture(scope="module")
def model(small_net):
    return small_net[1]


def facts(preprocess, dtype="int8", **changes):
    """How pixels become the input, as `deploy.preprocessing` tells it, the whole range in use."""
    low, high = preprocess.range
    bounds = None if dtype == "float32" else np.iinfo(dtype)
    scale = 1.0 if bounds is None else float(np.float32((high - low) / (bounds.max - bounds.min)))
    zero = 0 if dtype in ("float32", "int16") else int(np.rint(bounds.min - low / scale))
    return {
        "image_size": [8, 8],
        "channels": 3,
        "aspect": "crop",
        **preprocess.record(),
        "input": {"dtype": dtype, "scale": scale, "zero_point": zero},
        "output": {"dtype": "int8", "scale": 0.0605936013162136, "zero_point": -22},
        "outputs": "logits",
        "even": 0.0,
        **changes,
    }


def detail(side):
    return {
        "dtype": np.dtype(side["dtype"]).type,
        "quantization": (side["scale"], side["zero_point"]),
    }


def bundle(folder, model, how, image, measured=MEASURED, labels=LABELS):
    return micro_bundle.write(folder, "chosen", model, labels, how, measured, image)


def compiled(folder, *sources, compiler="cc", standard="c99", options=()):
    program = folder / "program"
    command = [compiler, f"-std={standard}", "-Wall", "-Wextra", "-pedantic", "-Werror", *options]
    done = subprocess.run(
        [*command, *sources, "-o", program], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return program


@needs_cc
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "float32"])
@pytest.mark.parametrize("name", [*PREPROCESSING, "odd"])
def test_the_c_function_makes_the_very_input_that_numpy_makes(
    tmp_path, model, pictures, name, dtype
):
    odd = Preprocessing((100.25, 3.0, 200.0), (50.0, 0.75, 7.0), bgr=True)
    preprocess = PREPROCESSING.get(name, odd)
    how = facts(preprocess, dtype)
    bundle(tmp_path, model, how, pictures[0][0])
    (tmp_path / "pipe.c").write_text(PIPE)
    program = compiled(tmp_path, "pipe.c", "preprocess.c")
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    images[0, :4] = np.arange(96).reshape(4, 8, 3)  # and every pixel's edge values
    done = subprocess.run([program], input=images.tobytes(), capture_output=True)
    expected = quantize_array(preprocess(images), detail(how["input"]))
    assert expected.dtype == dtype and len(np.unique(expected)) > 100
    assert done.stdout == expected.tobytes()


@needs_cc
def test_codes_are_clipped_and_halves_go_to_the_even_code(tmp_path, model, pictures):
    side = {"dtype": "int8", "scale": 2.0, "zero_point": 0}  # 1 → 0.5 → 0, 3 → 1.5 → 2, 255 → 127
    how = facts(PREPROCESSING["none"], input=side)
    table = micro_bundle.input_table(how)
    assert table[0, [0, 1, 2, 3, 5, 253, 255]].tolist() == [0, 0, 1, 2, 2, 126, 127]
    assert (table == table[0]).all() and table.dtype == np.int8
    bundle(tmp_path, model, how, pictures[0][0])
    assert "kValues[1][256]" in (tmp_path / "preprocess.c").read_text()


@needs_cc
@pytest.mark.parametrize(("code", "label"), [(30, "cat"), (31, "Größe")])
def test_grey_images_and_a_single_output(tmp_path, pictures, code, label):
    from edgeq_lib.models.convert import convert
    from edgeq_lib.models.tf import keras

    image = keras.Input((8, 8, 1))
    grey = convert(keras.Model(image, keras.layers.Dense(1)(keras.layers.Flatten()(image))))
    output = {"dtype": "int8", "scale": 0.125, "zero_point": 26}  # 0.5 lies at code 30
    sigmoid = {"channels": 1, "output": output, "outputs": "sigmoid", "even": 0.5}
    how = facts(PREPROCESSING["unit"], **sigmoid)
    measured = MEASURED | {"example": {"image": 0, "output": [code]}}
    bundle(tmp_path, grey, how, pictures[0][0][..., :1], measured, LABELS[:2])
    program = compiled(tmp_path, "main.c", "preprocess.c", "labels.c", "test_image.c")
    done = subprocess.run([program], capture_output=True)
    assert done.returncode == 0
    assert f"answered {label} ({(code - 26) / 8:g})" in done.stdout.decode()
    assert f"it should name `{label}`" in (tmp_path / "README.md").read_text()


@needs_cc
@pytest.mark.parametrize("dtype", ["int8", "int16", "float32"])
def test_main_checks_the_test_image(tmp_path, model, pictures, dtype):
    how, image = facts(PREPROCESSING["torch"], dtype), pictures[0][0]
    names = bundle(tmp_path, model, how, image)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted(names)
    sources = ("main.c", "preprocess.c", "labels.c", "test_image.c")
    done = subprocess.run([compiled(tmp_path, *sources)], capture_output=True)
    values = quantize_array(PREPROCESSING["torch"](image), detail(how["input"]))
    expected = f"{micro_bundle.checksum(values):08x}"
    first, second = done.stdout.decode().splitlines()
    assert done.returncode == 0 and first == f"checksum {expected}, edgeq's {expected}"
    assert second == f"the micro runtime answered {LABELS[2]} ({122 * 0.0605936:.6g})"
    table = (tmp_path / "preprocess.c").read_text()
    broken = table.replace("pixels[channel]", "pixels[MODEL_CHANNELS - 1 - channel]")
    assert broken != table
    (tmp_path / "preprocess.c").write_text(broken)
    assert subprocess.run([compiled(tmp_path, *sources)], capture_output=True).returncode == 1


@needs_cc
def test_scores_are_numpys(tmp_path, model, pictures):
    how = facts(PREPROCESSING["signed"])
    bundle(tmp_path, model, how, pictures[0][0])
    (tmp_path / "scores.c").write_text(SCORES)
    program = compiled(tmp_path, "scores.c", "preprocess.c")
    done = subprocess.run([program], capture_output=True)
    codes = np.arange(-128, 128).astype(np.int8)
    assert done.stdout == dequantize_array(codes, detail(how["output"])).tobytes()


def test_the_checksum_is_fnv():
    # Published test vectors of FNV-1a, 32 bits.
    for text, expected in ((b"", 0x811C9DC5), (b"a", 0xE40C292C), (b"foobar", 0xBF9CF968)):
        assert micro_bundle.checksum(np.frombuffer(text, np.uint8)) == expected
    assert micro_bundle.checksum(np.array([1], ">i2")) == micro_bundle.checksum(
        np.array([1, 0], np.uint8)
    )


@needs_cxx
def test_the_model_is_the_file_aligned_and_constant(tmp_path, model, pictures):
    bundle(tmp_path, model, facts(PREPROCESSING["signed"]), pictures[0][0])
    (tmp_path / "dump.cc").write_text(
        '#include <cstdint>\n#include <cstdio>\n#include "model.h"\nint main() {\n'
        "  if (reinterpret_cast<uintptr_t>(kModel) % 16) return 1;\n"
        "  return fwrite(kModel, 1, kModelBytes, stdout) == kModelBytes ? 0 : 2;\n}\n"
    )
    program = compiled(tmp_path, "dump.cc", "model.cc", compiler="c++", standard="c++11")
    done = subprocess.run([program], capture_output=True)
    assert done.returncode == 0 and done.stdout == model


STUBS = {
    "micro_mutable_op_resolver.h": """#pragma once
enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
#define TF_LITE_ENSURE_STATUS(call) do { if ((call) != kTfLiteOk) return kTfLiteError; } while (0)
namespace tflite {
template <unsigned int count> struct MicroMutableOpResolver {
  unsigned int added = 0;
  TfLiteStatus Add() { return added++ < count ? kTfLiteOk : kTfLiteError; }
  TfLiteStatus AddAdd() { return Add(); }
  TfLiteStatus AddConv2D() { return Add(); }
  TfLiteStatus AddFullyConnected() { return Add(); }
  TfLiteStatus AddMean() { return Add(); }
};
}
""",
    "micro_interpreter.h": """#pragma once
#include <cstdint>
#include <cstddef>
struct TfLiteTensor { struct { void* data; } data; };
namespace tflite {
struct MicroInterpreter {
  template <class Resolver> MicroInterpreter(const void*, const Resolver&, uint8_t*, size_t) {}
  TfLiteStatus AllocateTensors() { return kTfLiteOk; }
  TfLiteStatus Invoke() { static_cast<int8_t*>(out)[2] = 100; return kTfLiteOk; }
  TfLiteTensor* input(size_t) { tensor.data.data = in; return &tensor; }
  TfLiteTensor* output(size_t) { tensor.data.data = out; return &tensor; }
  TfLiteTensor tensor;
  int8_t in[192], out[4] = {-3, 5, 0, 7};
};
}
""",
    "schema_generated.h": """#pragma once
namespace tflite { inline const void* GetModel(const void* model) { return model; } }
""",
}


@needs_cc
@needs_cxx
def test_the_calls_to_the_runtime_compile_and_classify(tmp_path, model, pictures):
    """Against stand-ins for the runtime's headers, which cannot be had by pip."""
    bundle(tmp_path, model, facts(PREPROCESSING["signed"]), pictures[0][0])
    for name, text in STUBS.items():
        folder = "schema" if name.startswith("schema") else "micro"
        path = tmp_path / "tensorflow" / "lite" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "try.cc").write_text(
        '#include "test_image.h"\nbool model_setup();\n'
        "int model_classify(const uint8_t*, float*);\nint main() {\n"
        "  float score;\n  return model_setup() ? model_classify(kTestImage, &score) : 99;\n}\n"
    )
    for source in ("preprocess.c", "test_image.c"):
        subprocess.run([CC, "-std=c99", "-c", source], cwd=tmp_path, check=True)
    program = compiled(
        tmp_path,
        *("try.cc", "inference.cc", "model.cc", "preprocess.o", "test_image.o"),
        compiler="c++",
        standard="c++11",
        options=["-I."],
    )
    assert subprocess.run([program]).returncode == 2  # the class with the code 100


def test_the_arena_is_what_ran_with_a_reserve_that_is_said(tmp_path, model, pictures):
    bundle(tmp_path, model, facts(PREPROCESSING["signed"]), pictures[0][0])
    text = (tmp_path / "arena.h").read_text()
    size = int(text.split("kTensorArenaSize = ")[1].split(";")[0])
    assert size % 16 == 0 and "ran in 6640 bytes" in text
    assert size == 6640 + micro_bundle.SLACK  # a float file: CMSIS-NN has no kernels for it
    readme = (tmp_path / "README.md").read_text()
    assert f"{size} bytes of RAM" in readme and "99 % of them" in readme
    assert "1 of 400 outputs differs." in readme and "$" not in readme


def test_integer_convolutions_reserve_a_column_buffer(small_net, model, pictures):
    from edgeq_lib.compress.quantize import calibration, quantizer

    signed = PREPROCESSING["signed"]
    ranges = calibration.calibrate(model, signed(pictures[0][:32]), signed.range)
    int8 = quantizer.quantize(model, quantizer.scheme("int8"), ranges)
    how = facts(signed)
    made = micro_bundle.files("chosen", int8, LABELS, how, MEASURED, pictures[0][0])
    columns = 4 * 9 * 16  # the largest kernel: 3 × 3 × 16 input channels, a multiple of 16
    assert f"6640 + {columns + micro_bundle.SLACK}," in made["arena.h"].decode()


@pytest.mark.parametrize(
    ("operation", "method"),
    [
        ("CONV_2D", "AddConv2D"),
        ("DEPTHWISE_CONV_2D", "AddDepthwiseConv2D"),
        ("ADD_N", "AddAddN"),
        ("MAX_POOL_2D", "AddMaxPool2D"),
        ("RELU6", "AddRelu6"),
        ("L2_NORMALIZATION", "AddL2Normalization"),
        ("SPACE_TO_BATCH_ND", "AddSpaceToBatchNd"),
        ("SELECT_V2", "AddSelectV2"),
        ("BATCH_MATMUL", "AddBatchMatMul"),
        ("PADV2", "AddPadV2"),
    ],
)
def test_methods_are_spelled_as_the_runtime_spells_them(operation, method):
    assert micro_bundle.adds(operation) == method


def test_no_bundle_of_what_has_not_run(tmp_path, model, pictures):
    how = facts(PREPROCESSING["signed"])
    for runs in (False, None):
        with pytest.raises(EdgeqError, match="has not run: it is float16"):
            bundle(tmp_path, model, how, pictures[0][0], {"runs": runs, "why": "it is float16."})
    with pytest.raises(EdgeqError, match="4 outputs and 3 class names"):
        bundle(tmp_path, model, how, pictures[0][0], labels=LABELS[:3])
    with pytest.raises(EdgeqError, match="images of the study's own size"):
        bundle(tmp_path, model, how | {"image_size": [9, 8]}, pictures[0][0])
    with pytest.raises(EdgeqError, match="The test image is"):
        bundle(tmp_path, model, how, pictures[0][0][:4])
    assert not list(tmp_path.glob("*.c"))
