"""From a name or a folder to honest splits."""

import builtins
import dataclasses
import errno
import hashlib
import io
import json
import os
import pickle
import sys
import tarfile
import types
import zipfile
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from PIL import Image

from edgeq_lib.data import prepare as preparing
from edgeq_lib.data.builtin import cifar10
from edgeq_lib.data.builtin.cifar10 import cifar10_jpeg
from edgeq_lib.data.dataset import Data, check_calibration, check_images, load, prove_disjoint
from edgeq_lib.data.decode import decode_image
from edgeq_lib.data.prepare import at_size, prepare, write_header
from edgeq_lib.data.source import DOWNLOADS, SPLITS
from edgeq_lib.data.splits import _draw, draw_calibration
from edgeq_lib.files import EdgeqError
from edgeq_lib.study import Study

ASSETS = os.environ.get("EDGEQ_ASSETS")


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEQ_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("EDGEQ_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EDGEQ_ASSETS", raising=False)


@pytest.fixture
def study():
    return Study("s", "01_data")


def png(seed, size=(10, 12)):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def photos(root, classes=("cat", "dog", "emu"), n=20, first=0):
    """Class folders of `n` images each, all different; returns the root."""
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(n):
            (root / name / f"{i:03}.png").write_bytes(png(first + 1000 * c + i))
    return root


def test_digits_with_their_own_splits(study):
    manifest = prepare(study, "digits", 16, 1, calibration=100)
    sizes = {split: manifest["splits"][split]["n"] for split in SPLITS}
    assert sum(sizes.values()) == 1797 and sizes["test"] == round(0.3 * 1797)
    for split in SPLITS:  # stratified: each class has its share of the split
        counts = np.array(manifest["splits"][split]["per_class"])
        shares = (
            sizes[split]
            / 1797
            * np.bincount(np.concatenate([getattr(load(study), name).labels for name in SPLITS]))
        )
        assert np.abs(counts - shares).max() <= 2
    data = load(study)
    assert (
        data.train.images.shape == (sizes["train"], 16, 16, 1)
        and data.train.images.dtype == np.uint8
    )
    assert isinstance(data.train.images, np.memmap) and data.train.labels.dtype == np.int64
    assert data.test.images.max() == 255 and data.test.images.min() == 0
    assert manifest["calibration"]["per_class"] == [10] * 10
    assert data.calibration_images.shape == (100, 16, 16, 1)
    assert not any(prove_disjoint(data).values())
    assert study.read("data") == json.loads(json.dumps(manifest))


def test_the_seed_decides_and_nothing_else(tmp_path, study):
    one = prepare(study, "digits", 8, 1, seed=1)
    assert prepare(Study("other"), "digits", 8, 1, seed=1) == one
    two = prepare(Study("third"), "digits", 8, 1, seed=2)
    assert two["fingerprint"] != one["fingerprint"]
    assert two["calibration"]["indices"] != one["calibration"]["indices"]


def test_a_given_test_set_is_the_same_at_any_seed(tmp_path, study):
    photos(tmp_path / "p" / "train")
    photos(tmp_path / "p" / "test", first=100)
    prints = [
        prepare(Study(f"s{seed}"), str(tmp_path / "p"), 8, calibration=6, seed=seed)["splits"]
        for seed in (1, 2)
    ]
    assert prints[0]["test"] == prints[1]["test"]
    assert prints[0]["train"]["fingerprint"] != prints[1]["train"]["fingerprint"]


def test_numbers_and_shares(tmp_path, study):
    root = photos(tmp_path / "p")
    manifest = prepare(
        study, str(root), (8, 6), validation=6, test=0.2, limit_train=9, calibration=6
    )
    assert [manifest["splits"][split]["per_class"] for split in SPLITS] == [
        [3] * 3,
        [2] * 3,
        [4] * 3,
    ]
    assert load(study).train.images.shape == (9, 8, 6, 3)
    assert manifest["image_size"] == [8, 6] and manifest["classes"] == ["cat", "dog", "emu"]


