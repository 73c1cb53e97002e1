"""Other people's `.tflite` files as rows of the table: declared, checked, and measured.

They are measured on the study's own images. A peer says how it wants its pixels (`preprocessing`,
`image_size`) and which of its outputs are no class (`class_offset`); what it is made of is read
from the file.
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

from edgeq_lib.files import CannotTake, EdgeqError, home, read_json
from edgeq_lib.measure import sandbox
from edgeq_lib.study import Study, Variant
from edgeq_lib.tflite.inspect import check_flatbuffer, inspect_file
from edgeq_lib.tflite.runtime import make_interpreter

if TYPE_CHECKING:
    from edgeq_lib.data.dataset import Data
    from edgeq_lib.models.preprocessing import Preprocessing


# Preprocessing of an integer input that takes the pixels 0 … 255 themselves, moved to its range
# (uint8: by 0, int8: by -128).
RAW = "raw"
# Scheme by where most MACs are done, and by the width of the weights.
_SCHEMES = {
    "float32": {"32": "float32", "16": "float16", "8": "weight_only_int8", "4": "w4", "2": "w2"},
    "hybrid": {"8": "dynamic_int8", "4": "w4", "2": "w2"},
    "integer": {"8": "int8", "4": "w4a8", "2": "w2a8"},
}
FIELDS = ("file", "name", "preprocessing", "image_size", "class_offset", "source", "licence")


def validate_declaration(declared: Mapping[str, Any]) -> dict[str, Any]:
    """Check a declaration of a peer and fill in what it leaves out.

    Args:
        declared: Some of `FIELDS`. file (a path, in which ~ and environment variables stand for
            themselves) and preprocessing are needed.

    Returns:
        All of `FIELDS`: name is by default the file's, image_size ([height, width]; a number means
        both) None for what the file asks for, class_offset 0, source and licence None.

    Raises:
        EdgeqError: A field is missing, unknown or impossible.
    """
    name = declared.get("name") or Path(str(declared.get("file", ""))).stem
    unknown = [field for field in declared if field not in FIELDS]
    if unknown or not declared.get("file") or not declared.get("preprocessing"):
        wrong = "lacks file or preprocessing"
        if unknown:
            wrong = f"has a field '{unknown[0]}' that no peer has"
        raise EdgeqError(f"The peer '{name}' {wrong}; the fields are {', '.join(FIELDS)}.")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", str(name)):
        raise EdgeqError(
            f"A peer cannot be called '{name}'; give a name of letters, digits, hyphens and dots."
        )
    offset, size = declared.get("class_offset", 0), declared.get("image_size")
    sides = size if isinstance(size, list) else [size, size]
    possible = len(sides) == 2 and all(type(side) is int and side > 0 for side in sides)
    if type(offset) is not int or offset < 0 or (size is not None and not possible):
        raise EdgeqError(
            f"The peer '{name}' has image_size {size} and class_offset {offset}; give pixels, or "
            "[height, width], and how many leading outputs are no class."
        )
    return {
        **dict.fromkeys(FIELDS),
        **declared,
        "name": str(name),
        "class_offset": offset,
        "image_size": None if size is None else sides,
    }


def check_peer(declared: Mapping[str, Any], classes: int | None = None) -> dict[str, Any]:
    """Check that a peer's file loads, in a process of its own, and does what is declared.

    Args:
        declared: As `validate_declaration` takes it.
        classes: How many classes the study has; None when it is not known yet.

    Returns:
        The declaration with all of `FIELDS`, path (of the file), and image_size as the file has it.

    Raises:
        EdgeqError: The file is missing, broken, or brings LiteRT down; or pixels, preprocessing or
            classes do not go with it.
    """
    peer = validate_declaration(declared)
    name, path = peer["name"], _find_file(peer)
    try:
        check_flatbuffer(path.read_bytes())
        sandbox.check_loads(path)
    except EdgeqError as error:
        raise EdgeqError(f"The peer '{name}' cannot be used: {error}") from None
    interpreter = make_interpreter(path)
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    shape, scores = inputs[0]["shape"].tolist(), outputs[0]["shape"].tolist()
    one_image = len(inputs) == 1 and len(shape) == 4 and shape[0] == 1 and shape[3] in (1, 3)
    one_row = len(outputs) == 1 and len(scores) == 2 and scores[0] == 1
    if not one_image or not one_row:
        raise EdgeqError(
            f"The peer '{name}' maps {shape} to {scores}; a peer must map one image "
            "(1, height, width, 1 or 3) to one row of class scores."
        )
    if peer["image_size"] not in (None, shape[1:3]):
        raise EdgeqError(
            f"The peer '{name}' takes images of {shape[1]} × {shape[2]}, not of "
            f"{' × '.join(map(str, peer['image_size']))}; correct image_size."
        )
    one_for_two = scores[1] == 1 and classes == 2 and not peer["class_offset"]
    if classes not in (None, scores[1] - peer["class_offset"]) and not one_for_two:
        raise CannotTake(
            f"The peer '{name}' has {scores[1]} outputs, {peer['class_offset']} of them no class, "
            f"and the data have {classes} classes; correct class_offset, or take a file for these "
            "classes."
        )
    peer_preprocessing(peer["preprocessing"], inputs[0], name)
    return {**peer, "path": path, "image_size": shape[1:3]}


def _find_file(peer: Mapping[str, Any]) -> Path:
    """The path of a peer's file, which is there."""
    expanded = os.path.expandvars(os.path.expanduser(peer["file"]))
    if "$" in expanded:
        raise EdgeqError(
            f"The peer '{peer['name']}' lies in {peer['file']}, but that environment variable is "
            "not set; set it, or give a path."
        )
    path = home() / expanded
    if not path.is_file():
        raise EdgeqError(
            f"The file of the peer '{peer['name']}', {peer['file']}, does not exist; correct the "
            "path (relative to the folder of edgeq)."
        )
    return path


