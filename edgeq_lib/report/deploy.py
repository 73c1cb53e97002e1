"""The bundle to ship: the recommended file, its labels, its preprocessing, a short program."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeq_lib.files import EdgeqError, write_bytes
from edgeq_lib.report import micro_bundle
from edgeq_lib.study import Study
from edgeq_lib.tflite.output_kind import file_output_kind
from edgeq_lib.tflite.runtime import make_interpreter

PREDICT = Path(__file__).with_name("deploy_predict.py")
NEEDS = ("numpy", "Pillow", "ai-edge-litert")


def tensor(detail: Mapping[str, Any]) -> dict[str, Any]:
    """Describe an interpreter's input or output for JSON.

    Returns:
        dtype, scale, zero_point and range; scale 1 and range None for floats.
    """
    dtype = np.dtype(detail["dtype"])
    whole = dtype.kind in "iu"
    scale, zero = detail["quantization"] if whole else (1.0, 0)
    return {
        "dtype": dtype.name,
        "scale": float(scale),
        "zero_point": int(zero),
        "range": [int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)] if whole else None,
    }


def preprocessing(
    data: Mapping[str, Any], baseline: Mapping[str, Any], model: bytes
) -> dict[str, Any]:
    """Describe how a photo becomes the file's input, and what its output means.

    Pixels 0 … 255 (RGB or grey, resized) become (pixels - mean) / std per channel. An integer input
    holds that as round(x / scale) + zero_point, clipped to its range. A score is
    (output - zero_point) × scale: what `outputs` names. A single output stands for the second
    class; from `even` on, which is 0.5 of a sigmoid and 0 of a logit, that is the likelier one.

    Args:
        data: The study's record of its data.
        baseline: The study's record of its float model.
        model: The file that is shipped.

    Returns:
        The content of preprocess.json.
    """
    interpreter, kind = make_interpreter(model), file_output_kind(model)
    return {
        "image_size": data["image_size"],
        "channels": data["channels"],
        "aspect": data["aspect"],
        "resample": "bilinear, antialiased (Pillow)",
        **baseline["preprocessing"],
        "input": tensor(interpreter.get_input_details()[0]),
        "output": tensor(interpreter.get_output_details()[0]),
        "outputs": kind,
        "even": 0.5 if kind == "sigmoid" else 0.0,
    }


def write(study: Study, results: Mapping[str, Any], image: np.ndarray | None = None) -> list[str]:
    """Write the bundle of a study's recommendation to its `report/deploy`; what stood there goes.

    Args:
        study: The study.
        results: The content of its results.json.
        image: The first test image, uint8 (height, width, channels), an example for a bundle in C.

    Returns:
        The names of the files (model.tflite, labels.txt with one line per class, preprocess.json,
        predict.py, README.md; in `micro/` the same in C where the target is a microcontroller), or
        [] when nothing is recommended.

    Raises:
        EdgeqError: When the recommended file is not on the shelf, or a class name holds a line
            break.
    """
    folder = study.folder / "report" / "deploy"
    shutil.rmtree(folder, ignore_errors=True)
    name = results["recommendation"]["variant"]
    if name is None:
        return []
    data, model = study.read("data"), study.variant(name).model()
    broken = [label for label in data["classes"] if "\n" in label]
    if broken:
        raise EdgeqError(
            f"The class name {broken[0]!r} holds a line break, which labels.txt cannot; rename its "
            "folder."
        )
    how = preprocessing(data, study.read("baseline"), model)
    files = {
        "model.tflite": model,
        "labels.txt": "\n".join(data["classes"]).encode(),
        "preprocess.json": (json.dumps(how, indent=1) + "\n").encode(),
        "predict.py": PREDICT.read_bytes(),
        "README.md": _readme(study.name, results).encode(),
    }
    target = (results.get("targets") or {}).get((results.get("answers") or {}).get("target"))
    measured = study.variant(name).read("micro")
    if target and target["runtime"] == "tflite-micro" and measured and measured["runs"]:
        if image is not None:
            source = micro_bundle.files(name, model, data["classes"], how, measured, image)
            files |= {f"micro/{file}": content for file, content in source.items()}
    for file, content in files.items():
        study.note_write(folder / file)
        write_bytes(folder / file, content)
    return list(files)


def _readme(study: str, results: Mapping[str, Any]) -> str:
    from edgeq_lib.report.numbers import find_row
    from edgeq_lib.report.text import recommendation_text

    row = find_row(results, results["recommendation"]["variant"])
    version = results["versions"].get("ai-edge-litert")
    runtime = f" (ai-edge-litert {version})" if version else ""
    return f"""# {study}: `{row["name"]}` to take away

{recommendation_text(results)}

```sh
pip install {" ".join(NEEDS)}
python predict.py photo.jpg another.png
```

`predict.py` prints one line per photo: its path, the label and the score. It repeats, to the last
bit, the preprocessing that the study was measured with{runtime}; `preprocess.json` holds the same
for a program in another language, `labels.txt` one line per class.

`model.tflite`: {row["bytes"] or 0:,} bytes, SHA-256 `{row["sha256"]}`.
Made by `{results["command"]}`.
"""
