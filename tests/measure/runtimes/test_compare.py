"""Engines beside each other, with LiteRT in the place of another engine, so that no extra is
needed: what is chosen, what is left out, what is recorded.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from small_study import int8_of, make_study

from edgeq_lib.data import dataset
from edgeq_lib.files import CannotTake
from edgeq_lib.measure.runtimes import compare
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.tflite.runtime import make_interpreter, run_images


class Lite:
    """LiteRT as an engine's network."""

    def __init__(self, files):
        self.interpreter = make_interpreter(files["model"])
        self.sign = -1 if "useless" in files else 1

    def answer(self, image):
        return self.sign * run_images(self.interpreter, image).astype(np.float32)

    def set_image(self, image):
        self.image = image

    def invoke(self):
        self.answer(self.image)


def refuse(model):
    raise CannotTake("Other does not know ODD.")


@pytest.fixture
def other(monkeypatch, small_net, pictures):
    """An engine whose second way to set ranges is good, and whose first one is useless."""
    int8 = int8_of(small_net[1], pictures)
    made = {"bad": {"model": int8, "useless": b""}, "good": {"model": int8}}
    engine = SimpleNamespace(
        NAME="Other",
        RANGES=("bad", "good"),
        reason_missing=lambda: "",
        float_files=lambda model: {"model": model},
        quantize=lambda files, images, ranges: made[ranges],
        load=Lite,
    )
    absent = SimpleNamespace(NAME="Absent", reason_missing=lambda: "Absent is not installed.")
    monkeypatch.setattr(compare, "ENGINES", {"Other": engine, "Absent": absent})
    return engine


def test_who_is_not_installed_is_named(other):
    engines, missing = compare.installed()
    assert list(engines) == ["Other"] and missing == {"Absent": "Absent is not installed."}
    told = compare.why_none({**missing, "Other": "Other does not know ODD."})
    assert told.startswith("Absent is not installed. Other does not know ODD. They come with `pip")


def test_who_cannot_take_the_network_is_named(other, small_net):
    other.float_files = refuse
    assert compare.make_float({"Other": other}, small_net[1]) == (
        [],
        {"Other": "Other does not know ODD."},
    )


def test_the_ranges_are_those_that_agree_most(other, small_net, pictures):
    [network], refused = compare.make_float({"Other": other}, small_net[1])
    images = pictures[0][:100]
    base = network.predict(small_net[1], images, SIGNED)
    chosen, agrees = compare.make_int8(network, SIGNED(images), small_net[1], images, SIGNED, base)
    assert not refused and chosen.ranges == "good" and chosen.name == "Other int8"
    assert agrees["good"] > 95 and agrees["bad"] < agrees["good"]
    assert chosen.size < network.size == len(small_net[1])


@pytest.fixture
def study(tmp_path, small_net, pictures):
    return make_study(tmp_path, pictures, small_net[1], int8_of(small_net[1], pictures))


def test_rows_and_turns(other, study, small_net):
    data, variant = dataset.load(study), study.variant("float32")
    [network], _ = compare.make_float({"Other": other}, small_net[1])
    splits = {"validation": data.validation, "test": data.test}
    outputs = {
        name: network.predict(small_net[1], split.images, SIGNED) for name, split in splits.items()
    }
    row = compare.row(network, outputs, data, variant.arrays())
    beside = compare.litert_row(variant)
    assert set(row) == set(beside) and beside["name"] == "LiteRT float32"
    assert row["largest_difference"] < 1e-5 and row["validation"]["agreement"] == 100
    assert row["test"]["top1"] == beside["test"]["top1"] and row["test"]["n"] == 40
    worse = compare.row(
        network, {name: -scores for name, scores in outputs.items()}, data, variant.arrays()
    )
    assert worse["largest_difference"] > 1 and worse["validation"]["drop"] > 20

    variants = [variant, study.variant("int8")]
    image = SIGNED(data.validation.images[:1])
    turns = compare.measure_turns([network], variants, image, 0.5)
    assert list(turns) == ["LiteRT float32", "LiteRT int8", "Other float32"]
    assert turns["LiteRT float32"]["ratio"] == 1
    assert all(0 < each["p50"] and 0 < each["ratio"] for each in turns.values())


def test_where_names_the_instruction_set():
    assert {"cpu", "isa"} <= set(compare.where()["machine"])
    assert "numpy" in compare.where()["versions"]
