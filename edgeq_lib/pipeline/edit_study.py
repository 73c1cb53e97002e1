"""`edgeq add-peer`: one more entry in the YAML file of a study, whose comments stay."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from edgeq_lib.files import EdgeqError, home, read_json
from edgeq_lib.measure import peers
from edgeq_lib.pipeline import config
from edgeq_lib.study import Study

HEADER = "# Files that others published, measured on the same images by the same code."


def add_peer(study: str, given: Mapping[str, Any]) -> str:
    """Check a peer and add it to the study's YAML file, whose comments stay; returns the peer's name.

    `given["file"]` is relative to the working directory; what lies in EDGEQ_ASSETS is written so. Raises EdgeqError, and
    changes nothing, when the peer does not do, is there already, or has no place in the file.
    """
    sections = config.load(study).stages
    path = (
        Path(study) if study.endswith((".yaml", ".yml")) else home() / "studies" / f"{study}.yaml"
    )
    new = {
        **peers.validate_declaration(given),
        "file": str(Path(given["file"]).expanduser().resolve()),
    }
    record = Study(path.stem).folder / "records" / "data.json"
    height, width = peers.check_peer(
        new, len(read_json(record)["classes"]) if record.exists() else None
    )["image_size"]
    there = [
        peers.validate_declaration(old) for old in sections.get("70_peers", {}).get("files", [])
    ]
    for old in there:
        if (
            new["name"] == old["name"]
            or Path(new["file"]) == (home() / os.path.expandvars(old["file"])).resolve()
        ):
            raise EdgeqError(
                f"{path.name} has the peer '{old['name']}' already; give another file and another --name."
            )
    new |= {
        "file": _portable(new["file"]),
        "image_size": height if height == width else [height, width],
    }
    new = {field: value for field, value in new.items() if value is not None}
    _write(path, inserted(path.read_bytes().decode(), new, path.name))
    return new["name"]


def _portable(file: str) -> str:
    """A path as it means the same on another machine, if there is a way to write it."""
    for folder, prefix in ((os.environ.get("EDGEQ_ASSETS"), "$EDGEQ_ASSETS/"), (home(), "")):
        if folder and Path(file).is_relative_to(Path(folder).resolve()):
            return prefix + Path(file).relative_to(Path(folder).resolve()).as_posix()
    return file


def _write(path: Path, text: str) -> None:
    """Put the text in the file's place, once it has proven to be a valid study."""
    staging = path.with_name(f".{path.stem}.{os.getpid()}.yaml")
    try:
        staging.write_bytes(text.encode())
        config.load(str(staging))
        os.replace(staging, path)
    except EdgeqError as error:
        raise EdgeqError(str(error).replace(staging.name, path.name)) from None
    finally:
        staging.unlink(missing_ok=True)


def inserted(text: str, new: Mapping[str, Any], name: str) -> str:
    """The text of a study's file (called `name`) with one more entry in the list `files` of its section `peers`.

    All else stays as it is, byte by byte. Raises EdgeqError when the file is written in a way that leaves no safe place.
    """

    def block(indent: int) -> str:
        lines = yaml.safe_dump(
            [dict(new)], sort_keys=False, allow_unicode=True, width=1000
        ).splitlines()
        return "".join(f"{' ' * indent}{line}\n" for line in lines)

    def after(node: yaml.Node, lines: str) -> str:
        """Behind the line on which the node's last leaf ends."""
        while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
            node = node.value[-1] if isinstance(node, yaml.SequenceNode) else node.value[-1][1]
        place = text.find("\n", max(node.end_mark.index - 1, 0)) + 1
        return text[:place] + lines + text[place:] if place else f"{text}\n{lines}"

    def within(node: yaml.Node, what: str) -> str:
        """As the last thing inside a flow collection's brackets."""
        place = node.end_mark.index - 1
        comma = ", " if node.value and not text[:place].rstrip().endswith(",") else ""
        return text[:place] + comma + what + text[place:]

    def of(node: yaml.Node, key: str) -> yaml.Node | None:
        return next((value for label, value in node.value if label.value == key), None)

    flow = yaml.safe_dump(
        dict(new), default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000
    ).strip()
    root = yaml.compose(text)
    section = of(root, "peers") if isinstance(root, yaml.MappingNode) else None
    files = of(section, "files") if isinstance(section, yaml.MappingNode) else None
    if isinstance(section, yaml.ScalarNode) and yaml.safe_load(section.value) is not None:
        raise EdgeqError(f"{name} says `peers: {section.value}`; take that line out first.")
    if section is None:
        result = text.rstrip("\n") + f"\n{HEADER}\npeers:\n  files:\n{block(4)}"
    elif isinstance(files, yaml.SequenceNode):
        result = (
            within(files, flow)
            if files.flow_style
            else after(files, block(files.start_mark.column))
        )
    elif isinstance(section, yaml.MappingNode) and files is None:
        result = (
            within(section, f"files: [{flow}]")
            if section.flow_style
            else after(
                section,
                f"{' ' * section.start_mark.column}files:\n{block(section.start_mark.column + 2)}",
            )
        )
    else:  # an empty section, or an empty list
        node = section if files is None else files
        result = after(
            node, f"  files:\n{block(4)}" if files is None else block(section.start_mark.column + 2)
        )
    wanted = yaml.safe_load(text) or {}
    wanted["peers"] = wanted.get("peers") or {}
    wanted["peers"]["files"] = [*(wanted["peers"].get("files") or []), dict(new)]
    try:
        if yaml.safe_load(result) == wanted:
            return result
    except yaml.YAMLError:
        pass
    raise EdgeqError(
        f"{name} is written in a way that leaves no safe place for the peer; add it by hand: peers: {{files: "
        f"[{flow}]}}."
    )
