"""Other people's `.tflite` files as rows of the table: declared, checked, and measured on the study's own images.

A peer says how it wants its pixels (`preprocessing`, `image_size`) and which of its outputs are no class (`class_offset`);
what it is made of is read from the file.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq_lib.files import EdgeqError, home, read_json
from edgeq_lib.measure import sandbox
from edgeq_lib.study import Study, Variant
from edgeq_lib.tflite.inspect import check_flatbuffer, inspect_file
from edgeq_lib.tflite.runtime import make_interpreter

if TYPE_CHECKING:
    from edgeq_lib.data.dataset import Data
    from edgeq_lib.models.preprocessing import Preprocessing


RAW = "raw"  # pixels 0..255 go into an integer input as they are, moved to its range (uint8: by 0, int8: by -128)
FIELDS = ("file", "name", "preprocessing", "image_size", "class_offset", "source", "licence")


def validate_declaration(given: Mapping[str, Any]) -> dict[str, Any]:
    """A declaration with all of `FIELDS`: name is the file's by default, image_size (a number, or [height, width]) what the
    file asks for, class_offset 0, source and licence None. Raises EdgeqError for a field that is missing, unknown or
    impossible."""
    name = given.get("name") or Path(str(given.get("file", ""))).stem
    unknown = [field for field in given if field not in FIELDS]
    if unknown or not given.get("file") or not given.get("preprocessing"):
        wrong = (
            f"has a field '{unknown[0]}' that no peer has"
            if unknown
            else "lacks file or preprocessing"
        )
        raise EdgeqError(f"The peer '{name}' {wrong}; the fields are {', '.join(FIELDS)}.")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", str(name)):
        raise EdgeqError(
            f"A peer cannot be called '{name}'; give a name of letters, digits, hyphens and dots."
        )
    offset, size = given.get("class_offset", 0), given.get("image_size")
    sizes = size if isinstance(size, list) else [size, size]
    if (
        type(offset) is not int
        or offset < 0
        or size is not None
        and (len(sizes) != 2 or not all(type(side) is int and side > 0 for side in sizes))
    ):
        raise EdgeqError(
            f"The peer '{name}' has image_size {size} and class_offset {offset}; give pixels, or [height, "
            "width], and how many leading outputs are no class."
        )
    return {
        **dict.fromkeys(FIELDS),
        **given,
        "name": str(name),
        "class_offset": offset,
        "image_size": None if size is None else sizes,
    }


def check_peer(declared: Mapping[str, Any], classes: int | None = None) -> dict[str, Any]:
    """An `entry` whose file loads, alone, and does what is declared; returns it with `path` and image_size filled in.

    `classes` is the study's number, None when it is not known yet. Raises EdgeqError for a missing or broken file, for one
    that brings LiteRT down, and for pixels, preprocessing or classes that do not go with the file.
    """
    found, name = validate_declaration(declared), validate_declaration(declared)["name"]
    expanded = os.path.expandvars(os.path.expanduser(found["file"]))
    if "$" in expanded:
        raise EdgeqError(
            f"The peer '{name}' lies in {found['file']}, but that environment variable is not set; set it, or "
            "give a path."
        )
    path = home() / expanded
    if not path.is_file():
        raise EdgeqError(
            f"The file of the peer '{name}', {found['file']}, does not exist; correct the path (relative to the "
            "folder of edgeq)."
        )
    try:
        check_flatbuffer(path.read_bytes())
        sandbox.check_loads(path)
    except EdgeqError as error:
        raise EdgeqError(f"The peer '{name}' is of no use: {error}") from None
    interpreter = make_interpreter(path)
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    shape, scores = inputs[0]["shape"].tolist(), outputs[0]["shape"].tolist()
    if (
        len(inputs) != 1
        or len(outputs) != 1
        or len(shape) != 4
        or shape[0] != 1
        or shape[3] not in (1, 3)
        or len(scores) != 2
        or scores[0] != 1
    ):
        raise EdgeqError(
            f"The peer '{name}' maps {shape} to {scores}; a peer must map one image (1, height, width, 1 or 3) "
            "to one row of class scores."
        )
    if found["image_size"] not in (None, shape[1:3]):
        raise EdgeqError(
            f"The peer '{name}' takes images of {shape[1]} × {shape[2]}, not of "
            f"{' × '.join(map(str, found['image_size']))}; correct image_size."
        )
    if classes is not None and scores[1] - found["class_offset"] != classes:
        raise EdgeqError(
            f"The peer '{name}' has {scores[1]} outputs, {found['class_offset']} of them no class, and the data "
            f"have {classes} classes; correct class_offset, or take a file for these classes."
        )
    peer_preprocessing(found["preprocessing"], inputs[0], name)
    return {**found, "path": path, "image_size": shape[1:3]}


def peer_preprocessing(name: str, detail: Mapping[str, Any], peer: str) -> Preprocessing:
    """What makes of pixels 0..255 the float values that the input tensor described by `detail` stands for.

    `name` is one of zoo.PREPROCESSING, or "raw" for an integer input that takes the pixels themselves; that is written as
    the scaling which the input's own quantization undoes. Raises EdgeqError for another name, or "raw" and a float input.
    """
    from edgeq_lib.models.preprocessing import PREPROCESSING, Preprocessing

    if name in PREPROCESSING:
        return PREPROCESSING[name]
    if name != RAW:
        raise EdgeqError(
            f"The peer '{peer}' has no preprocessing '{name}'; take one of {RAW}, {', '.join(PREPROCESSING)}."
        )
    (scale, zero), dtype = detail["quantization"], np.dtype(detail["dtype"])
    if dtype not in (np.uint8, np.int8) or not scale:
        raise EdgeqError(
            f"The peer '{peer}' has an input of {dtype.name}, and '{RAW}' is for quantized 8-bit integers; say "
            "how its pixels are scaled ('none' is 0 to 255 as floats)."
        )
    return Preprocessing((float(zero - np.iinfo(dtype).min),), (1 / float(scale),))


def peer_scheme(report: Mapping[str, Any]) -> str:
    """The name of the scheme that a flatbuffer's `report` shows; "mixed" for one that has none."""
    widths = set(report["weight_bits_share"])
    if len(widths) != 1:
        return "mixed"
    floating = {"32": "float32", "16": "float16", "8": "weight_only_int8", "4": "w4", "2": "w2"}
    hybrid = {"8": "dynamic_int8", "4": "w4", "2": "w2"}
    integer = {
        "8": "int16x8" if report["activation_bits"] > 12 else "int8",
        "4": "w4a8",
        "2": "w2a8",
    }
    return {"float32": floating, "hybrid": hybrid, "integer": integer}[report["compute"]].get(
        widths.pop(), "mixed"
    )


