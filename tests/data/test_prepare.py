"""From a source to a study's arrays and their record."""

import builtins
import errno
import io
import json
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from image_files import photos, png
from PIL import Image

from edgeq_lib.data import prepare as preparing
from edgeq_lib.data.dataset import load, prove_disjoint
from edgeq_lib.data.decode import decode_image
from edgeq_lib.data.prepare import at_size, prepare, write_header
from edgeq_lib.data.source import COMPANION, HIDDEN, SPLITS
from edgeq_lib.files import EdgeqError
from edgeq_lib.study import Study


def test_bad_images_among_good_ones(tmp_path, study):
    root = photos(tmp_path / "p", n=20)
    grey = Image.fromarray(np.random.default_rng(7).integers(0, 256, (10, 12), np.uint8))
    grey.save(root / "cat" / "grey.png")
    Image.fromarray(np.random.default_rng(8).integers(0, 65536, (10, 12), np.uint16)).save(
        root / "cat" / "deep.png"
    )
    grey.convert("CMYK").save(root / "dog" / "print.jpg")
    grey.rotate(180).save(
        root / "dog" / "film.gif", save_all=True, append_images=[Image.new("L", (12, 10))]
    )
    (root / "emu" / "cut.png").write_bytes(png(99)[:200])
    (root / "emu" / "empty.jpg").write_bytes(b"")
    (root / "emu" / "notes.txt").write_text("no image")
    (root / "emu" / ".hidden.png").write_bytes(b"")
    with pytest.raises(
        EdgeqError, match=r"2 of 66 images of p cannot be read \(.*: 'p/emu/.*max_skipped = 0.01"
    ):
        prepare(study, str(root), 8, calibration=6)
    with pytest.raises(EdgeqError, match="no record 'data'"):
        load(study)
    manifest = prepare(study, str(root), 8, calibration=6, max_skipped=0.05)
    assert {entry["file"] for entry in manifest["skipped"]} == {"p/emu/cut.png", "p/emu/empty.jpg"}
    assert all(entry["why"] for entry in manifest["skipped"])
    assert {kind: manifest["converted"][kind] for kind in ("16-bit", "cmyk", "animated")} == {
        "16-bit": 1,
        "cmyk": 1,
        "animated": 1,
    }
    assert [(row["why"], row["n"]) for row in manifest["left_out"]] == [
        *((f"unreadable: {entry['why']}", 1) for entry in manifest["skipped"]),
        (HIDDEN, 1),
        (COMPANION, 1),
    ]
    data = load(study)
    for split in SPLITS:  # the arrays hold what the manifest says, without gaps
        part, facts = getattr(data, split), manifest["splits"][split]
        assert len(part.images) == len(part.labels) == facts["n"]
        assert np.bincount(part.labels, minlength=3).tolist() == facts["per_class"]
        assert (part.images.reshape(facts["n"], -1).std(axis=1) > 0).all()
    assert sum(manifest["splits"][split]["n"] for split in SPLITS) == 64


def test_copies_leave_train_and_are_counted(tmp_path, study):
    train, test = (
        photos(tmp_path / "p" / "train", n=20),
        photos(tmp_path / "p" / "test", n=5, first=100),
    )
    photos(tmp_path / "p" / "validation", n=5, first=200)
    (test / "cat" / "copy.png").write_bytes((train / "cat" / "003.png").read_bytes())
    (test / "dog" / "copy.png").write_bytes((train / "cat" / "004.png").read_bytes())
    (tmp_path / "p" / "validation" / "emu" / "copy.png").write_bytes(
        (test / "emu" / "001.png").read_bytes()
    )
    (train / "cat" / "twice.png").write_bytes((train / "cat" / "005.png").read_bytes())
    manifest = prepare(study, str(tmp_path / "p"), 8, calibration=6)
    assert manifest["duplicates"] == {
        "removed": {"train, being in test": 2, "validation, being in test": 1},
        "inside": {"train": 1},
        "other_class": 1,
        **{"near": {}, "near_other_class": 0, "near_crowd": 0},
        "names": {"removed": ["validation/emu/copy.png", "train/cat/004.png", "train/cat/003.png"]},
    }
    assert [manifest["splits"][split]["n"] for split in SPLITS] == [59, 15, 17]
    assert not any(prove_disjoint(load(study)).values())


