"""The charts of the page."""

from edgeq_lib.report import interactive


def test_the_front_is_of_our_files_and_drawn_as_steps(page_results):
    rows = [row for row in page_results["variants"] if row["bytes"] is not None]
    names = [row["name"] for row in interactive.front(rows, "bytes")]
    assert names == ["collapsed", "w4", "int8", "float32"]
    assert [row["name"] for row in interactive.front(rows, "latency_ratio")] == ["int8", "float32"]
    drawn = interactive.charts(page_results)["bytes"]["data"]
    data = {entry["name"]: entry["values"] for entry in drawn if "values" in entry}
    corners = [(corner["x"], corner["y"]) for corner in data["front"]]
    assert corners[:4] == [(600, 85.0), (1000, 85.0), (1000, 89.5), (4000, 89.5)]
    points = {point["name"]: point for point in data["rows"]}
    assert points["collapsed"]["y"] is None and not points["int8_slow"]["filled"]
    labels = {name for name, point in points.items() if point["label"]}
    assert labels == {"float32", "int8", "w4"}


def test_there_is_no_chart_of_what_was_not_measured(page_results):
    unmeasured = [row | {"latency_ratio": None} for row in page_results["variants"]]
    assert list(interactive.charts(page_results)) == ["bytes", "latency_ratio"]
    assert list(interactive.charts({**page_results, "variants": unmeasured})) == ["bytes"]


def test_the_axis_of_latency_names_the_machine(page_results):
    drawn = interactive.charts(page_results)
    assert drawn["latency_ratio"]["axes"][0]["title"][1].startswith("a <fast> one (")
    assert "fast" not in drawn["bytes"]["axes"][0]["title"]


def test_a_file_that_is_no_better_than_a_smaller_one_is_not_on_the_front(page_results):
    rows = [row for row in page_results["variants"] if row["name"] in ("int8", "int8_slow")]
    assert [row["name"] for row in interactive.front(rows, "bytes")] == ["int8"]
