"""Markdown and HTML: complete in one file, and escaped wherever names stand."""

import copy
import re

import pytest
from report_page import BLOCKS, CRITERIA, HOSTILE, Elements, page_data, row_of

from edgeq_lib.report import render
from edgeq_lib.report.document import blocks


def test_names_are_escaped_in_html(published):
    text = (published[0] / "report.html").read_text()
    assert "a &lt;fast&gt; one" in text and "dog <b>" not in text  # the rest is in test_page.py


def test_a_strange_study_name_is_escaped(results):
    text = render.page(results, blocks({**results, "study": "</title><i>"}, []), {})
    assert "</title><i>" not in text


def test_markdown_tables_keep_their_columns(published):
    text = (published[0] / "report.md").read_text()
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1
    assert "qat\\|1" in text and "![" in text and "](drop.png)" in text


def test_the_page_is_one_file_that_asks_for_nothing(page_results, page_pictures):
    text = render.page(page_results, BLOCKS, page_pictures)
    reader = Elements()
    reader.feed(text)
    assert all(url.startswith(("#", "data:")) for url in reader.urls)
    assert reader.tags.count("script") == 3 and "link" not in reader.tags
    style = text[text.index("<style>") : text.index("</style>")]
    assert "@import" not in style and "url(" not in style
    assert reader.tags.count("img") == 1 and 'width="30" height="20"' in text
    assert len(text.encode()) < 1_000_000


def test_the_same_results_give_the_same_bytes(page_results, page_pictures):
    again = render.page(copy.deepcopy(page_results), list(BLOCKS), dict(page_pictures))
    assert again == render.page(page_results, BLOCKS, page_pictures)


def test_text_is_escaped_wherever_it_stands(page_results, page_pictures):
    text = render.page(page_results, BLOCKS, page_pictures)
    assert text.count("</title>") == 1 and "<i>" not in text and "<fast>" not in text
    assert "<broke>" not in text and "tiny &lt;set&gt;" in text and "</script><b>" not in text
    assert page_data(text)["rows"][-1]["name"] == HOSTILE


def test_the_explorer_stands_for_the_main_table_alone(page_results, page_pictures):
    text = render.page(page_results, BLOCKS, page_pictures)
    assert "left out" not in text and "Another | table" in text
    assert text.count('<a href="#explorer">') == 2  # of the contents, and in place of the table
    assert text.count('<tr class="chosen">') == 1  # of the other table
    assert '<tr data-name="int8" class="chosen">' in text


@pytest.mark.parametrize("change", [
    {"criteria": []},
    {"recommendation": {"variant": None}},
    {"machine": {}},
    {"variants": [row_of("float32", "variant", "baseline", 90.0, None, None)]},
    {"variants": [row_of("x", "variant", "new", 90.0, 10, 1.0) | {"low": None, "high": None}]},
])  # fmt: skip
def test_what_is_missing_does_not_break_the_page(page_results, change):
    text = render.page({**page_results, **change}, BLOCKS[:2], {})
    assert "None" not in text.split("<script")[0]
    assert ('id="meets"' in text) == bool(change.get("criteria", CRITERIA))


def test_code_and_bold_are_marked_and_all_else_is_escaped():
    text = render.marked("`a<b` is **bold** & 1 < 2")
    assert text == "<code>a&lt;b</code> is <b>bold</b> &amp; 1 &lt; 2"
    assert render.marked("`x`", "<i>{}</i>") == "<i>x</i>"
