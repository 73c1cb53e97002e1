"""Draw `docs/architecture.svg` from the import contracts in pyproject.toml: run by `make site`.

Packages stand as the contract `layers` orders them, arrows point down; beside them stand the ones
that know only rows and records. The picture carries its own background and reads on light and dark.
"""

from __future__ import annotations

import html
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HOLDS = {
    "analysis": "criteria, decision, alternatives",
    "cli": "the command line",
    "compress": "techniques: calibration, PTQ, QAT, …",
    "data": "data sets, splits, decoding",
    "files": "atomic files, EdgeqError",
    "measure": "accuracy, statistics, latency, targets",
    "models": "zoo, training, conversion",
    "pipeline": "parameters, runs of notebooks",
    "plots": "figures from rows",
    "progress": "progress bars",
    "records": "the best epoch",
    "report": "results.json, text, pages",
    "search": "architecture search",
    "stage": "what a notebook opens",
    "study": "study, variant, shelf",
    "tasks": "metrics and losses per task",
    "tflite": "read, write, run flatbuffers",
}
WIDTH, LEFT, ROOM, GAP, HEIGHT = 800, 460, 290, 20, 50  # pixels: picture, columns, a box


def layers_of(contract: dict[str, Any]) -> list[list[str]]:
    """Read the layers of a contract, top first; names without `edgeq_lib.`."""
    return [
        [name.strip().removeprefix("edgeq_lib.") for name in layer.replace("|", ":").split(":")]
        for layer in contract["layers"]
    ]


def box(name: str, left: float, top: float, width: float, fill: str) -> str:
    """Draw a package: its name, and what it holds."""
    middle = left + width / 2
    return (
        f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{HEIGHT}" rx="6" '
        f'fill="{fill}" stroke="#4a5560"/>'
        f'<text x="{middle:g}" y="{top + 21:g}" class="name">{html.escape(name)}</text>'
        f'<text x="{middle:g}" y="{top + 39:g}">{html.escape(HOLDS.get(name, ""))}</text>'
    )


def column(layers: list[list[str]], left: float, width: float, top: float, fill: str) -> list[str]:
    """Draw layers below each other, with an arrow from each to the next."""
    parts = []
    for number, layer in enumerate(layers):
        share = (width - GAP / 2 * (len(layer) - 1)) / len(layer)
        y = top + number * (HEIGHT + GAP)
        parts += [
            box(name, left + index * (share + GAP / 2), y, share, fill)
            for index, name in enumerate(layer)
        ]
        if number:
            x = left + width / 2
            parts.append(f'<path d="M{x:g} {y - GAP:g}V{y - 5:g}" class="arrow"/>')
    return parts


def draw(project: dict[str, Any]) -> str:
    """Draw the picture.

    Args:
        project: The content of pyproject.toml.

    Returns:
        The SVG.
    """
    contracts = {entry["id"]: entry for entry in project["tool"]["importlinter"]["contracts"]}
    main, beside = layers_of(contracts["layers"]), layers_of(contracts["report-is-last"])
    alone = [[name.removeprefix("edgeq_lib.")] for name in contracts["pipeline"]["source_modules"]]
    height = 60 + len(main) * (HEIGHT + GAP)
    second = 50 + len(beside) * (HEIGHT + GAP) + 50
    right = LEFT + 30
    parts = [
        *column(main, 20, LEFT - 30, 50, "#dcebf7"),
        *column(beside, right, ROOM, 50, "#e3f1e4"),
        *column(alone, right, ROOM, second, "#f7ecd6"),
    ]
    heads = (
        (20, 32, "An arrow points to what may be imported"),
        (right, 32, "Rows and records only, no TensorFlow"),
        (right, second - 18, "Knows notebooks and the study only"),
    )
    parts += [f'<text x="{x}" y="{y}" class="head">{text}</text>' for x, y, text in heads]
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">
<title>The packages of edgeq_lib and what they may import</title>
<defs><marker id="tip" markerWidth="8" markerHeight="8" refX="4" refY="4" orient="auto">
<path d="M0 0L8 4L0 8z" fill="#4a5560"/></marker></defs>
<style>text {{ font: 13px "DejaVu Sans", Verdana, sans-serif; text-anchor: middle; fill: #1c1f23 }}
.name {{ font-weight: bold; font-size: 15px }} .head {{ text-anchor: start; font-weight: bold }}
.arrow {{ stroke: #4a5560; stroke-width: 1.5; marker-end: url(#tip) }}</style>
<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>
{chr(10).join(parts)}
</svg>
"""


def write_picture(root: Path = ROOT) -> None:
    """Write docs/architecture.svg of a checkout."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    (root / "docs" / "architecture.svg").write_text(draw(project))


if __name__ == "__main__":
    write_picture()
