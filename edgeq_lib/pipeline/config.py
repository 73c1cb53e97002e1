"""Study files and their validation.

A notebook's cell tagged `parameters` is the schema of its section: names, types, defaults and, as
comments, the help. So a new notebook needs no change here, and what the YAML may say and what the
notebook takes cannot drift apart.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import json
import os
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pydantic
import yaml

from edgeq_lib import targets
from edgeq_lib.files import EdgeqError, digest, home
from edgeq_lib.scaling import check_scaling

# A name that ends so is a file's, also without a folder.
_FILES = (".h5", ".keras", ".tflite", ".pt2", ".pt", ".pth", ".onnx", ".yaml", ".yml")


def _existing(value: str, info: pydantic.ValidationInfo) -> str:
    """A bare name stays; a path must exist, relative to the study's file or to the checkout."""
    expanded = os.path.expandvars(os.path.expanduser(value))
    if "$" in expanded:
        raise ValueError(
            f"names {value}, but that environment variable is not set; set it or give a path"
        )
    if "/" not in expanded and not expanded.endswith(_FILES):
        return value
    folders = [(info.context or {}).get("folder"), home()]
    for path in [Path(folder) / expanded for folder in folders if folder]:
        if path.exists():
            return str(path.resolve())
    raise ValueError(
        f"names {value}, which does not exist; correct the path (relative to the study's file)"
    )


def _first(value: Any, info: pydantic.ValidationInfo) -> Any:
    """Of a list the first entry that exists, else the last, so that its absence is an error."""
    if not isinstance(value, list):
        return value
    if not value or not all(isinstance(each, str) for each in value):
        raise ValueError(
            "must be a name, a path, or a list of such from which the first that is there is taken"
        )
    for each in value[:-1]:
        with contextlib.suppress(ValueError):
            return _existing(each, info)
    return value[-1]


def _if_there(value: str | None, info: pydantic.ValidationInfo) -> str | None:
    """A path that is not there, or whose environment variable is not set, is None."""
    try:
        found = None if value is None else _existing(value, info)
    except ValueError:
        return None
    if found is not None and not Path(found).is_file():
        raise ValueError(f"names {value}, which is no file; give the path of a weights file")
    return found


def _target(value: str, info: pydantic.ValidationInfo) -> str:
    """A target's name, or the path of one of the user's own, relative to the study's file."""
    if value == targets.ANY:
        return value
    path = _existing(value, info) if value.endswith((".yaml", ".yml")) else value
    try:
        targets.load(path)
    except EdgeqError as error:
        raise ValueError(str(error).rstrip(".")) from None
    return path


Fraction = Annotated[float, pydantic.Field(ge=0, le=1)]
Percent = Annotated[float, pydantic.Field(gt=1, le=100)]  # 0.9 would be a share by mistake
NameOrPath = Annotated[str, pydantic.AfterValidator(_existing)]
FirstOf = Annotated[str, pydantic.BeforeValidator(_first), pydantic.AfterValidator(_existing)]
IfThere = Annotated[str | None, pydantic.AfterValidator(_if_there)]
TargetName = Annotated[str, pydantic.AfterValidator(_target)]
_TYPES = {
    "Fraction": Fraction,
    "Percent": Percent,
    "NameOrPath": NameOrPath,
    "FirstOf": FirstOf,
    "IfThere": IfThere,
    "TargetName": TargetName,
    "Any": Any,
    "Literal": typing.Literal,
    **{
        name: getattr(pydantic, name)
        for name in ("PositiveInt", "NonNegativeInt", "PositiveFloat", "NonNegativeFloat")
    },
}


# Sections and keys that studies used before, and what stands for them now.
RENAMED = {
    "ptq_repair": "ptq_recovery (what wins int8 back) and diagnosis (which layers lose it)",
    "image_size": "edge_benchmark: {image_scales: […]}",
    "analysis.training_data": "analysis.images",
    "analysis.device": "common: {target: NAME} (`edgeq targets` lists them)",
    "analysis.kernels": "common: {target: NAME} (`edgeq targets` lists them)",
}


# What a file must meet, where it runs, and which peers stand beside it, is each study's own to say.
# The notebooks' defaults are the quickstart's: a study that is silent on them inherits none.
UNSTATED: dict[str, dict[str, Any]] = {
    "peers": {"files": []},
    "edge_benchmark": {"targets": []},
    "analysis": {
        "max_drop": 1.0,
        "min_agreement": None,
        "min_ratio": None,
    },
}


