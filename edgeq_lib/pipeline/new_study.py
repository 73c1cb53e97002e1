"""A study file for a model and a folder of photos (`edgeq new`, `edgeq compress`).

1. The file names every technique, commented, for its user to change.
2. With a time limit, the stages that all others need run first, and their seconds tell what the
   others would take; the most useful ones that fit stay, the rest is set to `false`, with the
   reason beside it and on the report's page.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from edgeq_lib.files import EdgeqError, read_json, runs

FIRST_OPTIONAL = "04_qat"  # the stages before it are needed by all others
# Sections that a time limit may leave out, the most useful first, and what each takes as a multiple
# of 03_ptq, which scores the same images with the same network. Measured once, with this very study
# of MobileNet 0.75 at 224 pixels (600 images train, 400 validate, 1,000 test; 2 cores). On a small
# network all of them take less; training grows with the number of training images instead.
OPTIONAL = {
    "low_bit": 2.6,
    "diagnosis": 1.7,
    "ptq_recovery": 2.2,
    "qat": 3.2,
    "data_free": 3.0,
    "mixed_precision": 5.3,
}
RESERVE = 55.0  # seconds that benchmark and analysis took there


@dataclass(frozen=True)
class Wish:
    """What the user asks for.

    Attributes:
        model: The model file, or a name of the zoo.
        data: A folder of class folders, or the name of a data set.
        preprocessing: How the network wants its pixels; None for the zoo's own, and to try the
            usual ones with a file.
        image_size: Pixels, or [height, width].
        channels: 1 grey, 3 RGB.
        calibration: Images that set activation ranges.
        max_drop: Points of top-1 that may be lost.
        objective: Which of the files that meet the criteria is shipped.
        target: Where the file is to run: a target's name, the path of its YAML, or "any".
        parameters: Further ones, `section.key` → value.
    """

    model: str
    data: str
    preprocessing: str | None
    image_size: int | list[int]
    channels: int
    calibration: int
    max_drop: float
    objective: str
    target: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


def study_name(model: str) -> str:
    """Return a name for a study of this model: the file's, in letters, digits, `_` and `-`."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", Path(model).stem).strip("_") or "study"


def study_text(wish: Wish, command: str, left_out: Mapping[str, str] | None = None) -> str:
    """Write the study file.

    Args:
        wish: What the user asks for.
        command: The command that writes it, for the first line.
        left_out: Section → why it is not run.

    Returns:
        YAML with a comment on what a user would change.
    """
    left_out = left_out or {}
    extra: dict[str, dict[str, Any]] = {}
    for name, value in wish.parameters.items():
        section, _, key = name.rpartition(".")
        extra.setdefault(section or "common", {})[key] = value
    lines = [f"# Written by `{command}`", *_HEADER]
    sections = _sections(wish)
    sections["analysis"] |= _question(left_out)
    for section, comment in _COMMENTS.items():
        content = sections.get(section, {}) | extra.pop(section, {})
        lines.append("")
        lines += [f"# {line}" for line in comment]
        if section in left_out:
            lines.append(f"{section}: false  # {left_out[section]}")
        else:
            lines += _entries(section, content)
    for section, content in extra.items():
        lines += ["", *_entries(section, content)]
    return "\n".join(lines) + "\n"


def _question(left_out: Mapping[str, str]) -> dict[str, Any]:
    if not left_out:
        return {}
    return {"question": f"The time was limited; not tried: {', '.join(left_out)}."}


def _sections(wish: Wish) -> dict[str, dict[str, Any]]:
    return {
        "common": {"seed": 0, "target": wish.target},
        "data": {
            "data": wish.data,
            "image_size": wish.image_size,
            "channels": wish.channels,
            "calibration": wish.calibration,
        },
        "baseline": {
            "model": wish.model,
            "preprocessing": wish.preprocessing,
            **({"epochs": 0} if Path(wish.model).suffix or "/" in wish.model else _FROM_IMAGENET),
        },
        "ptq": {
            "schemes": ["float16", "dynamic_int8", "int8", "int8_per_tensor", "w4a8"],
            "converter_schemes": [],
        },
        "low_bit": {"bits": [4], "classifier_bits": [8, 4]},
        "ptq_recovery": {"float_layers": [1, 2]},
        "edge_benchmark": {"budget_seconds": 30.0},
        "analysis": {
            "max_drop": wish.max_drop,
            "min_agreement": None,
            "min_ratio": None,
            "objective": wish.objective,
        },
    }


