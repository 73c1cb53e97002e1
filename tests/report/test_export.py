"""The files of a published report."""

import copy
import csv
import io
import json

from report_shelf import CRITERIA, LABELS

from edgeq_lib.plots.variants import plot_drops
from edgeq_lib.report.export import extra_figures, results_table, write_report
from edgeq_lib.report.results import collect


def test_publish_writes_all(published, results):
    folder, names = published
    assert set(names) == {file.name for file in folder.iterdir()}
    assert set(names) == {
        "results.json",
        "results.csv",
        "report.md",
        "report.html",
        "report.pdf",
        "drop.png",
    }
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(results))
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")


def test_publishing_twice_gives_the_same_bytes(published, results, tmp_path):
    folder, names = published
    figures = {"drop": plot_drops(results["variants"])}
    write_report(copy.deepcopy(results), figures, tmp_path / "again")
    assert all(
        (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names
    )


def test_csv_reads_back(published, results):
    folder, _ = published
    rows = list(csv.DictReader(io.StringIO((folder / "results.csv").read_text())))
    for read, row in zip(rows, results["variants"], strict=True):
        for field, value in row.items():
            if value is None:
                assert read[field] == ""
            elif isinstance(value, str):
                assert read[field] == value
            else:
                assert json.loads(read[field]) == json.loads(json.dumps(value))


def test_figures_of_finished_stages_are_in_the_report(rich, tmp_path):
    found = collect(rich, "x", CRITERIA, labels=LABELS)
    extra = extra_figures(rich)
    assert [figure["name"] for figure in extra] == ["ablation"]
    write_report(found, {}, tmp_path / "out", extra)
    text = (tmp_path / "out" / "report.md").read_text()
    assert (
        "![From naive int8 to QAT.](ablation.png)" in text
        and (tmp_path / "out" / "ablation.png").exists()
    )
    write_report(found, {}, tmp_path / "out")
    assert not (tmp_path / "out" / "ablation.png").exists()


def test_the_table_of_published_studies(results, tmp_path):
    for name, choice in (("b", "int8"), ("a", None)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(
            json.dumps(
                {
                    **results,
                    "study": name,
                    "recommendation": {**results["recommendation"], "variant": choice},
                }
            )
        )
    lines = results_table(tmp_path).splitlines()
    assert (
        lines[2].startswith("| [a](figures/a/report.md) | tiny (made here), 200 |")
        and "nothing yet" in lines[2]
    )
    assert "`int8` | 0.50 [" in lines[3] and "| 4.00 | 0.50 [0.45, 0.55] | a <f" in lines[3]
    old = json.loads((tmp_path / "b" / "results.json").read_text())
    for row in old["variants"]:  # percentiles stand without brackets where no caption names them
        del row["latency_interval"]
    (tmp_path / "b" / "results.json").write_text(json.dumps(old))
    assert "| 4.00 | 0.50 | a <fast> one (avx2) |" in results_table(tmp_path)
