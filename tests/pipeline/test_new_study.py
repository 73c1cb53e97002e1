"""A study file from a model and a folder: valid, commented, gone on with, and within its time."""

import json
import zipfile
from pathlib import Path

import pytest
import yaml

from edgeq_lib import cli
from edgeq_lib.files import EdgeqError, runs, write_json
from edgeq_lib.models.input_shape import input_shape
from edgeq_lib.pipeline import config, edit_study, new_study

WISH = new_study.Wish("resnet8", "digits", None, 16, 1, 40, 0.5, "smallest", "any")


def keras_file(path, **layer):
    config_json = {"class_name": "Functional", "config": {"layers": [{"config": layer}]}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config_json))
    return path


@pytest.mark.parametrize("left_out", [{}, {"qat": "would take about 9 min, past the limit"}])
def test_the_text_is_a_valid_study_that_holds_the_wish(tmp_path, left_out):
    path = tmp_path / "mine.yaml"
    edit_study.write_study(path, new_study.study_text(WISH, "edgeq new resnet8", left_out))
    stages = config.load(str(path)).stages
    assert stages["02_baseline"]["model"] == "resnet8"
    assert stages["01_data"]["image_size"] == 16 and stages["01_data"]["channels"] == 1
    assert stages["90_analysis"]["max_drop"] == 0.5
    assert stages["90_analysis"]["objective"] == "smallest"
    assert ("04_qat" in stages) == (not left_out)
    assert ("qat" in stages["90_analysis"]["question"]) == bool(left_out)
    assert path.read_text().startswith("# Written by `edgeq new resnet8`\n")


@pytest.mark.parametrize(("model", "epochs"), [("mobilenet", 5), ("/a/net.tflite", 0)])
def test_a_name_of_the_zoo_is_trained_and_a_file_is_taken_as_it_is(model, epochs):
    wish = new_study.Wish(model, "digits", None, 16, 1, 40, 0.5, "smallest", "any")
    baseline = yaml.safe_load(new_study.study_text(wish, "edgeq new"))["baseline"]
    assert baseline["epochs"] == epochs
    assert baseline.get("weights") == ("imagenet" if epochs else None)


def test_further_parameters_stand_in_their_sections(tmp_path):
    wish = new_study.Wish(
        "m", "d", None, 8, 3, 9, 1.0, "fastest", "any", {"qat.epochs": 7, "seed": 3}
    )
    content = yaml.safe_load(new_study.study_text(wish, "edgeq new m"))
    assert content["qat"]["epochs"] == 7 and content["common"]["seed"] == 3
    wrong = new_study.Wish("m", "digits", None, 8, 3, 9, 1.0, "fastest", "any", {"qat.epohcs": 7})
    with pytest.raises(EdgeqError, match=r"mine\.yaml: there is no parameter qat\.epohcs"):
        edit_study.write_study(tmp_path / "mine.yaml", new_study.study_text(wrong, "edgeq new m"))
    assert not list(tmp_path.iterdir())


def test_what_a_user_edited_stays_and_what_comes_from_elsewhere_is_refused(tmp_path):
    path, text = tmp_path / "mine.yaml", new_study.study_text(WISH, "edgeq new a")
    assert not new_study.is_written(path, "edgeq new a", text)
    path.write_text(text)
    assert not new_study.is_written(path, "edgeq new a", text)
    path.write_text(text + "# mine\n")
    assert new_study.is_written(path, "edgeq new a", text)
    with pytest.raises(EdgeqError, match="comes from another command"):
        new_study.is_written(path, "edgeq new b", text)


@pytest.mark.parametrize(
    ("text", "wanted"), [("90s", 90), ("20m", 1200), ("20", 1200), ("1.5h", 5400)]
)
def test_durations(text, wanted):
    assert new_study.seconds(text) == wanted


