"""The shelf: what is stored, what counts, and what is noted."""

import numpy as np
import pytest

from edgeq_lib.files import EdgeqError, read_json, write_bytes
from edgeq_lib.study import Study, shelf_state

FACTS = {"technique": "ptq", "scheme": "int8", "engine": "e", "seconds": 1.0}


def test_shelving_the_same_file_again_keeps_its_measurements(study):
    study.save_variant("int8", b"same", **FACTS).write("cost", {"bytes": 4})
    assert study.save_variant("int8", b"same", **FACTS).read("cost") == {"bytes": 4}
    assert study.save_variant("int8", b"other", **FACTS).read("cost") is None


def test_a_file_changed_on_the_shelf_is_refused(study):
    variant = study.save_variant("int8", b"model", **FACTS)
    for content in (b"", b"mod", b"xxxxx"):
        variant.path.write_bytes(content)
        with pytest.raises(EdgeqError, match="not the one that was shelved"):
            variant.model()


def test_a_stage_takes_away_what_it_makes_no_more(study):
    study.save_variant("int8", b"1", **FACTS)
    study.save_variant("w4", b"2", **FACTS)
    study.finish({})
    again = Study("sample", "03_ptq")
    again.save_variant("int8", b"1", **FACTS)
    again.finish({})
    assert [variant.name for variant in Study("sample").variants()] == ["int8"]


def test_variants_of_a_broken_off_stage_do_not_count(study):
    study.save_variant("int8", b"1", **FACTS)
    assert [variant.name for variant in study.variants()] == ["int8"]
    assert Study("sample", "90_analysis").variants() == []
    study.finish({})
    assert len(Study("sample", "90_analysis").variants()) == 1


def test_reads_are_noted_and_own_writes_are_not(study):
    study.save_variant("float32", b"0", **FACTS)
    study.finish({})
    later = Study("sample", "80_edge_benchmark")
    assert later.variant("float32").read("cost") is None, (
        "looked for before it is written: no dependency either"
    )
    later.variant("float32").model()
    later.variant("float32").write("cost", {"bytes": 1})
    later.variant("float32").read("cost")
    later.finish({})
    record = read_json(later.folder / "stages" / "80_edge_benchmark.json")
    assert list(record["reads"]) == ["variants/float32/model.tflite"]
    assert list(record["written"]) == ["variants/float32/cost.json"]


def test_missing_things_name_the_cure(study):
    with pytest.raises(EdgeqError, match="edgeq run sample"):
        study.read("data")
    with pytest.raises(EdgeqError, match="no variant 'int8'"):
        study.variant("int8")
    write_bytes(study.folder / "records" / "data.json", b"{broken")
    with pytest.raises(EdgeqError, match="not valid JSON"):
        study.read("data")


def test_arrays_come_back_as_they_went(study):
    variant = study.save_variant("int8", b"1", **FACTS)
    assert variant.arrays() == {}
    variant.write_arrays(test=np.arange(6, dtype=np.int8).reshape(2, 3))
    assert variant.arrays()["test"].dtype == np.int8 and variant.arrays()["test"].tolist() == [
        [0, 1, 2],
        [3, 4, 5],
    ]


def test_repeats_stand_apart_and_still_make_the_reader_stale(study):
    study.save_variant("int8", b"1", **FACTS)
    study.save_variant("int8_seed1", b"2", **FACTS, kind="repeat", repeats="int8")
    study.save_variant("google", b"3", **FACTS, kind="peer")
    assert [variant.name for variant in study.variants()] == ["int8", "google"]
    assert [variant.name for variant in study.repeats()] == ["int8_seed1"]
    everything = [shelf_state(study.on_shelf(), made) for made in ([], ["int8_seed1"])]
    assert everything[0] != everything[1]


def test_a_figure_is_kept_with_its_caption(study):
    from matplotlib.figure import Figure

    assert isinstance(study.figure("ablation", Figure(), "What each step wins."), Figure)
    assert read_json(study.folder / "extra_figures" / "ablation.json") == {
        "caption": "What each step wins.",
        "stage": "03_ptq",
    }
    assert (study.folder / "extra_figures" / "ablation.png").read_bytes().startswith(b"\x89PNG")


def test_a_stage_is_stale_when_the_users_file_changes(tmp_path):
    from edgeq_lib.pipeline.runner import is_current

    model, saved = tmp_path / "net.keras", tmp_path / "saved"
    (saved / "variables").mkdir(parents=True)
    model.write_bytes(b"one")
    (saved / "variables" / "v").write_bytes(b"one")
    study = Study("own", "02_baseline")
    study.note_sources(str(model), str(saved), "none", None)
    study.finish({})
    assert is_current(study, "02_baseline", None)
    for path in (model, saved / "variables" / "v"):
        path.write_bytes(b"two")
        assert not is_current(study, "02_baseline", None)
        path.write_bytes(b"one")
        assert is_current(study, "02_baseline", None)
    model.unlink()
    assert not is_current(study, "02_baseline", None)