def test_prefixes_are_class_mixed(tmp_path, study):
    prepare(study, str(photos(tmp_path / "p")), 8, calibration=6)
    assert all(len(set(getattr(load(study), split).labels[:6])) > 1 for split in SPLITS)


@pytest.mark.parametrize(
    "names, roles",
    [
        (("train", "validation", "test"), {"train": 0, "validation": 1, "test": 2}),
        (("train", "val", "test"), {"train": 0, "validation": 1, "test": 2}),
        (("Train", "Test"), {"train": 0, "test": 1}),
        (("train", "val"), {"train": 0, "test": 1}),
    ],
)
def test_given_splits_are_kept(tmp_path, study, names, roles):
    for i, name in enumerate(names):
        photos(tmp_path / "p" / name, n=5 + i, first=100 * i)
    manifest = prepare(study, str(tmp_path / "p"), 8, calibration=6)
    taken = {split: manifest["splits"][split]["n"] for split in SPLITS}
    for split in roles.keys() - {"train"}:
        assert taken[split] == 3 * (5 + roles[split])
    assert sum(taken.values()) == sum(3 * (5 + i) for i in range(len(names)))


def test_splits_may_be_named(tmp_path, study):
    photos(tmp_path / "p" / "a", n=8)
    photos(tmp_path / "p" / "b", n=3, first=100)
    manifest = prepare(
        study, str(tmp_path / "p"), 8, splits={"train": "a", "test": "b"}, calibration=6
    )
    assert manifest["splits"]["test"]["n"] == 9
    with pytest.raises(EdgeqError, match="folder 'c' of the split test does not exist"):
        prepare(study, str(tmp_path / "p"), 8, splits={"train": "a", "test": "c"})
    with pytest.raises(EdgeqError, match="it must map train"):
        prepare(study, str(tmp_path / "p"), 8, splits={"learn": "a"})
    with pytest.raises(EdgeqError, match="leave `splits` out"):
        prepare(study, "digits", 8, splits={"train": "a"})


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
        EdgeqError, match=r"2 of 66 images of p cannot be read \(p/emu/.*max_skipped = 0.01"
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
    assert manifest["ignored"] == {".txt": 1}
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
    }
    assert [manifest["splits"][split]["n"] for split in SPLITS] == [59, 15, 17]
    assert not any(prove_disjoint(load(study)).values())


def test_shared_images_are_an_error(study):
    prepare(study, "digits", 8, 1)
    data = load(study)
    spoilt = Data(data.train, data.train, data.test, data.classes, data.calibration, data.manifest)
    with pytest.raises(EdgeqError, match="Train and validation share 8"):
        prove_disjoint(spoilt)


def test_a_finished_preparation_is_not_repeated(tmp_path, study, monkeypatch):
    root = photos(tmp_path / "p")
    first = prepare(study, str(root), 8, calibration=6)
    before = (study.folder / "data" / "train_images.npy").stat().st_mtime_ns
    monkeypatch.setattr(preparing, "decode_image", lambda *args: pytest.fail("decoded again"))
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
    for path in root.rglob("*.png"):
        path.write_bytes(png(hash(path.name) % 999 + 7777))
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


def test_draws_are_stratified_exact_and_leave_no_class_empty():
    labels = np.repeat(np.arange(5), [1, 2, 10, 100, 1000])
    for n in (1, 7, 300, 1000, 1108):  # the last leaves one of each class
        mask = _draw(labels, n, np.random.default_rng(n), True)
        assert mask.sum() == n and np.bincount(labels[~mask], minlength=5).min() >= 1
        share = n / len(labels) * np.bincount(labels)
        assert np.abs(np.bincount(labels[mask], minlength=5) - share).max() <= (
            2 if n < 1108 else 4
        )
    assert _draw(np.arange(1000), 400, np.random.default_rng(0), False).sum() == 400


def test_calibration_is_balanced_as_far_as_classes_go():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [3, 50, 500]))
    chosen = draw_calibration(labels, 33, 0)
    assert len(set(chosen)) == 33 and np.bincount(labels[chosen]).tolist() == [3, 15, 15]
    np.testing.assert_array_equal(chosen, draw_calibration(labels, 33, 0))
    assert not np.array_equal(chosen, draw_calibration(labels, 33, 1))


