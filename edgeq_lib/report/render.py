"""A report as Markdown and as one self-contained HTML page.

A report is a list of blocks (kind, content…), the same for all formats: title, lead, heading,
subheading, text, facts, list, table and figure. Text may hold `code` and **bold**.
"""

from __future__ import annotations

import base64
import functools
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

Block = tuple[Any, ...]
PREFIXES = {"title": "# ", "heading": "## ", "subheading": "### ", "text": ""}


# --- Markdown ---
def markdown(content: Sequence[Block]) -> str:
    """The blocks as GitHub Markdown; figures are PNG files beside it."""
    return "\n\n".join(_markdown_block(*block) for block in content) + "\n"


def _markdown_block(kind: str, *rest: Any) -> str:
    if kind == "table":
        return _markdown_table(*rest)
    if kind == "facts":
        return "\n".join([_cells(["", ""]), _cells(["---"] * 2), *map(_cells, rest[0])])
    if kind == "list":
        return "\n".join(f"- {item}" for item in rest[0])
    if kind == "figure":
        name, caption = rest
        return f"![{caption}]({name}.png)\n\n*{caption}*"
    return f"**{rest[0]}**" if kind == "lead" else PREFIXES[kind] + rest[0]


def _markdown_table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], mark: int | None
) -> str:
    lines = [
        _cells([f"**{cell}**" for cell in row] if index == mark else row)
        for index, row in enumerate(rows)
    ]
    return "\n".join([f"*{caption}*", "", _cells(head), _cells(["---"] * len(head)), *lines])


def _cells(row: Sequence[str]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |"


# --- HTML ---
def page(
    results: Mapping[str, Any], content: Sequence[Block], pictures: Mapping[str, bytes]
) -> str:
    """The report as one HTML file that needs nothing else: all it shows and runs is inside.

    Args:
        results: The content of results.json; what one explores comes from it.
        content: The blocks. The table right below the heading "Results" is left out: the explorer
            holds all of it, and is referred to.
        pictures: PNG files by the name that figure blocks give.

    Returns:
        The page. The same input gives the same bytes.
    """
    from edgeq_lib.report.explorer import explorer
    from edgeq_lib.report.interactive import charts

    table, specs = explorer(results), charts(results)
    shown = {"rows": [{key: row[key] for key in ("name", "technique", "sort", "meets", "hover")}
                      for row in table["rows"]], "charts": specs}  # fmt: skip
    blocks = [(f"b{index}", *block) for index, block in enumerate(_with_reference(content))]
    return (
        _templates()
        .get_template("report.html.j2")
        .render(
            title=next((rest[0] for kind, *rest in content if kind == "title"), "Report"),
            blocks=blocks,
            table=table,
            chart_fields=list(specs),
            data=Markup(_script_json(shown)),
            library=Markup(_chart_library() if specs else ""),
            pictures=pictures,
        )
    )


def _with_reference(content: Sequence[Block]) -> list[Block]:
    """The blocks with a reference to the explorer in the place of the main table."""

    def is_main(before: Block, block: Block) -> bool:
        return block[0] == "table" and before[:2] == ("heading", "Results")

    return [
        ("explored",) if is_main(before, block) else block
        for before, block in zip([("",), *content], content, strict=False)
    ]


def _script_json(value: Any) -> str:
    """JSON that may stand inside a script element, whatever names it holds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@functools.cache
def _chart_library() -> str:
    """Vega and Vega-Embed (BSD-3) as one script, out of the wheel of vl-convert-python."""
    import vl_convert

    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return re.sub(r"(?i)</(script)", r"<\\/\1", script)


@functools.cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("edgeq_lib.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"marked": marked, "breakable": _breakable, "picture": _picture}
    return templates


def marked(text: str, code: str = "<code>{}</code>") -> Markup:
    """Text with `code` and **bold** as escaped markup; `code` is what stands around the first."""
    escaped = re.sub(
        r"`([^`]+)`", lambda match: code.format(match[1]), html.escape(str(text), quote=True)
    )
    return Markup(re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", escaped))


def _breakable(name: str) -> Markup:
    """A name that may be broken after each underscore."""
    return Markup("_<wbr>").join(name.split("_"))


def _picture(png: bytes) -> dict[str, Any]:
    """A PNG as lossless WebP, which takes a third of its bytes, with its size in pixels."""
    from PIL import Image

    image, file = Image.open(io.BytesIO(png)), io.BytesIO()
    mode = (
        "RGB"
        if image.mode == "RGBA" and image.getchannel("A").getextrema()[0] == 255
        else image.mode
    )
    image.convert(mode).save(file, "WEBP", lossless=True, quality=75, method=2)
    source = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"source": source, "width": image.width, "height": image.height}
