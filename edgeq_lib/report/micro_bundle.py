"""The bundle for a microcontroller: a file as C source, with all that a TFLM project needs around.

Pixels become the model's input by a table of 256 values per channel, which is computed here with
the study's own arithmetic (float32, halves to even). So the C function is exact by construction, on
any processor, and needs no floating-point unit.

Everything is written from the templates `templates/micro_*`.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from edgeq_lib.files import EdgeqError, write_bytes
from edgeq_lib.tflite.reader import ALIGNMENT, KERNELS, Graph, read_graph
from edgeq_lib.tflite.runtime import quantize_array

SLACK = 1024  # bytes of the arena's reserve, besides the column buffer
C_TYPES = {"int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "float32": "float"}
_BITS = {"int8": "uint8_t", "uint8": "uint8_t", "int16": "uint16_t", "float32": "uint32_t"}
# Methods of tflite::MicroMutableOpResolver that are not spelled as the operation's name.
_SPELLED = {
    "BATCH_MATMUL": "BatchMatMul",
    "CUMSUM": "CumSum",
    "PADV2": "PadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
}
_ASPECTS = {
    "crop": "scaled its photos until the shorter side was 8/7 of that size and took the middle",
    "stretch": "stretched its photos to that size, whatever their shape",
}
_SINGLE = """  return model_dequantize(output[0]) > {even}f ? 1 : 0;"""
_SEVERAL = """  int best = 0, index;
  for (index = 1; index < MODEL_OUTPUTS; ++index) {
    if (output[index] > output[best]) best = index;
  }
  return best;"""


def write(folder: Path, *arguments: Any, **named: Any) -> list[str]:
    """Write the bundle to a folder, each file whole or not at all.

    Args:
        folder: Where it goes.
        *arguments: Those of `files`.
        **named: Those of `files`.

    Returns:
        The names of the files.
    """
    contents = files(*arguments, **named)
    for name, content in contents.items():
        write_bytes(folder / name, content)
    return list(contents)


def files(
    name: str,
    model: bytes,
    labels: Sequence[str],
    how: Mapping[str, Any],
    measured: Mapping[str, Any],
    image: np.ndarray,
) -> dict[str, bytes]:
    """Make the files of the bundle.

    Args:
        name: What the file is called.
        model: The file, with one input (1, height, width, channels) and one output (1, n).
        labels: The classes, in the order of the outputs; two for a single output.
        how: How pixels become its input, and what its output means (`deploy.preprocessing`).
        measured: What the micro runtime made of the file (`measure.micro.compare`).
        image: The test image of `measured["example"]`, uint8 (height, width, channels).

    Returns:
        Content by name.

    Raises:
        EdgeqError: The micro runtime has not run the file, or its input is of a type that
            microcontrollers have not.
    """
    if measured["runs"] is not True:
        raise EdgeqError(
            f"There is no bundle for microcontrollers of '{name}', which TensorFlow Lite Micro has "
            f"not run: {measured['why']}"
        )
    _check_fits(name, read_graph(model), labels, how)
    facts = _facts(name, model, labels, how, measured)
    values = {
        "preprocess": _preprocess(how, facts),
        "model": {"table": _numbers(model), "sha256": hashlib.sha256(model).hexdigest()},
        "arena": _arena(read_graph(model), measured),
    }
    table = facts | values["preprocess"] | values["arena"]
    made = {
        "README.md": _fill("readme.md", table),
        "model.h": _fill("model.h", facts | values["model"]),
        "model.cc": _fill("model.cc", facts | values["model"]),
        "resolver.h": _fill("resolver.h", facts | {"operations": _resolver(read_graph(model))}),
        "arena.h": _fill("arena.h", table),
        "preprocess.h": _fill("preprocess.h", table),
        "preprocess.c": _fill("preprocess.c", table),
        "inference.cc": _fill("inference.cc", table),
        "main.c": _fill("main.c", {}),
        "labels.h": _LABELS_H.format(count=len(labels)),
        "labels.c": _labels(labels),
        "test_image.h": _TEST_IMAGE_H,
        "test_image.c": _test_image(how, image, measured["example"]["output"]),
    }
    return {file: text.encode() for file, text in made.items()}


def _fill(template: str, values: Mapping[str, Any]) -> str:
    folder = importlib.resources.files("edgeq_lib.report") / "templates"
    return Template((folder / f"micro_{template}").read_text()).substitute(values)


def _check_fits(name: str, graph: Graph, labels: Sequence[str], how: Mapping[str, Any]) -> None:
    shape, outputs = graph.tensors[graph.inputs[0]].shape, graph.tensors[graph.outputs[0]].elements
    expected = (1, *how["image_size"], how["channels"])
    dtypes = how["input"]["dtype"], how["output"]["dtype"]
    if shape != expected or not set(dtypes) <= set(C_TYPES):
        raise EdgeqError(
            f"'{name}' takes {dtypes[0]} {shape} and gives {dtypes[1]}; the bundle for "
            f"microcontrollers knows {', '.join(C_TYPES)}, and images of the study's own size "
            f"{expected}."
        )
    if len(labels) != max(outputs, 2):
        raise EdgeqError(f"'{name}' has {outputs} outputs and {len(labels)} class names; give all.")


def _facts(
    name: str,
    model: bytes,
    labels: Sequence[str],
    how: Mapping[str, Any],
    measured: Mapping[str, Any],
) -> dict[str, Any]:
    """What more than one file says: names, shapes, types, what was measured."""
    graph = read_graph(model)
    outputs = graph.tensors[graph.outputs[0]].elements
    answer = np.asarray(measured["example"]["output"])
    best = int(answer.argmax()) if outputs > 1 else int(_dequantize(answer[0], how) > how["even"])
    sides = {side: how[side] for side in ("input", "output")}
    return {
        "name": name,
        "bytes": f"{len(model):,}",
        "alignment": ALIGNMENT,
        "height": how["image_size"][0],
        "width": how["image_size"][1],
        "channels": how["channels"],
        "channel_word": "channel" if how["channels"] == 1 else "channels",
        "order": {1: "grey", 3: "red, green, blue"}.get(how["channels"], "as the study's images"),
        "aspect": _ASPECTS[how["aspect"]],
        "outputs": outputs,
        "classes": len(labels),
        "meaning": how["outputs"],
        "answer": labels[best],
        **{f"{side}_dtype": facts["dtype"] for side, facts in sides.items()},
        **{f"{side}_type": C_TYPES[facts["dtype"]] for side, facts in sides.items()},
        **{f"{side}_scale": f"{facts['scale']:.9g}" for side, facts in sides.items()},
        **{f"{side}_zero": facts["zero_point"] for side, facts in sides.items()},
        "count": len(_operations(graph)),
        "operations": ", ".join(f"`{operation}`" for operation in _operations(graph)),
        "runtime": measured["runtime"],
        "images": measured["images"],
        "agreement": f"{measured['top1_agreement']:.4g}",
        "difference": f" {measured['difference']}" if measured["difference"] else "",
    }


def _operations(graph: Graph) -> list[str]:
    return sorted({op.name for op in graph.ops})


def _resolver(graph: Graph) -> str:
    calls = [f"  TF_LITE_ENSURE_STATUS(resolver.{adds(name)}());" for name in _operations(graph)]
    return "\n".join(calls)


def adds(operation: str) -> str:
    """Name the method of `tflite::MicroMutableOpResolver` that adds an operation.

    Args:
        operation: As the schema spells it, "CONV_2D".

    Returns:
        "AddConv2D".
    """
    spelled = _SPELLED.get(operation) or "".join(
        word if word[0].isdigit() else word.capitalize() for word in operation.split("_")
    )
    return f"Add{spelled}"


def _arena(graph: Graph, measured: Mapping[str, Any]) -> dict[str, Any]:
    columns = max((_column_buffer(graph, index) for index in range(len(graph.ops))), default=0)
    smallest, reserve = measured["arena_bytes"], columns + SLACK
    return {
        "measured": smallest,
        "head": measured["arena"]["head"],
        "columns": columns,
        "slack": SLACK,
        "reserve": reserve,
        "size": -(-(smallest + reserve) // ALIGNMENT) * ALIGNMENT,
    }


def _column_buffer(graph: Graph, index: int) -> int:
    """Bytes that CMSIS-NN asks for to lay out the patches of an op, at most; 0 for floats.

    Of its `arm_convolve_s8_get_buffer_size` and `arm_depthwise_conv_s8_opt_get_buffer_size`, the
    larger of the forms for Cortex-M with DSP and with Helium.
    """
    op = graph.ops[index]
    if op.name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"):
        return 0
    kernel = graph.tensors[op.inputs[KERNELS[op.name]]]
    height, width, channels = kernel.shape[1:]
    if kernel.is_float:
        return 0
    if op.name == "DEPTHWISE_CONV_2D":
        return height * width * max(2 * channels, 4 * 124)
    return 4 * -(-height * width * channels // 16) * 16


def input_table(how: Mapping[str, Any]) -> np.ndarray:
    """Compute what each pixel becomes, as the study's preprocessing and quantization have it.

    Args:
        how: How pixels become the file's input (`deploy.preprocessing`).

    Returns:
        (channels, 256) in the type of the file's input, channels in the order of the input.
    """
    pixels = np.arange(256, dtype=np.float32)[:, None]
    values = (pixels - np.asarray(how["mean"], np.float32)) / np.asarray(how["std"], np.float32)
    values = np.broadcast_to(values, (256, how["channels"]))
    facts = how["input"]
    detail = {
        "dtype": np.dtype(facts["dtype"]).type,
        "quantization": (facts["scale"], facts["zero_point"]),
    }
    return quantize_array(np.ascontiguousarray(values.T), detail)


def _preprocess(how: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, str]:
    table = input_table(how)
    shared = bool((table == table[:1]).all())
    rows = table[:1] if shared else table
    statistics = f"(pixel - {_plain(how['mean'])}) / {_plain(how['std'])}"
    whole = how["input"]["dtype"] != "float32"
    scale, zero = (
        facts["input_scale"],
        f"{facts['input_zero']:+d}".replace("-", "- ").replace("+", "+ "),
    )
    output, even = how["output"], how["even"]
    is_float = output["dtype"] == "float32"
    return {
        "formula": f"round({statistics} / {scale}) {zero}" if whole else statistics,
        "rows": str(len(rows)),
        "rows_are": "One row for all channels" if shared else "One row per channel of the input",
        "per_channel": "for all channels" if shared else "per channel",
        "row": "0" if shared else "channel",
        "source": "MODEL_CHANNELS - 1 - channel" if how["bgr"] else "channel",
        "table": ",\n".join(f"  {{\n{_numbers(row, '    ')}\n  }}" for row in rows),
        "bits_type": _BITS[how["input"]["dtype"]],
        "dequantized": "value"
        if is_float
        else f"((float)value - {_literal(output['zero_point'])}) * {_literal(output['scale'])}",
        "best": _SEVERAL if facts["outputs"] > 1 else _SINGLE.format(even=even),
    }


def _plain(numbers: Sequence[float]) -> str:
    """One number where all are equal, else a list."""
    return (
        f"{numbers[0]:g}" if len(set(numbers)) == 1 else f"[{', '.join(f'{n:g}' for n in numbers)}]"
    )


def _dequantize(value: Any, how: Mapping[str, Any]) -> float:
    return (float(value) - how["output"]["zero_point"]) * how["output"]["scale"]


def _literal(number: float) -> str:
    """A float32 as C reads it back to the last bit."""
    text = f"{np.float32(number):.9g}"
    text = text if re.search(r"[.e]", text) else f"{text}.0"
    return f"({text}f)" if number < 0 else f"{text}f"


def _numbers(values: bytes | np.ndarray, margin: str = "  ", per_line: int = 24) -> str:
    """The elements of a C array, in lines."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        words, per_line = [_literal(value) for value in values.tolist()], 6
    else:
        words = list(map(str, values if isinstance(values, bytes) else values.tolist()))
    lines = (words[start : start + per_line] for start in range(0, len(words), per_line))
    return ",\n".join(margin + ",".join(line) for line in lines)


