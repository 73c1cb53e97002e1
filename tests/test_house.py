"""House rules that no linter checks: names that cross modules, words, the snippet in the README."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "edgeq_lib").rglob("*.py"))
# Words of ours that the glossary replaces by the field's.
BANNED = re.compile(r"\b(doors?|yardsticks?|freaks?|rungs?|ladders?|namesakes?|hungry)\b", re.I)


def relative(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_no_private_name_crosses_a_module(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgeq_lib"):
            private = [name.name for name in node.names if name.name.startswith("_")]
            assert not private, f"{relative(path)} takes {private} from {node.module}"


@pytest.mark.parametrize("folder", ["edgeq_lib", "notebooks", "docs", "studies"])
def test_words_are_the_fields(folder):
    for path in (ROOT / folder).rglob("*"):
        if path.suffix in (".py", ".md", ".yaml") and "build" not in path.parts:
            found = BANNED.search(path.read_text())
            assert not found, f"{relative(path)} says '{found[0]}'"
