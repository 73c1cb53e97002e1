"""The report as PDF."""

from report_page import BLOCKS

from edgeq_lib.report import render
from edgeq_lib.report.pdf import pdf


def test_markdown_and_pdf_take_the_same_blocks(page_pictures):
    text = render.markdown(BLOCKS)
    assert "| a\\|b | 1 < 2 |" in text and '![A "drop" of `int8`](drop.png)' in text
    assert "**Ship `int8`**" in text and text.endswith("\n")
    assert pdf(BLOCKS, page_pictures).startswith(b"%PDF") and pdf(BLOCKS, page_pictures) == pdf(
        BLOCKS, page_pictures
    )


def test_a_picture_makes_the_pdf_larger_and_long_names_do_not_break_it(page_pictures):
    without = pdf([block for block in BLOCKS if block[0] != "figure"], {})
    assert len(pdf(BLOCKS, page_pictures)) > len(without)
    table = ("table", "Wide", ["x" * 200] * 4, [["`" + "y_" * 300 + "`"] * 4] * 80, None)
    assert pdf([*BLOCKS[:2], table], {}).startswith(b"%PDF")
