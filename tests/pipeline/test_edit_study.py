"""One more entry in a study's YAML: comments stay, and nothing unsafe is written."""

import pytest
import yaml
from tiny_files import tiny_files

from edgeq_lib import cli
from edgeq_lib.files import EdgeqError, home, write_json
from edgeq_lib.pipeline import config, edit_study
from edgeq_lib.study import Study

NEW = {"file": "$EDGEQ_ASSETS/b.tflite", "name": "b", "preprocessing": "raw", "class_offset": 1}
OLD = "{file: a.tflite, name: a, preprocessing: unit}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing yet\n",
        "common: {seed: 1}\n",
        "common:\n  seed: 1  # why\n\n# the end",
        "common: {seed: 1}\npeers:\n",
        "peers:   # none\ncommon:\n  seed: 1\n",
        f"peers: {{files: [{OLD}]}}\n",
        "peers: {}\n",
        "peers: {files: []}  # none\n",
        "peers:\n  files: []\nqat: false\n",
        f"peers:\n  files: [{OLD},]\n",
        f"peers:\n  files: [\n    {OLD}, \n  ]\nqat: false\n",
        "peers:\n  files:\n# later\nqat: false\n",
        "peers:\n  files:\n  - file: a.tflite  # theirs\n    preprocessing: unit  # so they "
        "say\n\n# next\nqat: false\n",
        f"peers:\n    files:\n        - {OLD}  # theirs\nqat: false",
        "peers:\n  files:\n    - file: a.tflite\n      source: |\n"
        "        two\n        lines\n\nqat: false\n",
        "peers:\n  files:\n    - file: a.tflite\n      source:\nqat: false\n",
        "peers:\n  files:\n    - file: a.tflite\n      image_size: [8, 8]\n      source: 'it''s' "
        " # c\n",
        "common: {seed: 1}\r\npeers:\r\n  files:\r\n    - file: a.tflite\r\n# end\r\n",
    ],
)
def test_the_entry_is_added_and_all_else_stays(text):
    result = edit_study.with_peer(text, NEW, "s.yaml")
    was, now = yaml.safe_load(text) or {}, yaml.safe_load(result)
    before = (was.pop("peers", None) or {}).get("files") or []
    assert now.pop("peers")["files"] == [NEW, *before] and now == was
    for line in filter(None, map(str.strip, text.splitlines())):
        if not set("[]{}") & set(line):  # a collection on one line may be written in another way
            assert " ".join(line.split()) in " ".join(result.split())
    kept = [line for line in result.splitlines() if "#" in line and edit_study.HEADER not in line]
    assert [line.split("#", 1)[1] for line in kept] == [
        line.split("#", 1)[1] for line in text.splitlines() if "#" in line
    ]
    twice = edit_study.with_peer(result, {**NEW, "name": "c"}, "s.yaml")
    names = [entry.get("name") for entry in yaml.safe_load(twice)["peers"]["files"]]
    assert names[:2] == ["c", "b"]


def test_what_does_not_survive_the_round_trip_is_refused(monkeypatch):
    monkeypatch.setattr(edit_study, "_rewritten", lambda text, entry: "peers: {files: []}")
    with pytest.raises(EdgeqError, match="add it by hand: peers: {files: .*b.tflite"):
        edit_study.with_peer("qat: false", NEW, "s.yaml")


def test_a_section_that_is_left_out_stays_so():
    with pytest.raises(EdgeqError, match="says `peers: false`"):
        edit_study.with_peer("peers: false\n", NEW, "s.yaml")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A checkout with a study, the real notebooks, and a file of others."""
    (tmp_path / "studies").mkdir()
    (tmp_path / "notebooks").symlink_to(home() / "notebooks")
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "theirs.tflite").write_bytes(tiny_files()["uint8"])
    (tmp_path / "studies" / "demo.yaml").write_text("# why this study\ncommon:\n  seed: 0  # any\n")
    monkeypatch.setenv("EDGEQ_HOME", str(tmp_path))
    monkeypatch.setenv("EDGEQ_ASSETS", str(tmp_path / "assets"))
    return tmp_path


def test_the_command_adds_what_a_run_can_read(place, capsys):
    file = str(place / "assets" / "theirs.tflite")
    assert (
        cli.main(["add-peer", "demo", file, "--preprocessing", "raw", "--licence", "Apache-2.0"])
        == 0
    )
    assert "'theirs' is in the study" in capsys.readouterr().out
    text = (place / "studies" / "demo.yaml").read_text()
    assert (
        text.startswith("# why this study\ncommon:\n  seed: 0  # any\n")
        and edit_study.HEADER in text
    )
    assert config.load("demo").stages["70_peers"]["files"] == [
        {
            "file": "$EDGEQ_ASSETS/theirs.tflite",
            "name": "theirs",
            "preprocessing": "raw",
            "image_size": 8,
            "class_offset": 0,
            "licence": "Apache-2.0",
        }
    ]
    for name in ([], ["--name", "other"]):
        assert cli.main(["add-peer", "demo", file, "--preprocessing", "raw", *name]) == 1
        assert "has the peer 'theirs' already" in capsys.readouterr().err
    assert (place / "studies" / "demo.yaml").read_text() == text


def test_what_does_not_do_changes_nothing(place, capsys):
    file, study = str(place / "assets" / "theirs.tflite"), place / "studies" / "demo.yaml"
    before = study.read_bytes()
    write_json(Study("demo").folder / "records" / "data.json", {"classes": ["a", "b"]})
    for arguments, says in (
        (["--preprocessing", "raw"], "5 outputs, 0 of them no class, and the data have 2 classes"),
        (["--preprocessing", "row", "--class-offset", "3"], "no preprocessing 'row'"),
        (
            ["--preprocessing", "raw", "--class-offset", "3", "--image-size", "9"],
            "takes images of 8 × 8",
        ),
    ):
        assert cli.main(["add-peer", "demo", file, *arguments]) == 1
        assert says in capsys.readouterr().err
    assert cli.main(["add-peer", "nothing", file, "--preprocessing", "raw"]) == 1
    study.write_text("nonsense: {a: 1}\n")
    assert (
        cli.main(["add-peer", "demo", file, "--preprocessing", "raw", "--class-offset", "3"]) == 1
    )
    assert "demo.yaml: there is no section 'nonsense'" in capsys.readouterr().err
    study.write_bytes(before)
    assert [path.name for path in study.parent.iterdir()] == ["demo.yaml"]