def test_a_finished_preparation_is_not_repeated(tmp_path, study, monkeypatch):
    root = photos(tmp_path / "p")
    first = prepare(study, str(root), 8, calibration=6)
    before = (study.folder / "data" / "train_images.npy").stat().st_mtime_ns
    monkeypatch.setattr(
        preparing, "decode_with_thumbnail", lambda *args: pytest.fail("decoded again")
    )
    assert prepare(study, str(root), 8, calibration=6) == first
    assert prepare(study, str(root), 8, calibration=9)["calibration"]["n"] == 9
    assert (study.folder / "data" / "train_images.npy").stat().st_mtime_ns == before
    monkeypatch.undo()
    monkeypatch.setenv("EDGEQ_RUNS", str(tmp_path / "runs"))
    (root / "cat" / "000.png").write_bytes(png(12345))
    assert prepare(study, str(root), 8, calibration=6)["fingerprint"] != first["fingerprint"]
    (study.folder / "data" / "test_images.npy").write_bytes(b"garbled")
    with pytest.raises(EdgeqError, match="missing or not those of its record"):
        load(study)
    prepare(study, str(root), 8, calibration=6)
    assert load(study).test.images.shape[1:] == (8, 8, 3)


def test_a_record_and_other_arrays_do_not_go_together(tmp_path, study):
    prepare(study, str(photos(tmp_path / "p")), 8, calibration=6)
    with pytest.raises(EdgeqError, match="representative set of 1000"):
        prepare(study, str(photos(tmp_path / "q", first=500)), 8, calibration=1000)
    with pytest.raises(EdgeqError, match="not those of its record"):
        load(study)


def test_what_is_read_and_written_is_noted(tmp_path, study):
    prepare(study, str(photos(tmp_path / "p")), 8, calibration=6)
    study.finish({})
    written = json.loads((study.folder / "stages" / "01_data.json").read_text())["written"]
    arrays = {f"data/{split}_{kind}.npy" for split in SPLITS for kind in ("images", "labels")}
    assert written.keys() == arrays | {"records/data.json", "records/data_request.json"} and all(
        written.values()
    )
    reader = Study("s", "02_baseline")
    load(reader)
    reader.finish({})
    reads = json.loads((study.folder / "stages" / "02_baseline.json").read_text())["reads"]
    assert reads == {
        name: state for name, state in written.items() if name != "records/data_request.json"
    }


def test_no_machine_path_enters_the_record(tmp_path, study):
    root = photos(tmp_path / "p")
    (root / "cat" / "000.png").write_bytes(b"garbled")
    prepare(study, str(root), 8, calibration=6, max_skipped=0.1)
    for path in study.folder.rglob("*.json"):
        assert str(tmp_path) not in path.read_text()


def test_the_same_images_at_another_size(tmp_path, study):
    root = photos(tmp_path / "p")
    (root / "cat" / "003.png").write_bytes(b"garbled")
    (root / "dog" / "004.png").write_bytes((root / "dog" / "005.png").read_bytes())
    (root / "dog" / "006.png").write_bytes((root / "emu" / "005.png").read_bytes())
    prepare(
        study,
        str(root),
        8,
        validation=20,
        test=20,
        limit_train=15,
        calibration=6,
        max_skipped=0.1,
        seed=3,
    )
    data = load(study)
    larger = at_size(study, data, (10, 12), 3)
    assert larger.validation.labels is data.validation.labels and larger.train is data.train
    by_mark = {
        decode_image(path, (8, 8), 3)[0].tobytes(): path
        for path in root.rglob("*.png")
        if path.stem != "003" or path.parent.name != "cat"
    }
    for split in ("validation", "test"):
        small, large = getattr(data, split), getattr(larger, split)
        assert large.images.shape == (len(small.labels), 10, 12, 3)
        for one, other in zip(small.images, large.images, strict=True):
            assert (decode_image(by_mark[one.tobytes()], (10, 12), 3)[0] == other).all()
    assert at_size(study, data, (8, 8), 3) is data
    grey = at_size(study, data, (8, 8), 1)
    assert grey.test.images.shape == (len(data.test.labels), 8, 8, 1)
    assert "data_at/8x8x1/test_images.npy" in study._written