_LABELS_H = """/* The classes, in the order of the outputs; UTF-8. Written by edgeq. */
#ifndef EDGEQ_LABELS_H_
#define EDGEQ_LABELS_H_

#ifdef __cplusplus
extern "C" {{
#endif
extern const char *const kLabels[{count}];
#ifdef __cplusplus
}}
#endif

#endif /* EDGEQ_LABELS_H_ */
"""
_TEST_IMAGE_H = """/* An image of the study's test split and what becomes of it. By edgeq. */
#ifndef EDGEQ_TEST_IMAGE_H_
#define EDGEQ_TEST_IMAGE_H_

#include "preprocess.h"

#ifdef __cplusplus
extern "C" {
#endif
extern const uint8_t kTestImage[MODEL_INPUTS];
/* Of the input that model_preprocess makes of it. */
extern const uint32_t kTestChecksum;
/* What the micro runtime answered to it on a computer. */
extern const model_output_t kTestOutput[MODEL_OUTPUTS];
#ifdef __cplusplus
}
#endif

#endif /* EDGEQ_TEST_IMAGE_H_ */
"""


def _labels(labels: Sequence[str]) -> str:
    lines = "".join(f'  "{_escape(label)}",\n' for label in labels)
    return f'#include "labels.h"\n\nconst char *const kLabels[{len(labels)}] = {{\n{lines}}};\n'


