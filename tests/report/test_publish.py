"""What `edgeq publish` puts into figures/ and the README, from a run made of known records."""

import json

import pytest

from edgeq_lib import cli
from edgeq_lib.files import EdgeqError, runs
from edgeq_lib.report import publish
from edgeq_lib.study import SYNTHETIC

ROW = {
    "name": "float32",
    "kind": "variant",
    "technique": "baseline",
    "bytes": 400,
    "value": 90.0,
    "low": 88.0,
    "high": 92.0,
    "drop": None,
    "drop_low": None,
    "drop_high": None,
    "ratio": 1.0,
    "latency_ratio": 1.0,
    "latency_ratio_low": 1.0,
    "latency_ratio_high": 1.0,
}
RESULTS = {
    "study": "demo",
    "command": "edgeq run demo",
    "criteria": [{"name": "max_drop", "bound": 0.3}],
    "validation": {"float32": {}, "int8": {}, "w4": {"drop": 0.2}},
    "baseline": "float32",
    "data": {"name": "Digits", "form": "grey", "n_test": 539},
    "variants": [
        ROW,
        {
            **ROW,
            "name": "int8",
            "technique": "ptq",
            "bytes": 100,
            "drop": 0.1,
            "drop_low": -0.2,
            "drop_high": 0.4,
            "ratio": 3.5,
            "latency_ratio": 0.3,
        },
        {
            **ROW,
            "name": "w4",
            "technique": "low_bit",
            "bytes": 50,
            "drop": 0.5,
            "drop_low": 0.2,
            "drop_high": 0.8,
            "ratio": 7.0,
        },
    ],
    "recommendation": {"variant": "int8"},
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A home with a README and a finished run whose model is larger than may be published."""
    home = tmp_path / "home"
    monkeypatch.setenv("EDGEQ_HOME", str(home))
    monkeypatch.setenv("EDGEQ_ASSETS", "/somewhere/assets")
    (home / "figures").mkdir(parents=True)
    (home / "README.md").write_text("# A\n\n<!-- results -->\nold\n<!-- /results -->\n\nafter\n")
    report = runs() / "demo" / "report"
    (report / "deploy").mkdir(parents=True)
    (report / "results.json").write_text(json.dumps(RESULTS))
    (report / "report.md").write_text("![drop](drop.png)\n")
    (report / "deploy" / "README.md").write_text("# demo\n")
    (report / "deploy" / "model.tflite").write_bytes(bytes(publish.LARGEST + 1))
    (report / "deploy" / "labels.txt").write_text("a")
    for built in ("report.html", "report.pdf"):
        (report / built).write_text("built, not stored")
    return home


def test_publish_leaves_out_what_is_large_and_says_so(place, capsys):
    (place / "figures" / "demo").mkdir()
    (place / "figures" / "demo" / "old.png").write_text("gone after this")
    assert cli.main(["publish", "demo"]) == 0
    folder = place / "figures" / "demo"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == [
        "deploy/README.md",
        "deploy/labels.txt",
        "report.md",
        "results.json",
    ]
    assert "model.tflite (5.0 MB) is not published" in (folder / "deploy" / "README.md").read_text()
    assert "`edgeq run demo` makes it" in (folder / "deploy" / "README.md").read_text()
    assert "model.tflite" in capsys.readouterr().out


def test_the_readme_gets_one_line_per_study(place):
    publish.publish_study("demo")
    text = (place / "README.md").read_text()
    assert (
        "| [demo](figures/demo/report.md) | Digits (grey), 539 | 90.00 [88.00, 92.00] | `int8` |"
        in text
    )
    assert "within noise: drop | `w4` | 0.50 [0.20, 0.80] | 7.00 |" in text, "allowed by validation"
    assert "old" not in text and text.startswith("# A\n") and text.endswith("after\n")
    assert publish.update_readme(place / "README.md", place / "figures") == []
    (place / "README.md").write_text("no markers")
    assert publish.update_readme(place / "README.md", place / "figures") == []
    assert (place / "README.md").read_text() == "no markers"


def test_without_a_report_nothing_is_touched(place):
    with pytest.raises(EdgeqError, match="edgeq run other"):
        publish.publish_study("other")
    assert not (place / "figures" / "other").exists()


def test_what_was_made_on_synthetic_data_is_never_published(place):
    path = runs() / "demo" / "report" / "results.json"
    data = {**RESULTS["data"], "form": f"{SYNTHETIC}, no photos"}
    path.write_text(json.dumps({**RESULTS, "data": data}))
    with pytest.raises(EdgeqError, match="synthetic data, a smoke test only"):
        publish.publish_study("demo")
    assert not (place / "figures" / "demo").exists()
