"""The rows of the table that sorts and filters, and their hover."""

from report_page import HOSTILE

from edgeq_lib.report import explorer


def test_nulls_say_why_in_table_and_hover(page_results):
    row = explorer.explorer(page_results)["rows"][5]
    size = next(cell for cell in row["cells"] if cell["key"] == "bytes")
    assert (size["text"], size["why"], row["sort"]["bytes"]) == ("–", "it <broke>", None)
    assert ("File", "– (it <broke>)") in row["hover"]


def test_the_hover_holds_what_an_expert_asks_for(page_results):
    hover = dict(explorer.explorer(page_results)["rows"][1]["hover"])
    assert hover["Paired drop"] == "0.50 [−0.50, 1.50] points"
    assert hover["File"] == "1,000 bytes, 4.00 × smaller"
    assert hover["Latency"] == "0.50 [0.50, 0.50] × float32"
    assert (
        hover["Machine"] == "a <fast> one (instruction sets not recorded), 2 cores"
        and hover["Bits w / a"] == "8 / –"
    )


def test_criteria_are_judged_for_our_files_alone(page_results):
    rows = {row["name"]: row for row in explorer.explorer(page_results)["rows"]}
    assert [name for name, row in rows.items() if row["meets"]] == ["float32", "int8"]
    assert rows[HOSTILE]["cells"][-1]["text"] == "–" and rows[HOSTILE]["sort"]["standing"] is None