def save_peer(study: Study, files: Sequence[Mapping[str, Any]]) -> list[Variant]:
    """Check all declared peers, put them on the shelf, and return them. One that was declared or measured otherwise before
    (other pixels, other data) is measured anew. Raises EdgeqError as `check` does, and for a name that is taken."""
    if not files:
        return []
    data = study.read("data")
    checked, made = [check_peer(given, len(data["classes"])) for given in files], []
    for peer in checked:
        name, folder = peer["name"], study.folder / "variants" / peer["name"]
        old = read_json(folder / "variant.json") if (folder / "variant.json").exists() else None
        if name in [variant.name for variant in made] or old and old["stage"] != study.stage:
            raise EdgeqError(
                f"The name '{name}' stands for another file of this study; give the peer a name of its own."
            )
        model = peer["path"].read_bytes()
        facts = {field: peer[field] for field in FIELDS if field not in ("file", "name")} | {
            "data_fingerprint": data["fingerprint"]
        }
        if old and any(old.get(field) != value for field, value in facts.items()):
            shutil.rmtree(folder)
        engine = (
            (schema.Model.GetRootAs(model).Description() or b"")
            .decode(errors="replace")
            .strip(" .\0")
        )
        made.append(
            study.save_variant(
                name,
                model,
                kind="peer",
                technique="peer",
                scheme=peer_scheme(inspect_file(model)),
                engine=engine or "not stated",
                seconds=None,
                **facts,
            )
        )
    return made