@dataclass(frozen=True)
class Notebook:
    """One stage: its file, the code of its cells and the parameters that it declares."""

    path: Path
    fields: dict[str, tuple[Any, Any]]  # name → (type, default)
    help: dict[str, str]
    code: str

    @property
    def stage(self) -> str:
        """Its name with the number, `03_ptq`."""
        return self.path.stem

    @property
    def section(self) -> str:
        """Its section in a study's file, `ptq`."""
        return self.path.stem.split("_", 1)[1]


def read_notebook(path: Path) -> Notebook:
    """Read a notebook's declaration; nothing is executed.

    Raises:
        EdgeqError: Without a cell tagged `parameters`.
    """
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    tagged = [
        source
        for cell, source in zip(cells, sources, strict=True)
        if "parameters" in cell["metadata"].get("tags", [])
    ]
    if len(tagged) != 1:
        raise EdgeqError(f"{path.name} must have one cell tagged 'parameters', not {len(tagged)}.")
    lines = tagged[0].splitlines()
    fields, comments = {}, {}
    for node in ast.parse(tagged[0]).body:
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.value is not None
        ):
            kind = eval(ast.unparse(node.annotation), dict(_TYPES))  # our own notebook's annotation
            fields[node.target.id] = (kind, ast.literal_eval(node.value))
            comments[node.target.id] = lines[(node.end_lineno or node.lineno) - 1].partition(
                "  # "
            )[2]
    return Notebook(
        path, fields, comments, digest([source for source in sources if source not in tagged])
    )


