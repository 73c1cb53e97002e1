"""Parameter types that stand for files which may be there or not."""

import pydantic
import pytest

from edgeq_lib.files import EdgeqError
from edgeq_lib.pipeline.config import FirstOf, IfThere, load


@pytest.fixture
def files(tmp_path, monkeypatch):
    (tmp_path / "there.h5").touch()
    monkeypatch.setenv("SOME_ASSETS", str(tmp_path))
    monkeypatch.delenv("NO_ASSETS", raising=False)
    return str((tmp_path / "there.h5").resolve())


def resolve(kind, value, folder=None):
    return pydantic.TypeAdapter(kind).validate_python(
        value, strict=True, context={"folder": folder}
    )


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("imagenet", "imagenet"),
        ("$SOME_ASSETS/there.h5", "FILE"),
        (["imagenet"], "imagenet"),
        (["$SOME_ASSETS/there.h5", "imagenet"], "FILE"),
        (["$SOME_ASSETS/gone.h5", "imagenet"], "imagenet"),
        (["$NO_ASSETS/there.h5", "imagenet"], "imagenet"),
        (["$NO_ASSETS/a.h5", "gone.h5", "$SOME_ASSETS/there.h5"], "FILE"),
        (["none", "$NO_ASSETS/a.h5"], "none"),
    ],
)
def test_the_first_that_is_there_is_taken(files, value, taken):
    assert resolve(FirstOf, value) == (files if taken == "FILE" else taken)


def test_the_last_must_be_there(files):
    for value, says in (
        (["gone.h5", "$SOME_ASSETS/gone.h5"], r"\$SOME_ASSETS/gone.h5, which does not exist"),
        (["gone.h5", "$NO_ASSETS/a.h5"], "environment variable is not set"),
        ([], "from which the first"),
        ([3, "imagenet"], "from which the first"),
        (3, "valid string"),
    ):
        with pytest.raises(pydantic.ValidationError, match=says):
            resolve(FirstOf, value)


def test_a_file_that_may_be_missing(files, tmp_path):
    assert (
        resolve(IfThere, "$SOME_ASSETS/there.h5")
        == files
        == resolve(IfThere, "./there.h5", tmp_path)
    )
    for value in (None, "$SOME_ASSETS/gone.h5", "$NO_ASSETS/there.h5"):
        assert resolve(IfThere, value) is None
    for value in ("imagenet", "$SOME_ASSETS/"):
        with pytest.raises(pydantic.ValidationError, match="which is no file"):
            resolve(IfThere, value)


def test_a_preprocessing_that_does_not_fit_the_channels_is_said_before_anything_runs(tmp_path):
    path = tmp_path / "s.yaml"
    for channels, given, says in (
        (1, "torch", "for grey images state one number each"),
        (3, "{mean: [1, 2], std: [1]}", "one per channel"),
        (3, "{mean: [1], std: [0]}", "must be above 0"),
    ):
        path.write_text(f"data: {{channels: {channels}}}\nbaseline: {{preprocessing: {given}}}\n")
        with pytest.raises(EdgeqError, match=f"s.yaml: baseline.preprocessing: .*{says}"):
            load(str(path))


def test_an_accuracy_is_a_percentage_and_classes_may_be_numbers(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("data: {classes: [1, b]}\nbaseline: {expected_top1: 0.93}\n")
    with pytest.raises(EdgeqError, match="baseline.expected_top1"):
        load(str(path))
    path.write_text("data: {classes: [1, b]}\nbaseline: {expected_top1: 93}\n")
    assert load(str(path)).stages["01_data"]["classes"] == [1, "b"]


def test_a_study_asks_for_what_it_states_and_inherits_nothing_of_the_quickstart(tmp_path):
    path = tmp_path / "s.yaml"
    names = ("max_drop", "min_agreement", "min_ratio", "max_latency_ratio", "target")
    for written, asked in (
        ("common: {seed: 1}", (1.0, None, None, None, "any")),
        ("analysis: {min_agreement: 97.0}", (1.0, 97.0, None, None, "any")),
        ("common: {target: edge_tpu}\nanalysis: {max_drop: null}", (None,) * 4 + ("edge_tpu",)),
    ):
        path.write_text(written)
        stages = load(str(path)).stages
        assert tuple(stages["90_analysis"][name] for name in names) == asked
        assert stages["70_peers"]["files"] == []
    of_the_house = load("every_technique").stages  # its own file states them
    assert of_the_house["90_analysis"]["min_ratio"] and of_the_house["70_peers"]["files"]