def adapt_data(study: Study, peer: Variant, data: Data) -> tuple[Data, Preprocessing]:
    """The study's data with validation and test as the peer wants its pixels, and the peer's preprocessing."""
    from edgeq_lib.data.prepare import at_size

    detail = make_interpreter(peer.model()).get_input_details()[0]
    _, *size, channels = detail["shape"].tolist()
    return at_size(study, data, tuple(size), channels), peer_preprocessing(
        peer.facts["preprocessing"], detail, peer.name
    )


def score_peer(study: Study, peer: Variant, data: Data) -> dict:
    """Predict validation and test with a peer (unless stored), write and return its quality record, as any variant's.

    What is stored are the outputs after `class_offset`.
    """
    from edgeq_lib.measure.accuracy import predict_file, score

    seen, preprocess = adapt_data(study, peer, data)
    if not peer.arrays():
        peer.write_arrays(
            **{
                split: predict_file(peer.model(), images, preprocess, f"{peer.name}: {split}")[
                    :, peer.facts["class_offset"] :
                ]
                for split, (images, _) in (("validation", seen.validation), ("test", seen.test))
            }
        )
    return score(study, peer, seen, preprocess)


def first_images(
    study: Study, variants: Sequence[Variant], data: Data, preprocess: Preprocessing
) -> dict[str, np.ndarray]:
    """The first validation image as each variant wants it, float32 (1, height, width, channels), by name."""
    views = {
        variant.name: adapt_data(study, variant, data)
        if variant.facts["kind"] == "peer"
        else (data, preprocess)
        for variant in variants
    }
    return {name: prepare(seen.validation.images[:1]) for name, (seen, prepare) in views.items()}


def new_entry(
    declared: Mapping[str, Any], listed: Sequence[Mapping[str, Any]], study: Path
) -> dict[str, Any]:
    """Check a peer that joins a study, and write it as the study's file declares it.

    Args:
        declared: The peer: file (relative to the working directory), preprocessing, and any of
            `FIELDS`.
        listed: The peers that the study has already.
        study: The study's file.

    Returns:
        The entry: its file as another machine finds it (in EDGEQ_ASSETS or the checkout), its size
        in pixels, and what else was declared.

    Raises:
        EdgeqError: When the file does not do what is declared, or the study has it already.
    """
    entry = validate_declaration(declared)
    entry["file"] = str(Path(entry["file"]).expanduser().resolve())
    record = Study(study.stem).folder / "records" / "data.json"
    classes = len(read_json(record)["classes"]) if record.exists() else None
    height, width = check_peer(entry, classes)["image_size"]
    for other in map(validate_declaration, listed):
        same_file = Path(entry["file"]) == (home() / os.path.expandvars(other["file"])).resolve()
        if entry["name"] == other["name"] or same_file:
            raise EdgeqError(
                f"{study.name} has the peer '{other['name']}' already; give another file and "
                "another --name."
            )
    entry["file"] = _portable(entry["file"])
    entry["image_size"] = height if height == width else [height, width]
    return {field: value for field, value in entry.items() if value is not None}


def _portable(file: str) -> str:
    """A path as it means the same on another machine, if there is a way to write it."""
    for folder, prefix in ((os.environ.get("EDGEQ_ASSETS"), "$EDGEQ_ASSETS/"), (home(), "")):
        if folder and Path(file).is_relative_to(Path(folder).resolve()):
            return prefix + Path(file).relative_to(Path(folder).resolve()).as_posix()
    return file
