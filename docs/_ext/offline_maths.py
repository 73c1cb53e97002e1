"""Sphinx extension: formulas become MathML when the site is built, so that pages need no script and
no network.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

# What the converter does not know, or sets in italics.
REWRITES = (
    (re.compile(r"\\arg(?![a-z])\s*"), r"\\mathrm{arg}\\,"),
    (re.compile(r"\\operatorname\*?(?=\{)"), r"\\mathrm"),
)


def mathml(latex: str, display: str) -> str:
    """Convert a LaTeX formula.

    Args:
        latex: The formula without its dollar signs.
        display: `inline` or `block`.

    Returns:
        A `<math>` element that carries its LaTeX as `alttext`.
    """
    known = latex
    for pattern, replacement in REWRITES:
        known = pattern.sub(replacement, known)
    formula = convert(known, display=display)
    alternative = latex.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return formula.replace("<math ", f'<math alttext="{alternative}" ', 1)


def visit_inline(translator: Any, node: nodes.math) -> None:
    """Write an inline formula."""
    translator.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.math_block) -> None:
    """Write a displayed formula in a box that scrolls on narrow screens."""
    translator.body.append(f'<div class="formula">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer as `mathml`."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