_FROM_IMAGENET = {  # how a name of the zoo becomes a network for these photos
    "weights": "imagenet",
    "head_epochs": 5,
    "epochs": 5,
    "learning_rate": 1e-4,
    "freeze_norms": True,
}
_HEADER = [
    "# Change what you like: `edgeq run` makes anew what that concerns, and nothing else.",
    "# `section: false` leaves a technique out.",
]
_COMMENTS = {
    "common": ["`target` is where the file is to run: `edgeq targets` lists them."],
    "data": ["One folder per class, or train/validation/test with class folders in each."],
    "baseline": [
        "The float model: a file as it is, a name of the zoo trained from its ImageNet weights.",
        "`preprocessing` is how pixels of 0 to 255 become its input: none, unit, signed, torch,",
        "caffe, or a dictionary of mean and std. Left empty, it is the zoo's own, or the one that",
        "suits validation images best; where these cannot tell, the study asks.",
    ],
    "ptq": ["Quantized without training, in seconds per file."],
    "qat": ["Quantization-aware training: `epochs`, `learning_rate`."],
    "diagnosis": ["Which layers lose accuracy in int8, and why."],
    "ptq_recovery": ["What wins it back without training."],
    "data_free": ["Without any image."],
    "low_bit": ["4-bit weights, rounded by the error of each layer's output."],
    "qkeras": ["Needs the extra `qkeras`."],
    "mixed_precision": ["Bits layer by layer, for a budget of bytes."],
    "peers": [],
    "runtimes": ["OpenVINO and ONNX Runtime beside LiteRT; needs the extra `runtimes`."],
    "edge_benchmark": ["Latency and memory, all files in turns."],
    "analysis": [
        "What a file must meet to be shipped; `min_ratio`, `min_agreement` and `max_latency_ratio`",
        "are further criteria.",
        "`objective` is which of the files that meet them: smallest, fastest, accurate, simplest.",
    ],
}
_OFF = ("qkeras", "peers", "runtimes")


def _entries(section: str, content: Mapping[str, Any]) -> list[str]:
    if not content:
        return [f"{section}: false" if section in _OFF else f"{section}: {{}}"]
    return [f"{section}:", *(f"  {key}: {_value(value)}" for key, value in content.items())]


def _value(value: Any) -> str:
    """A value in one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6)
    return text.removesuffix("...\n").strip()


def is_written(path: Path, command: str, text: str) -> bool:
    """Tell whether a study file is there that goes on with this command.

    Args:
        path: The study file.
        command: The command at work.
        text: What the command would write first.

    Returns:
        True for a file that this command wrote and completed, or that its user edited since: it
        stays as it is. False where there is none, or one that was just begun.

    Raises:
        EdgeqError: When it is there and comes from elsewhere.
    """
    if not path.exists() or path.read_text() == text:
        return False
    if path.read_text().startswith(f"# Written by `{command}`\n"):
        return True
    raise EdgeqError(
        f"{path.name} is there already and comes from another command; `edgeq run {path.stem}` "
        "runs it, or give this one another name with --name."
    )


def command_line(words: Iterable[str]) -> str:
    """Join the words of a command as a shell reads them."""
    return " ".join(["edgeq", *map(shlex.quote, words)])


def seconds(text: str) -> float:
    """Read a duration: `90s`, `20m`, `1.5h`, or a number of minutes.

    Raises:
        EdgeqError: For anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not match or float(match[1]) <= 0:
        raise EdgeqError(f"--time {text} is no duration; write 90s, 20m or 1h.")
    return float(match[1]) * {"s": 1.0, "m": 60.0, "": 60.0, "h": 3600.0}[match[2]]


def what_fits(name: str, limit: float) -> dict[str, str]:
    """Choose what is left out, from what the first stages of a study took.

    Args:
        name: The study, whose stages before `FIRST_OPTIONAL` have run.
        limit: Seconds for the whole study.

    Returns:
        Section → why it is left out.
    """
    stages = {
        path.stem: read_json(path)["seconds"]
        for path in (runs() / name / "stages").glob("*.json")
        if path.stem < FIRST_OPTIONAL
    }
    scoring, left = stages["03_ptq"], limit - sum(stages.values()) - RESERVE
    left_out = {}
    for section, multiple in OPTIONAL.items():
        expected = multiple * scoring
        if section == "ptq_recovery" and "diagnosis" in left_out:
            left_out[section] = "it builds on diagnosis, which is left out"
        elif expected > left:
            minutes = max(1, round(expected / 60))
            left_out[section] = f"would take about {minutes} min, past the limit"
        else:
            left -= expected
    return left_out
