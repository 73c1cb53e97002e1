"""Three renderers of a report: Markdown, one self-contained HTML page, and PDF.

A report is a list of blocks (kind, content…), the same for all three: title, lead, heading, subheading, text, facts, list,
table and figure. Text may hold `code` and **bold**.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

Block = tuple[Any, ...]


def markdown(content: Sequence[Block]) -> str:
    """The blocks as GitHub Markdown; figures are PNG files beside it."""

    def cells(row: Sequence[str]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |"

    parts = []
    for kind, *rest in content:
        if kind == "table":
            caption, head, rows, mark = rest
            lines = [
                [f"**{cell}**" if place == mark else cell for cell in row]
                for place, row in enumerate(rows)
            ]
            parts.append(
                "\n".join(
                    [
                        f"*{caption}*",
                        "",
                        cells(head),
                        cells(["---"] * len(head)),
                        *map(cells, lines),
                    ]
                )
            )
        elif kind == "facts":
            parts.append("\n".join([cells(["", ""]), cells(["---"] * 2), *map(cells, rest[0])]))
        elif kind == "list":
            parts.append("\n".join(f"- {item}" for item in rest[0]))
        elif kind == "figure":
            parts.append(f"![{rest[1]}]({rest[0]}.png)\n\n*{rest[1]}*")
        else:
            parts.append(
                {
                    "title": "# {}",
                    "heading": "## {}",
                    "subheading": "### {}",
                    "lead": "**{}**",
                    "text": "{}",
                }[kind].format(rest[0])
            )
    return "\n\n".join(parts) + "\n"


def _marked(text: str, code: str = "<code>{}</code>") -> str:
    text = re.sub(r"`([^`]+)`", lambda found: code.format(found[1]), html.escape(str(text)))
    return re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", text)


CSS = """:root { color-scheme: light dark; --ink: #1c1f23; --soft: #5d646b; --line: #dfe3e7; --page: #fff;
  --tint: #e8f2f9; --mark: #0072b2 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --soft: #a4abb3; --line: #363b41; --page: #15181b;
  --tint: #16303f; --mark: #6fbbe8 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem 1rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0 1rem }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line) }
h3 { font-size: 1.02rem; margin: 1.8rem 0 .5rem }
.lead { font-size: 1.1rem; padding: .8rem 1rem; background: var(--tint); border-left: 4px solid var(--mark);
  border-radius: 4px; overflow-wrap: anywhere }
.wide { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem }
th, td { padding: .32rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--page) }
tr.chosen td { background: var(--tint); font-weight: 600 }
.facts th { position: static; color: var(--soft); font-weight: 600; vertical-align: top }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere }
p, ul { max-width: 50rem }
li { margin: .25rem 0; overflow-wrap: anywhere }
figure { margin: 1.5rem 0 }
figure img { display: block; width: 100%; max-width: 46rem; height: auto; background: #fff; padding: .6rem;
  border: 1px solid var(--line); border-radius: 6px }