@pytest.mark.parametrize("text", ["soon", "-3m", "0m", "3d"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(EdgeqError, match="write 90s, 20m or 1h"):
        new_study.seconds(text)


def test_more_time_never_tries_less():
    for stage, spent in {"01_data": 5, "02_baseline": 10, "03_ptq": 20, "30_low_bit": 999}.items():
        write_json(runs() / "mine" / "stages" / f"{stage}.json", {"seconds": spent})
    tried = [
        set(new_study.OPTIONAL) - set(new_study.what_fits("mine", minutes * 60))
        for minutes in (1, 3, 5, 8, 12, 20, 60)
    ]
    assert not tried[0] and tried[-1] == set(new_study.OPTIONAL)
    assert sorted(map(len, tried)) == [len(each) for each in tried]
    for sections in tried:
        assert "ptq_recovery" not in sections or "diagnosis" in sections


@pytest.mark.parametrize(
    ("layer", "wanted"),
    [
        ({"batch_shape": [None, 96, 128, 3]}, (96, 128, 3)),
        ({"batch_input_shape": [None, 28, 28]}, (28, 28)),
        ({"batch_shape": [None, None, None, 1]}, (None, None, 1)),
        ({"units": 4}, None),
    ],
)
def test_the_model_file_says_what_image_it_wants(tmp_path, layer, wanted):
    assert input_shape(keras_file(tmp_path / "net.keras", **layer)) == wanted


def test_a_model_that_cannot_be_read_is_one_sentence(tmp_path):
    with pytest.raises(EdgeqError, match="There is no model"):
        input_shape(tmp_path / "none.keras")
    for name in ("net.keras", "net.h5", "net.tflite", "net.pt2"):
        (tmp_path / name).write_bytes(b"not a model")
        with pytest.raises(EdgeqError):
            input_shape(tmp_path / name)
    for name, cure in (("net.onnx", "exported from"), ("net.pth", "torch.export"), ("net", "give")):
        (tmp_path / name).write_bytes(b"a model of another kind")
        with pytest.raises(EdgeqError, match=f"{name} is no model file that edgeq reads.*{cure}"):
            input_shape(tmp_path / name)


@pytest.mark.parametrize(("sizes", "wanted"), [((1, 3, 20, 24), (20, 24, 3)), ((1, 7), None)])
def test_a_pytorch_program_says_what_image_it_wants(tmp_path, sizes, wanted):
    graph = {"tensor_values": {"x": {"sizes": [{"as_int": size} for size in sizes]}}}
    given = {"user_input": {"arg": {"as_tensor": {"name": "x"}}}}
    module = {"graph": graph, "signature": {"input_specs": [{"parameter": {}}, given]}}
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        archive.writestr("net/models/model.json", json.dumps({"graph_module": module}))
    assert input_shape(tmp_path / "net.pt2") == wanted


def test_the_command_writes_a_study_or_says_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "study_path", lambda name: tmp_path / f"{Path(name).stem}.yaml")
    (tmp_path / "photos" / "a").mkdir(parents=True)
    keras_file(tmp_path / "my net.keras", batch_shape=[None, 20, 20, 1])
    assert cli.main(["new", "my net.keras", "--data", "photos"]) == 0
    content = yaml.safe_load((tmp_path / "my_net.yaml").read_text())
    assert content["baseline"]["preprocessing"] is None  # the baseline finds it, or asks
    (tmp_path / "my_net.yaml").unlink()
    more = ["--preprocessing", "unit"]
    assert cli.main(["new", "my net.keras", "--data", "photos", "--max-drop", "2", *more]) == 0
    content = yaml.safe_load((tmp_path / "my_net.yaml").read_text())
    assert content["data"]["image_size"] == 20 and content["data"]["channels"] == 1
    assert content["baseline"]["preprocessing"] == "unit"
    assert content["analysis"]["max_drop"] == 2.0
    assert "edgeq run my_net" in capsys.readouterr().out
    assert cli.main(["new", "my net.keras", "--data", "nowhere/photos", *more]) == 1
    assert "no folder nowhere/photos" in capsys.readouterr().err
    keras_file(tmp_path / "open.keras", batch_shape=[None, None, None, 3])
    assert cli.main(["new", "open.keras", "--data", "photos", *more]) == 1
    assert "-p data.image_size=224" in capsys.readouterr().err