@pytest.mark.parametrize("n", [0, 1, 21])
def test_a_representative_set_of_no_use(n):
    with pytest.raises(EdgeqError, match=f"representative set of {n} images"):
        draw_calibration(np.zeros(20, np.int64), n, 0)


def test_representative_images_of_no_use():
    good = np.random.default_rng(0).random((4, 8, 8, 3)).astype(np.float32)
    check_calibration(good)
    check_calibration((good * 255).astype(np.uint8))
    flat = np.ones((4, 8, 8, 3), np.float32) * np.arange(12, dtype=np.float32).reshape(4, 1, 1, 3)
    for bad, why in (
        (good[:0], "no images"),
        (good[:1], "one image"),
        (flat, "constant"),
        (np.repeat(good[:1], 5, axis=0), "all the same"),
    ):
        with pytest.raises(EdgeqError, match=why):
            check_calibration(bad)
    good[2, 3, 3, 1] = np.nan
    with pytest.raises(EdgeqError, match="Image 2 of the representative set holds NaN"):
        check_calibration(good)


def test_nan_images_are_named():
    array = np.zeros((600, 4, 4, 1), np.float32)
    check_images(array)
    array[555, 0, 0, 0] = np.inf
    with pytest.raises(EdgeqError, match="Image 555 of the photos"):
        check_images(array, "the photos")
    with pytest.raises(EdgeqError, match="shape"):
        check_images(array[0])


def test_constant_photos_make_no_representative_set(tmp_path, study):
    for c, name in enumerate(("a", "b")):
        (tmp_path / "p" / name).mkdir(parents=True)
        for i in range(20):
            Image.new("RGB", (8, 8), (i, c, 0)).save(tmp_path / "p" / name / f"{i}.png")
    with pytest.raises(EdgeqError, match="constant"):
        prepare(study, str(tmp_path / "p"), 8, calibration=6)


def test_unknown_names_and_folders(tmp_path, study):
    for name in ("cifar11", str(tmp_path / "nowhere")):
        with pytest.raises(
            EdgeqError, match=f"no folder '{name}': take one of digits, faint_digits, .* path"
        ):
            prepare(study, name, 8)


def test_class_folders_must_make_sense(tmp_path, study):
    (tmp_path / "none").mkdir()
    with pytest.raises(EdgeqError, match="'none' holds no class folders"):
        prepare(study, str(tmp_path / "none"), 8)
    with pytest.raises(EdgeqError, match="only the class folder 'cat'"):
        prepare(study, str(photos(tmp_path / "one", ("cat",))), 8)
    (photos(tmp_path / "gap") / "fox").mkdir()
    with pytest.raises(EdgeqError, match="class folder 'gap/fox' holds no image"):
        prepare(study, str(tmp_path / "gap"), 8)
    photos(tmp_path / "p" / "train", ("cat", "dog", "emu"))
    photos(tmp_path / "p" / "test", ("cat", "dog", "fox"), first=100)
    with pytest.raises(
        EdgeqError, match="differ between train and test: 'emu' only in train, 'fox' only in test"
    ):
        prepare(study, str(tmp_path / "p"), 8)


def test_too_few_images(tmp_path, study):
    root = str(photos(tmp_path / "p", n=4))
    with pytest.raises(EdgeqError, match="representative set of 128 images cannot be drawn from"):
        prepare(study, root, 8)
    with pytest.raises(EdgeqError, match="20 test images cannot be taken from the 12 train images"):
        prepare(study, root, 8, test=20)
    with pytest.raises(EdgeqError, match="0 validation images cannot be taken"):
        prepare(study, root, 8, validation=0)
    with pytest.raises(EdgeqError, match="train images of p have none of the classes '"):
        prepare(study, root, 8, limit_train=2, calibration=2)
    photos(tmp_path / "q" / "train", n=4)
    photos(tmp_path / "q" / "test", n=4, first=100)
    with pytest.raises(EdgeqError, match="brings its own test images"):
        prepare(study, str(tmp_path / "q"), 8, test=3)


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


