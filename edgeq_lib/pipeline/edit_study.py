"""Write a study's YAML file; add one more entry to a list in it, whose comments stay
(`edgeq add-peer`).
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from edgeq_lib.files import EdgeqError
from edgeq_lib.pipeline import config

HEADER = "Files that others published, measured on the same images by the same code."


def add_peer(path: Path, entry: Mapping[str, Any]) -> None:
    """Add a peer to a study's YAML file, once the result has proven to be a valid study.

    Args:
        path: The study's file.
        entry: The peer as the file declares it: file, name, preprocessing, image_size, ….

    Raises:
        EdgeqError: When the file leaves no safe place for it; the file is then as it was.
    """
    write_study(path, with_peer(path.read_bytes().decode(), entry, path.name))


def write_study(path: Path, text: str) -> None:
    """Write a study file, once it has proven to be a valid study.

    Args:
        path: The file; its folder is made if it is missing.
        text: Its content.

    Raises:
        EdgeqError: For what makes it no valid study; the file is then as it was.
    """
    staging = path.with_name(f".{path.stem}.{os.getpid()}.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        staging.write_bytes(text.encode())
        config.load(str(staging))
        os.replace(staging, path)
    except EdgeqError as error:
        raise EdgeqError(str(error).replace(staging.name, path.name)) from None
    finally:
        staging.unlink(missing_ok=True)


def with_peer(text: str, entry: Mapping[str, Any], name: str) -> str:
    """Add an entry to the list `files` of the section `peers` of a study's text.

    Args:
        text: The content of the study's file.
        entry: The new entry.
        name: What the file is called in a message.

    Returns:
        The text with the entry; comments and all other values stay.

    Raises:
        EdgeqError: When the section is left out, or the text cannot be rewritten safely.
    """
    wanted = yaml.safe_load(text) or {}
    if not isinstance(wanted.get("peers"), dict | type(None)):
        raise EdgeqError(
            f"{name} says `peers: {text_of(wanted['peers'])}`; take that line out first."
        )
    wanted["peers"] = {**(wanted.get("peers") or {})}
    wanted["peers"]["files"] = [dict(entry), *(wanted["peers"].get("files") or [])]
    try:
        result = _rewritten(text, dict(entry))
        if yaml.safe_load(result) == wanted:
            return result
    except (YAMLError, yaml.YAMLError):
        pass
    raise EdgeqError(
        f"{name} is written in a way that leaves no safe place for the peer; add it by hand: "
        f"peers: {{files: [{text_of(dict(entry))}]}}."
    )


def text_of(value: Any) -> str:
    """A value as YAML writes it on one line."""
    line = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000
    )
    return line.removesuffix("...\n").strip()


def _rewritten(text: str, entry: dict[str, Any]) -> str:
    """The text after a round trip that keeps comments and quotes, with the entry in its place."""
    round_trip = YAML()
    round_trip.preserve_quotes = True
    round_trip.width = 10_000
    round_trip.indent(mapping=2, sequence=4, offset=2)
    study = round_trip.load(text)
    if study is None:  # comments alone, which a round trip has nothing to attach to
        return f"{text}peers:\n  files:\n    - {text_of(entry)}\n"
    if "peers" not in study:
        study["peers"] = CommentedMap()
        study.yaml_set_comment_before_after_key("peers", before=HEADER)
    if study["peers"] is None:
        study["peers"] = CommentedMap()
    if not study["peers"].get("files"):
        study["peers"]["files"] = []
    # In front: what follows the last entry, a comment on the next section say, stays where it is.
    study["peers"]["files"].insert(0, entry)
    result = io.StringIO()
    round_trip.dump(study, result)
    return result.getvalue()