figcaption { color: var(--soft); font-size: .85rem; margin-top: .4rem }
code { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .92em }"""


def html_page(content: Sequence[Block], pictures: Mapping[str, bytes]) -> str:
    """The blocks as one HTML file that needs nothing else: styles and pictures (PNG) inside."""
    parts, title = [], ""
    for kind, *rest in content:
        if kind == "table":
            caption, head, rows, mark = rest
            body = "".join(
                ("<tr class='chosen'>" if place == mark else "<tr>")
                + "".join(f"<td>{_marked(cell)}</td>" for cell in row)
                + "</tr>"
                for place, row in enumerate(rows)
            )
            parts.append(
                f'<div class="wide"><table><caption>{_marked(caption)}</caption><thead><tr>'
                + "".join(f"<th>{_marked(cell)}</th>" for cell in head)
                + f"</tr></thead><tbody>{body}</tbody></table></div>"
            )
        elif kind == "facts":
            lines = (
                f"<tr><th>{_marked(name)}</th><td>{_marked(value)}</td></tr>"
                for name, value in rest[0]
            )
            parts.append(
                '<div class="wide"><table class="facts">' + "".join(lines) + "</table></div>"
            )
        elif kind == "list":
            parts.append(
                "<ul>" + "".join(f"<li>{_marked(item)}</li>" for item in rest[0]) + "</ul>"
            )
        elif kind == "figure":
            picture = base64.b64encode(pictures[rest[0]]).decode()
            parts.append(
                f'<figure><img alt="{_marked(rest[1], "{}")}" src="data:image/png;base64,{picture}">'
                f"<figcaption>{_marked(rest[1])}</figcaption></figure>"
            )
        else:
            title = rest[0] if kind == "title" else title
            parts.append(
                {
                    "title": "<h1>{}</h1>",
                    "heading": "<h2>{}</h2>",
                    "subheading": "<h3>{}</h3>",
                    "lead": '<p class="lead">{}</p>',
                    "text": "<p>{}</p>",
                }[kind].format(_marked(rest[0]))
            )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width,initial-scale=1"><title>{html.escape(title)}</title>\n<style>{CSS}</style>'
        "</head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def pdf(content: Sequence[Block], pictures: Mapping[str, bytes]) -> bytes:
    """The blocks as an A4 PDF (reportlab, BSD), the same bytes for the same content."""
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

    for font in (
        "DejaVuSans",
        "DejaVuSans-Bold",
        "DejaVuSansMono",
    ):  # matplotlib ships them: no font of our own
        pdfmetrics.registerFont(
            ttfonts.TTFont(font, f"{matplotlib.get_data_path()}/fonts/ttf/{font}.ttf")
        )

    def style(size: float, bold: bool = False, **more: Any) -> styles.ParagraphStyle:
        return styles.ParagraphStyle(
            "",
            fontName=f"DejaVuSans{'-Bold' if bold else ''}",
            fontSize=size,
            leading=size * 1.38,
            **more,
        )

    looks = {
        "title": style(17, True, spaceAfter=10),
        "heading": style(12.5, True, spaceBefore=14, spaceAfter=5),
        "subheading": style(10, True, spaceBefore=11, spaceAfter=4),
        "text": style(9, spaceAfter=5),
        "item": style(9, spaceAfter=3, leftIndent=11),
        "cell": style(6.5),
        "head": style(6.5, True),
        "note": style(7.6, textColor=colors.HexColor("#5d646b"), spaceAfter=4),
        "lead": style(
            10, backColor=colors.HexColor("#e8f2f9"), borderPadding=7, spaceBefore=6, spaceAfter=14
        ),
    }
    line, tint = colors.HexColor("#dfe3e7"), colors.HexColor("#e8f2f9")
    full = pagesizes.A4[0] - 36 * units.mm

    def paragraph(text: str, look: str, bullet: str | None = None) -> Paragraph:
        return Paragraph(
            _marked(text, '<font face="DejaVuSansMono">{}</font>'), looks[look], bullet
        )

    def grid(
        rows: Sequence[Sequence[str]], first: str, mark: int | None, widths: Sequence[float]
    ) -> Table:
        cells = [
            [paragraph(cell, first if place == 0 else "cell") for cell in row]
            for place, row in enumerate(rows)
        ]
        shades = [("BACKGROUND", (0, mark), (-1, mark), tint)] if mark is not None else []
        return Table(
            cells,
            widths,
            repeatRows=1 if first == "head" else 0,
            style=[
                ("LINEBELOW", (0, 0), (-1, -1), 0.4, line),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                *shades,
                *(
                    (f"{side}PADDING", (0, 0), (-1, -1), 2.5)
                    for side in ("LEFT", "RIGHT", "TOP", "BOTTOM")
                ),
            ],
        )

    def natural(rows: Sequence[Sequence[str]]) -> list[float]:
        """Widths a column: what its longest cell takes, the widest cut down together until the page holds all."""

        def width(cell: str, font: str) -> float:
            return pdfmetrics.stringWidth(cell.strip("`"), f"DejaVuSans{font}", 6.5) + 6

        wanted = [
            max(
                [
                    width(head, "-Bold"),
                    *(width(cell, "Mono" if "`" in cell else "") for cell in cells),
                ]
            )
            for head, *cells in zip(*rows, strict=True)
        ]
        cap = max(wanted)
        while sum(min(width, cap) for width in wanted) > full:
            cap *= 0.97
        return [min(width, cap) for width in wanted]

    story: list[Any] = []
    for kind, *rest in content:
        if kind == "table":
            rows = [rest[1], *rest[2]]
            mark = None if rest[3] is None else rest[3] + 1
            story += [
                CondPageBreak(40 * units.mm),
                paragraph(rest[0], "note"),
                grid(rows, "head", mark, natural(rows)),
                Spacer(1, 8),
            ]
        elif kind == "facts":
            story.append(grid(rest[0], "cell", None, (26 * units.mm, full - 26 * units.mm)))
        elif kind == "list":
            story += [paragraph(item, "item", "•") for item in rest[0]]
        elif kind == "figure":
            across, down = ImageReader(io.BytesIO(pictures[rest[0]])).getSize()
            tall = 110 if down > across else 94  # mm; what is wider than tall must fit under a text
            width = min(full * 0.86, tall * units.mm * across / down)
            story.append(
                KeepTogether(
                    [
                        Image(io.BytesIO(pictures[rest[0]]), width, width * down / across),
                        paragraph(rest[1], "note"),
                        Spacer(1, 6),
                    ]
                )
            )
        else:
            story.append(paragraph(rest[0], kind))
    for place in range(
        len(story) - 2, -1, -1
    ):  # a heading stays with what it heads, of a table with its first rows
        if isinstance(story[place], Paragraph) and story[place].style in (
            looks["heading"],
            looks["subheading"],
        ):
            if isinstance(story[place + 1], CondPageBreak):
                story[place : place + 2] = story[place + 1], story[place]
            else:
                story[place].keepWithNext = True
    file = io.BytesIO()
    SimpleDocTemplate(
        file,
        pagesize=pagesizes.A4,
        leftMargin=18 * units.mm,
        rightMargin=18 * units.mm,
        invariant=1,
        topMargin=16 * units.mm,
        bottomMargin=16 * units.mm,
        title=content[0][1],
        author="edgeq",
    ).build(story)
    return file.getvalue()
