"""A report as an A4 PDF, set by reportlab (BSD)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib
from reportlab.lib import colors, pagesizes, styles, units
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics, ttfonts
from reportlab.platypus import (
    CondPageBreak,
    Image,
    KeepTogether,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
)

from edgeq_lib.report.render import Block, marked

FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono")  # matplotlib ships them
LINE, TINT, SOFT = (colors.HexColor(value) for value in ("#dfe3e7", "#e8f2f9", "#5d646b"))
MARGIN = 18 * units.mm
FULL = pagesizes.A4[0] - 2 * MARGIN


def _style(size: float, bold: bool = False, **more: Any) -> styles.ParagraphStyle:
    font = FONTS[1] if bold else FONTS[0]
    return styles.ParagraphStyle("", fontName=font, fontSize=size, leading=size * 1.38, **more)


STYLES = {
    "title": _style(17, True, spaceAfter=10),
    "heading": _style(12.5, True, spaceBefore=14, spaceAfter=5),
    "subheading": _style(10, True, spaceBefore=11, spaceAfter=4),
    "text": _style(9, spaceAfter=5),
    "item": _style(9, spaceAfter=3, leftIndent=11),
    "cell": _style(6.5),
    "head": _style(6.5, True),
    "note": _style(7.6, textColor=SOFT, spaceAfter=4),
    "lead": _style(10, backColor=TINT, borderPadding=7, spaceBefore=6, spaceAfter=14),
}


def pdf(content: Sequence[Block], pictures: Mapping[str, bytes]) -> bytes:
    """The blocks as an A4 PDF, the same bytes for the same content.

    Args:
        content: The blocks; the first is the title.
        pictures: PNG files by the name that figure blocks give.
    """
    for font in FONTS:
        path = f"{matplotlib.get_data_path()}/fonts/ttf/{font}.ttf"
        pdfmetrics.registerFont(ttfonts.TTFont(font, path))
    story = [flowable for block in content for flowable in _flowables(block, pictures)]
    _keep_headings(story)
    file = io.BytesIO()
    SimpleDocTemplate(
        file,
        pagesize=pagesizes.A4,
        leftMargin=MARGIN,
        rightMargin=MARGIN,
        topMargin=16 * units.mm,
        bottomMargin=16 * units.mm,
        invariant=1,
        title=content[0][1],
        author="edgeq",
    ).build(story)
    return file.getvalue()


def _flowables(block: Block, pictures: Mapping[str, bytes]) -> Iterator[Any]:
    kind, *rest = block
    if kind == "table":
        caption, head, body, mark = rest
        rows = [head, *body]
        yield CondPageBreak(40 * units.mm)
        yield _paragraph(caption, "note")
        yield _grid(rows, "head", None if mark is None else mark + 1, _widths(rows))
        yield Spacer(1, 8)
    elif kind == "facts":
        yield _grid(rest[0], "cell", None, (26 * units.mm, FULL - 26 * units.mm))
    elif kind == "list":
        yield from (_paragraph(item, "item", "•") for item in rest[0])
    elif kind == "figure":
        name, caption = rest
        yield _figure(pictures[name], caption)
    else:
        yield _paragraph(rest[0], kind)


def _paragraph(text: str, look: str, bullet: str | None = None) -> Paragraph:
    return Paragraph(
        str(marked(text, f'<font face="{FONTS[2]}">{{}}</font>')), STYLES[look], bullet
    )


def _figure(png: bytes, caption: str) -> KeepTogether:
    across, down = ImageReader(io.BytesIO(png)).getSize()
    tallest = 110 if down > across else 94  # mm; what is wider than tall must fit under a text
    width = min(FULL * 0.86, tallest * units.mm * across / down)
    image = Image(io.BytesIO(png), width, width * down / across)
    return KeepTogether([image, _paragraph(caption, "note"), Spacer(1, 6)])


def _grid(
    rows: Sequence[Sequence[str]], first: str, mark: int | None, widths: Sequence[float]
) -> Table:
    """A table whose first row has the look `first` and whose row `mark` is tinted."""
    cells = [
        [_paragraph(cell, first if index == 0 else "cell") for cell in row]
        for index, row in enumerate(rows)
    ]
    shades = [("BACKGROUND", (0, mark), (-1, mark), TINT)] if mark is not None else []
    padding = [
        (f"{side}PADDING", (0, 0), (-1, -1), 2.5) for side in ("LEFT", "RIGHT", "TOP", "BOTTOM")
    ]
    lines = [("LINEBELOW", (0, 0), (-1, -1), 0.4, LINE), ("VALIGN", (0, 0), (-1, -1), "TOP")]
    return Table(
        cells,
        widths,
        repeatRows=1 if first == "head" else 0,
        style=[*lines, *shades, *padding],
    )


def _widths(rows: Sequence[Sequence[str]]) -> list[float]:
    """Widths per column: what its longest cell takes, the widest cut until the page holds all."""

    def width(cell: str, font: str) -> float:
        return pdfmetrics.stringWidth(cell.strip("`"), font, 6.5) + 6

    wanted = [
        max(width(head, FONTS[1]), *(width(cell, FONTS[2 if "`" in cell else 0]) for cell in cells))
        if cells
        else width(head, FONTS[1])
        for head, *cells in zip(*rows, strict=True)
    ]
    cap = max(wanted)
    while sum(min(width, cap) for width in wanted) > FULL:
        cap *= 0.97
    return [min(width, cap) for width in wanted]


def _keep_headings(story: list[Any]) -> None:
    """Let no heading stand apart from what it heads, of a table from its first rows."""
    headings = (STYLES["heading"], STYLES["subheading"])
    for index in range(len(story) - 2, -1, -1):
        if isinstance(story[index], Paragraph) and story[index].style in headings:
            if isinstance(story[index + 1], CondPageBreak):
                story[index : index + 2] = story[index + 1], story[index]
            else:
                story[index].keepWithNext = True