def test_decoded_again_only_when_it_must_be(tmp_path, study, monkeypatch):
    root = photos(tmp_path / "p")
    prepare(study, str(root), 8, calibration=6)
    first = at_size(study, load(study), (4, 4), 3).test.images
    monkeypatch.setattr(preparing, "decode_at_size", lambda *_: pytest.fail("decoded again"))
    reader = Study("s", "80_edge_benchmark")
    assert (at_size(reader, load(reader), (4, 4), 3).test.images == first).all()
    assert "data_at/4x4x3/test_images.npy" in reader._reads


def test_other_images_than_those_prepared_are_refused(tmp_path, study):
    root = photos(tmp_path / "p")
    prepare(study, str(root), 8, calibration=6)
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        path.write_bytes(png(7777 + number))
    with pytest.raises(EdgeqError, match="not those that study 's' was prepared from"):
        at_size(study, load(study), (4, 4), 3)
    assert not (study.folder / "data_at" / "4x4x3").exists()


def test_any_executor_decodes_the_same(tmp_path, study):
    root = str(photos(tmp_path / "p"))
    with ProcessPoolExecutor(2) as pool:
        one = prepare(study, root, 8, calibration=6, executor=pool)
    assert prepare(Study("other"), root, 8, calibration=6) == one


def test_a_full_disk_leaves_the_old_data_and_nothing_half_done(tmp_path, study, monkeypatch):
    root = str(photos(tmp_path / "p"))
    first = prepare(study, root, 8, calibration=6)

    def opened(path, mode="r", **options):
        file = builtins.open(path, mode, **options)
        if "train" in str(path) and "w" in mode:
            return Full(file)
        return file

    class Full:
        def __init__(self, file):
            self.file, self.left = file, 2000

        def __enter__(self):
            return self

        def __exit__(self, *args):
            self.file.close()

        def seek(self, position):
            return self.file.seek(position)

        def write(self, content):
            self.left -= len(content)
            if self.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(content)

    monkeypatch.setattr(preparing, "open", opened, raising=False)
    with pytest.raises(EdgeqError, match="The disk is full"):
        prepare(study, root, 10, calibration=6)
    assert sorted(path.name for path in study.folder.iterdir()) == ["data", "records"]
    assert load(study).manifest["fingerprint"] == first["fingerprint"]


def test_headers_can_be_rewritten_in_place():
    file = io.BytesIO()
    write_header(file, (1_000_000, 224, 224, 3))
    end = file.tell()
    write_header(file, (1, 224, 224, 3))
    assert file.tell() == end


def test_constant_photos_make_no_representative_set(tmp_path, study):
    for c, name in enumerate(("a", "b")):
        (tmp_path / "p" / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (8, 8), (i, c, 0)).save(tmp_path / "p" / name / f"{i}.png")
    with pytest.raises(EdgeqError, match="constant"):
        prepare(study, str(tmp_path / "p"), 8, calibration=6)


def test_a_class_without_one_readable_image(tmp_path, study):
    root = photos(tmp_path / "p")
    for path in (root / "dog").iterdir():
        path.write_bytes(b"garbled")
    with pytest.raises(EdgeqError, match="none of the classes 'dog'"):
        prepare(study, str(root), 8, max_skipped=0.5)


def test_impossible_options(study):
    for options in (
        {"channels": 2},
        {"aspect": "fit"},
        {"image_size": 0},
        {"image_size": [8, 8, 3]},
    ):
        with pytest.raises(EdgeqError, match="cannot be made"):
            prepare(study, "digits", **{"image_size": 8, **options})