# ---------------------------------------------------------------- stand-ins for the official files,
# served by a folder


def official(monkeypatch, tmp_path, key, make):
    """Put a stand-in for an official archive into EDGEQ_ASSETS, with its own checksum."""
    (tmp_path / "assets").mkdir(exist_ok=True)
    monkeypatch.setenv("EDGEQ_ASSETS", str(tmp_path / "assets"))
    name, url, _ = DOWNLOADS[key]
    make(tmp_path / "assets" / name)
    checksum = hashlib.md5((tmp_path / "assets" / name).read_bytes()).hexdigest()
    monkeypatch.setitem(DOWNLOADS, key, (name, url, checksum))


def tar_of(files):
    def make(path):
        with tarfile.open(path, "w:gz") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))

    return make


def zip_of(files):
    def make(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)

    return make


def test_official_cifar10(tmp_path, study, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (120, 3, 32, 32), np.uint8)
    files = {
        f"cifar-10-batches-py/{name}": pickle.dumps(
            {
                b"data": pixels[20 * i : 20 * i + 20].reshape(20, 3072),
                b"labels": [k % 10 for k in range(20)],
            },
            4,
        )
        for i, name in enumerate(
            [
                "data_batch_1",
                "data_batch_2",
                "data_batch_3",
                "data_batch_4",
                "data_batch_5",
                "test_batch",
            ]
        )
    }
    files["cifar-10-batches-py/batches.meta"] = pickle.dumps(
        {b"label_names": [b"c%d" % i for i in range(10)]}, 4
    )
    official(monkeypatch, tmp_path, "cifar10", tar_of(files))
    manifest = prepare(study, "cifar10", 32, calibration=10)
    assert (manifest["name"], manifest["form"]) == ("CIFAR-10", "lossless, 32 × 32")
    assert [manifest["splits"][split]["n"] for split in SPLITS] == [90, 10, 20]
    stored = {image.tobytes() for image in load(study).test.images}
    assert stored == {image.transpose(1, 2, 0).tobytes() for image in pixels[100:]}


def test_a_pickle_that_would_run_code_is_refused(tmp_path, study, monkeypatch):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    files = {"cifar-10-batches-py/data_batch_1": pickle.dumps(Evil())}
    official(monkeypatch, tmp_path, "cifar10", tar_of(files))
    with pytest.raises(EdgeqError, match="system, so it is not the official one"):
        prepare(study, "cifar10", 32)
    assert not (tmp_path / "ran").exists()


def test_official_cats_vs_dogs(tmp_path, study, monkeypatch):
    files = {
        f"PetImages/{name}/{i}.jpg": png(100 * c + i)
        for c, name in enumerate(("Cat", "Dog"))
        for i in range(20)
    }
    files["PetImages/Cat/Thumbs.db"] = files["readme[1].txt"] = b"x"
    official(monkeypatch, tmp_path, "cats_vs_dogs", zip_of(files))
    manifest = prepare(study, "cats_vs_dogs", 16, calibration=8)
    assert manifest["classes"] == ["cat", "dog"] and manifest["ignored"] == {".db": 1}
    assert [manifest["splits"][split]["n"] for split in SPLITS] == [28, 4, 8]