def peer_preprocessing(name: str, detail: Mapping[str, Any], peer: str) -> Preprocessing:
    """Find what makes of pixels 0 … 255 the float values that a peer's input stands for.

    Args:
        name: One of `models.preprocessing.PREPROCESSING`, or "raw" for an integer input that takes
            the pixels themselves; that is written as the scaling which the input's own quantization
            undoes.
        detail: The interpreter's description of the input tensor.
        peer: The peer's name, for messages.

    Returns:
        The preprocessing.

    Raises:
        EdgeqError: The name is another, or "raw" and the input is not a quantized 8-bit integer.
    """
    from edgeq_lib.models.preprocessing import PREPROCESSING, Preprocessing

    if name in PREPROCESSING:
        return PREPROCESSING[name]
    if name != RAW:
        raise EdgeqError(
            f"The peer '{peer}' has no preprocessing '{name}'; take one of {RAW}, "
            f"{', '.join(PREPROCESSING)}."
        )
    (scale, zero), dtype = detail["quantization"], np.dtype(detail["dtype"])
    if dtype not in (np.uint8, np.int8) or not scale:
        raise EdgeqError(
            f"The peer '{peer}' has an input of {dtype.name}, and '{RAW}' is for quantized 8-bit "
            "integers; say how its pixels are scaled ('none' is 0 to 255 as floats)."
        )
    return Preprocessing((float(zero - np.iinfo(dtype).min),), (1 / float(scale),))


def peer_scheme(report: Mapping[str, Any]) -> str:
    """Name the quantization scheme that a file shows.

    Args:
        report: What `inspect.inspect_file` returned.

    Returns:
        The scheme's name; "mixed" for a file with several widths of weights, or of no known scheme.
    """
    widths = set(report["weight_bits_share"])
    if len(widths) != 1:
        return "mixed"
    width = widths.pop()
    if report["compute"] == "integer" and width == "8" and report["activation_bits"] > 12:
        return "int16x8"
    return _SCHEMES[report["compute"]].get(width, "mixed")


