"""The shelf of a study with known records, and the results of a page with hostile names."""

import copy
import io

import numpy as np
import pytest
from PIL import Image
from report_page import CRITERIA as PAGE_CRITERIA
from report_page import ROWS, row_of
from report_shelf import CLASSES, CRITERIA, LABELS, N, cost, outputs

from edgeq_lib.measure.statistics import quality_record
from edgeq_lib.plots.variants import plot_drops
from edgeq_lib.report.export import write_report
from edgeq_lib.report.results import collect
from edgeq_lib.study import Study


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A shelf with a float file and three others, of which w4 loses most."""
    monkeypatch.setenv("EDGEQ_RUNS", str(tmp_path))
    study, labels = Study("tiny", "03_ptq"), LABELS
    split = {"n": N, "fingerprint": "x", "per_class": np.bincount(labels).tolist()}
    study.write(
        "data",
        {
            "name": "tiny",
            "form": "made here",
            "classes": CLASSES,
            "fingerprint": "f" * 64,
            "image_size": [8, 8],
            "splits": {name: split for name in ("train", "validation", "test")},
        },
    )
    study.write(
        "baseline",
        {
            "model": "resnet8",
            "weights": "/a/path/w.h5",
            "alpha": 1.0,
            "parameters": 1234,
            "history": [
                {"epoch": 1, "val_accuracy": 0.5, "val_loss": 0.7, "seconds": 60.0},
                {"epoch": 2, "val_accuracy": 0.4, "val_loss": 0.6, "seconds": 60.0},
            ],
            "preprocessing": {"mean": [127.5], "std": [127.5], "bgr": False},
            "checkpoint_bytes": 12000,
        },
    )
    base = outputs(labels, 4)
    for name, technique, size, latency, validation, test in (
        ("float32", "baseline", 4000, 1.0, 4, 4),
        ("int8", "ptq", 1000, 0.5, 4, 5),
        ("w4", "ptq", 600, 0.6, 40, 44),
        ("qat|1", "qat", 1010, 0.5, 4, 4),
    ):
        variant = study.save_variant(
            name, name.encode(), technique=technique, scheme="int8", engine="x", seconds=1
        )
        against = None if name == "float32" else base
        variant.write(
            "quality",
            {
                part: quality_record(outputs(labels, lost), labels, CLASSES, against)
                for part, lost in (("validation", validation), ("test", test))
            },
        )
        variant.write("cost", cost(size, latency, name != "float32"))
        variant.write_arrays(validation=outputs(labels, validation), test=outputs(labels, test))
    return study


@pytest.fixture
def results(study):
    """What is collected from that shelf, with two criteria."""
    return collect(study, "make run STUDY=tiny", CRITERIA, {"target": "cortex_m_1m"}, labels=LABELS)


@pytest.fixture
def published(results, tmp_path):
    """The folder of a written report, and the names of its files."""
    figures = {"drop": plot_drops(results["variants"])}
    names = write_report(results, figures, tmp_path / "figures" / "tiny")
    return tmp_path / "figures" / "tiny", names


@pytest.fixture
def rich(study):
    """The shelf with a peer, two repeats, a figure of a technique and finished stages."""
    labels = LABELS
    base = outputs(labels, 4)
    for name, kind, facts in (
        (
            "google",
            "peer",
            {
                "technique": "peer",
                "source": "a zoo",
                "licence": "Apache-2.0",
                "image_size": 224,
                "class_offset": 1,
                "preprocessing": "raw",
            },
        ),
        ("int8_seed1", "repeat", {"technique": "ptq", "repeats": "int8", "seed": 1}),
        ("int8_seed2", "repeat", {"technique": "ptq", "repeats": "int8", "seed": 2}),
    ):
        lost = {"google": 2, "int8_seed1": 4, "int8_seed2": 7}[name]
        variant = study.save_variant(
            name, name.encode(), kind=kind, scheme="int8", engine="x", seconds=600, **facts
        )
        variant.write(
            "quality",
            {
                part: quality_record(outputs(labels, lost), labels, CLASSES, base)
                for part in ("validation", "test")
            },
        )
        variant.write("cost", cost(500, 0.2, True))
    study.figure("ablation", plot_drops([]), "From naive int8 to QAT.")
    study.finish({})
    unfinished = Study("tiny", "11_ptq_recovery")
    unfinished.figure("half", plot_drops([]), "A stage that broke off.")
    return Study("tiny", "90_analysis")


@pytest.fixture
def page_results():
    """Results with a file that collapsed, one that was not measured, and a hostile name."""
    return {
        "study": "tiny",
        "data": {"name": "tiny <set>", "form": "made here", "n_test": 200},
        "machine": {"cpu": "a <fast> one", "cores": 2},
        "baseline": "float32",
        "criteria": copy.deepcopy(PAGE_CRITERIA),
        "recommendation": {"variant": "int8"},
        "variants": [row_of(*facts) for facts in ROWS],
    }


@pytest.fixture
def page_pictures():
    """The one picture that the blocks of the page show."""
    file = io.BytesIO()
    Image.new("RGBA", (30, 20), "white").save(file, "PNG")
    return {"drop": file.getvalue()}