def notebooks() -> list[Notebook]:
    """All stages in the order in which they run."""
    return [
        read_notebook(path) for path in sorted((home() / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    ]


@dataclass(frozen=True)
class StudyFile:
    """A validated study: what each stage gets, flat."""

    name: str
    stages: dict[str, dict[str, Any]]  # stage → parameters, in running order


def study_path(name_or_path: str) -> Path:
    """The file of a study: `studies/NAME.yaml`, or the path as given."""
    if name_or_path.endswith((".yaml", ".yml")):
        return Path(name_or_path)
    return home() / "studies" / f"{name_or_path}.yaml"


def load(name_or_path: str, overrides: dict[str, Any] | None = None) -> StudyFile:
    """Read and validate `studies/NAME.yaml`, or a file by its path.

    A stage gets the common section, as far as its notebook declares it, and its own; what neither
    states is the notebook's default, or, for criteria and peers, `UNSTATED`. `section: false`
    leaves a stage out.

    Args:
        name_or_path: The study.
        overrides: `section.key` or `key` → value.

    Raises:
        EdgeqError: For an unknown key, a wrong type, an impossible value or a missing file: one
            sentence that names the key and says what to do.
    """
    path, known = study_path(name_or_path), notebooks()
    sections = {notebook.section: notebook for notebook in known}
    content = _read(path, list(sections))
    left_out = {section for section, part in content.items() if part is False}
    content = {section: dict(part or {}) for section, part in content.items()}
    _merge(content, overrides or {}, sections)
    _refuse_old_names(content, sections, path)
    for section in content:
        if section not in ("common", *sections):
            raise EdgeqError(
                f"{path.name}: there is no section "
                f"'{section}'{_near(section, ['common', *sections])}."
            )
    for key in content.get("common", {}):
        if not any(key in notebook.fields for notebook in known) or key == "study":
            everywhere = sorted(
                set.intersection(*[set(notebook.fields) for notebook in known]) - {"study"}
            )
            raise EdgeqError(
                f"{path.name}: no notebook knows common.{key}{_near(key, everywhere)}."
            )
    stages = {}
    for notebook in known:
        if notebook.section in left_out:
            continue
        common = {
            key: value for key, value in content.get("common", {}).items() if key in notebook.fields
        }
        anywhere = {"target": targets.ANY} if "target" in notebook.fields else {}
        given = {
            **anywhere,
            **UNSTATED.get(notebook.section, {}),
            **common,
            **content.get(notebook.section, {}),
        }
        stages[notebook.stage] = {**_validate(notebook, given, path), "study": path.stem}
    _check_pixels(stages, path)
    return StudyFile(path.stem, stages)


def _check_pixels(stages: dict[str, dict[str, Any]], path: Path) -> None:
    """A preprocessing must fit the images' channels: said before anything is decoded."""
    data, baseline = (stages.get(stage, {}) for stage in ("01_data", "02_baseline"))
    try:
        check_scaling(baseline.get("preprocessing"), data.get("channels"))
    except EdgeqError as error:
        raise EdgeqError(f"{path.name}: baseline.preprocessing: {error}") from None


def _read(path: Path, sections: list[str]) -> dict[str, Any]:
    """Read a study file: section → its keys, False for one that is left out."""
    if not path.exists():
        have = ", ".join(sorted(file.stem for file in (home() / "studies").glob("*.yaml")))
        raise EdgeqError(
            f"There is no study {path.name}; take one of {have}, or give the path of your own "
            "YAML file."
        )
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise EdgeqError(
            f"{path.name} is not valid YAML{f' in line {mark.line + 1}' if mark else ''}; mind "
            "indentation and colons."
        ) from None
    if not isinstance(content, dict) or not all(
        isinstance(part or {}, dict) for part in content.values()
    ):
        raise EdgeqError(
            f"{path.name} must hold sections with keys (common, {', '.join(sections)}), each "
            "`key: value`, or `section: false` to leave a technique out."
        )
    return content


def _refuse_old_names(
    content: dict[str, dict[str, Any]], sections: dict[str, Notebook], path: Path
) -> None:
    names = [*content, *(f"{section}.{key}" for section, part in content.items() for key in part)]
    for name in names:
        if name in RENAMED and name not in sections:
            raise EdgeqError(f"{path.name}: '{name}' is now {RENAMED[name]}; correct the study.")


def _merge(
    content: dict[str, dict], overrides: dict[str, Any], sections: dict[str, Notebook]
) -> None:
    for name, value in overrides.items():
        section, _, key = name.rpartition(".")
        owners = (
            [section]
            if section
            else [each for each, notebook in sections.items() if key in notebook.fields]
        )
        if len(owners) > 1 and all(key in sections[each].fields for each in sections):
            owners = ["common"]
        if len(owners) != 1:
            cure = (
                f"say {' or '.join(f'{each}.{key}' for each in owners)}"
                if owners
                else "no notebook declares it"
            )
            raise EdgeqError(
                f"The parameter '{name}' is {'ambiguous' if owners else 'unknown'}: {cure}."
            )
        content.setdefault(owners[0], {})[key] = value


def _near(word: str, words: list[str]) -> str:
    close = difflib.get_close_matches(word, words, 1)
    return f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(words)}"


def _validate(notebook: Notebook, given: dict[str, Any], path: Path) -> dict[str, Any]:
    strict = pydantic.ConfigDict(extra="forbid", strict=True)
    fields: dict[str, Any] = dict(notebook.fields)
    schema = pydantic.create_model(notebook.section, __config__=strict, **fields)
    try:
        checked = schema.model_validate(given, context={"folder": path.parent})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join([notebook.section, *map(str, first["loc"])])
        if first["type"] == "extra_forbidden":
            near = _near(str(first["loc"][0]), list(schema.model_fields))
            raise EdgeqError(f"{path.name}: there is no parameter {key}{near}.") from None
        said = first["msg"].removeprefix("Value error, ")
        note = notebook.help.get(str(first["loc"][0]), "")
        raise EdgeqError(
            f"{path.name}: {key} = {first['input']!r} will not do: {said[0].lower() + said[1:]}"
            f"{f' ({note})' if note else ''}."
        ) from None
    values = checked.model_dump()
    _refuse_repetitions(notebook.section, values, path)
    return values


def _refuse_repetitions(section: str, values: dict[str, Any], path: Path) -> None:
    """Lists name what is tried or made: of two equal entries one would overwrite the other."""
    for key, value in values.items():
        if isinstance(value, list):
            twice = [entry for at, entry in enumerate(value) if entry in value[:at]]
            if twice:
                raise EdgeqError(
                    f"{path.name}: {section}.{key} names {twice[0]!r} twice; leave one out."
                )
    if "seed" in values and values["seed"] in values.get("repeats", []):
        raise EdgeqError(
            f"{path.name}: {section}.repeats names {values['seed']}, the study's own seed; "
            "name others."
        )