def save_peer(study: Study, files: Sequence[Mapping[str, Any]]) -> list[Variant]:
    """Check all declared peers, put them on the shelf, and return them.

    One that was declared or measured otherwise before (other pixels, other data) is measured anew.

    Args:
        study: The study.
        files: Declarations, as `validate_declaration` takes them.

    Returns:
        A variant per declaration.

    Raises:
        EdgeqError: As `check_peer` does, and for a name that is taken.
    """
    if not files:
        return []
    data = study.read("data")
    checked = [check_peer(declared, len(data["classes"])) for declared in files]
    variants: list[Variant] = []
    for peer in checked:
        name, folder = peer["name"], study.folder / "variants" / peer["name"]
        old = read_json(folder / "variant.json") if (folder / "variant.json").exists() else None
        taken = name in [variant.name for variant in variants]
        if taken or (old and old["stage"] != study.stage):
            raise EdgeqError(
                f"The name '{name}' stands for another file of this study; give the peer a name of "
                "its own."
            )
        facts = {field: peer[field] for field in FIELDS if field not in ("file", "name")} | {
            "data_fingerprint": data["fingerprint"]
        }
        if old and any(old.get(field) != value for field, value in facts.items()):
            shutil.rmtree(folder)
        variants.append(_shelve(study, name, peer["path"].read_bytes(), facts))
    return variants


def _shelve(study: Study, name: str, model: bytes, facts: Mapping[str, Any]) -> Variant:
    """Put a peer on the shelf; what made its file, the file says."""
    description = schema.Model.GetRootAs(model).Description() or b""
    return study.save_variant(
        name,
        model,
        kind="peer",
        technique="peer",
        scheme=peer_scheme(inspect_file(model)),
        engine=description.decode(errors="replace").strip(" .\0") or "not stated",
        seconds=None,
        **facts,
    )


def adapt_data(study: Study, peer: Variant, data: Data) -> tuple[Data, Preprocessing]:
    """Adapt the study's data to a peer.

    Args:
        study: The study.
        peer: A peer on its shelf.
        data: The study's data.

    Returns:
        The data with validation and test as the peer wants its pixels, and the peer's
        preprocessing.
    """
    from edgeq_lib.data.prepare import at_size

    detail = make_interpreter(peer.model()).get_input_details()[0]
    _, *size, channels = detail["shape"].tolist()
    return at_size(study, data, tuple(size), channels), peer_preprocessing(
        str(peer.facts["preprocessing"]), detail, peer.name
    )


def score_peer(study: Study, peer: Variant, data: Data) -> dict:
    """Predict validation and test with a peer, unless stored, and write its quality record.

    What is stored are the outputs after `class_offset`.

    Args:
        study: The study.
        peer: A peer on its shelf.
        data: The study's data.

    Returns:
        The quality record, as any variant's (`accuracy.score`).
    """
    from edgeq_lib.measure.accuracy import predict_file, score

    adapted, preprocess = adapt_data(study, peer, data)
    if not peer.arrays():
        outputs = {}
        for split, (images, _) in (("validation", adapted.validation), ("test", adapted.test)):
            scores = predict_file(peer.model(), images, preprocess, f"{peer.name}: {split}")
            outputs[split] = scores[:, peer.facts["class_offset"] :]
        peer.write_arrays(**outputs)
    return score(study, peer, adapted, preprocess)


def first_images(
    study: Study,
    variants: Sequence[Variant],
    data: Data,
    preprocess: Preprocessing,
    count: int = 1,
) -> dict[str, np.ndarray]:
    """Prepare the first validation images as each variant wants them.

    Args:
        study: The study.
        variants: Variants of it, peers among them.
        data: The study's data.
        preprocess: The study's own preprocessing, for all but peers.
        count: How many images.

    Returns:
        float32 (count, height, width, channels) by the variants' names; all but peers share one
        array.
    """
    own, images = preprocess(data.validation.images[:count]), {}
    for variant in variants:
        images[variant.name] = own
        if variant.facts["kind"] == "peer":
            adapted, prepare = adapt_data(study, variant, data)
            images[variant.name] = prepare(adapted.validation.images[:count])
    return images


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