def test_official_tiny_imagenet(tmp_path, study, monkeypatch):
    root, wnids = "tiny-imagenet-200", [f"n{i:08}" for i in range(4)]
    files = {
        f"{root}/train/{wnid}/images/{wnid}_{i}.JPEG": png(100 * c + i)
        for c, wnid in enumerate(wnids)
        for i in range(3)
    }
    held = {f"val_{i}.JPEG": wnids[3 - i % 4] for i in range(2400)}
    files |= {f"{root}/val/images/{name}": png(1000 + i, (4, 4)) for i, name in enumerate(held)}
    files[f"{root}/val/val_annotations.txt"] = "".join(
        f"{name}\t{wnid}\t0\t0\t62\t62\n" for name, wnid in held.items()
    )
    files[f"{root}/words.txt"] = (
        "n00000000\tfish, sea fish\nn00000001\tcrane\nn00000002\tcrane, machine\n"
    )
    official(monkeypatch, tmp_path, "tiny_imagenet", zip_of(files))
    manifest = prepare(study, "tiny_imagenet", 4, calibration=8)
    assert manifest["classes"] == ["fish", "crane (n00000001)", "crane (n00000002)", "n00000003"]
    assert manifest["splits"]["validation"]["per_class"] == [500] * 4
    assert manifest["splits"]["test"]["per_class"] == [100] * 4
    assert manifest["splits"]["train"]["per_class"] == [3] * 4
    data = load(study)
    first = next(i for i, name in enumerate(held) if held[name] == wnids[0])
    expected = decode_image(png(1000 + first, (4, 4)), (4, 4), 3)[0]
    found = [
        part.labels[i]
        for part in (data.validation, data.test)
        for i in range(len(part.labels))
        if (part.images[i] == expected).all()
    ]
    assert found == [0], "a held-out photo has the label that the annotations give it"


def test_imagenet_mini_by_kagglehub(tmp_path, study, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(EdgeqError, match="pip install kagglehub.*imagenetmini-1000.zip"):
        prepare(study, "imagenet_mini", 16)
    photos(tmp_path / "cache" / "imagenet-mini" / "train", n=20)
    photos(tmp_path / "cache" / "imagenet-mini" / "val", n=3, first=100)
    shelf = {"ifigotin/imagenetmini-1000": tmp_path / "cache"}
    hub = types.SimpleNamespace(dataset_download=lambda handle: shelf[handle])
    monkeypatch.setitem(sys.modules, "kagglehub", hub)
    manifest = prepare(study, "imagenet_mini", 16, calibration=8)
    assert manifest["aspect"] == "crop" and [
        manifest["splits"][split]["n"] for split in SPLITS
    ] == [57, 3, 9]
    hub.dataset_download = lambda handle: 1 / 0
    with pytest.raises(EdgeqError, match="did not deliver.*ZeroDivisionError"):
        prepare(study, "imagenet_mini", 16)


def test_what_only_assets_bring_is_named(study):
    with pytest.raises(
        EdgeqError, match="imagenet1000_one_per_class_256sq_q90.tar.*set EDGEQ_ASSETS"
    ):
        prepare(study, "imagenet_nips2017", 224)


needs_assets = pytest.mark.skipif(not ASSETS, reason="needs the real files: set EDGEQ_ASSETS")


@needs_assets
def test_real_cifar10_as_jpeg(study, monkeypatch):
    monkeypatch.setenv("EDGEQ_ASSETS", ASSETS)
    sliced = cifar10_jpeg

    def small(path):
        source = sliced(path)
        assert {split: len(pool) for split, pool in source.pools.items()} == {
            "train": 50_000,
            "test": 10_000,
        }
        return dataclasses.replace(
            source, pools={split: pool[:300] for split, pool in source.pools.items()}
        )

    monkeypatch.setattr(cifar10, "cifar10_jpeg", small)
    manifest = prepare(study, "cifar10", 32, calibration=20)
    assert manifest["name"] == "CIFAR-10 (JPEG)" and manifest["classes"][:2] == [
        "airplane",
        "automobile",
    ]
    assert [manifest["splits"][split]["n"] for split in SPLITS] == [270, 30, 300]
    assert manifest["converted"] == {} and manifest["skipped"] == []
    assert 100 < load(study).test.images.mean() < 140


@needs_assets
@pytest.mark.parametrize(
    "name, size, expected",
    [("cats_vs_dogs", 32, [1000, 200, 800]), ("imagenet_nips2017", 32, [600, 400, 1000])],
)
def test_real_photos(study, monkeypatch, name, size, expected):
    monkeypatch.setenv("EDGEQ_ASSETS", ASSETS)
    manifest = prepare(study, name, size, calibration=50)
    assert [manifest["splits"][split]["n"] for split in SPLITS] == expected