def _escape(text: str) -> str:
    r"""A C string's content; all but plain ASCII as octal escapes, `?` too (trigraphs)."""
    plain = set(range(32, 127)) - set(b'"\\?')
    return "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode())


def checksum(values: np.ndarray) -> int:
    """Compute FNV-1a, 32 bits, over values in little-endian order (Fowler, Noll, Vo).

    Args:
        values: Of any type and shape.
    """
    total = 2166136261
    for byte in np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes():
        total = ((total ^ byte) * 16777619) & 0xFFFFFFFF
    return total


def _test_image(how: Mapping[str, Any], image: np.ndarray, output: Sequence[float]) -> str:
    expected = (*how["image_size"], how["channels"])
    if image.shape != expected or image.dtype != np.uint8:
        raise EdgeqError(f"The test image is {image.dtype} {image.shape}; give uint8 {expected}.")
    pixels = image[..., ::-1] if how["bgr"] else image
    values = input_table(how)[np.arange(how["channels"]), pixels]
    answer = np.asarray(output, how["output"]["dtype"])
    return (
        '#include "test_image.h"\n\n'
        f"const uint8_t kTestImage[MODEL_INPUTS] = {{\n{_numbers(image.tobytes())}\n}};\n"
        f"const uint32_t kTestChecksum = UINT32_C(0x{checksum(values):08x});\n"
        f"const model_output_t kTestOutput[MODEL_OUTPUTS] = {{\n{_numbers(answer)}\n}};\n"
    )
