"""A folder of class folders becomes a source, or a sentence says why not."""

import os

import numpy as np
import pytest
from image_files import photos, png

from edgeq_lib.data.prepare import prepare
from edgeq_lib.data.source import (
    COMPANION,
    HIDDEN,
    SPLITS,
    UNKNOWN,
    first_names,
    from_class_folders,
    image_files,
    readable_names,
    split_roots,
    subfolders,
)
from edgeq_lib.files import EdgeqError


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


def test_a_source_names_images_without_the_path_of_the_machine(tmp_path):
    root = photos(tmp_path / "pets", ("dog", "cat"), n=2)
    source = from_class_folders({"train": root}, "Pets", validation=0.5)
    assert source.classes == ["cat", "dog"] and source.validation == 0.5
    named = [(item.name, item.label) for item in source.pools["train"]]
    assert named == [
        ("pets/cat/000.png", 0),
        ("pets/cat/001.png", 0),
        ("pets/dog/000.png", 1),
        ("pets/dog/001.png", 1),
    ]


def test_another_content_of_the_same_size_is_another_state(tmp_path):
    root = photos(tmp_path / "pets", n=2)
    before = from_class_folders({"train": root}, "Pets").state
    assert from_class_folders({"train": root}, "Pets").state == before
    path = root / "cat" / "000.png"
    content, changed = path.read_bytes(), path.stat().st_mtime_ns
    path.write_bytes(content[::-1])
    os.utime(path, ns=(changed + 10**9, changed + 10**9))
    assert from_class_folders({"train": root}, "Pets").state != before


def test_hidden_files_and_folders_are_passed_over_and_deep_ones_are_not(tmp_path):
    for name in ("b/2.png", "b/deep/1.png", "a.png", ".hidden/3.png", ".4.png", "__MACOSX/5.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [folder.name for folder in subfolders(tmp_path)] == ["b"]
    assert [path.name for path in image_files(tmp_path / "b")] == ["2.png", "1.png"]
    assert [path.name for path in image_files(tmp_path)][0] == "a.png"


def test_a_class_named_train_is_no_split(tmp_path):
    photos(tmp_path / "p", ("train", "tram"), n=1)
    assert split_roots(tmp_path / "p", None) == {"train": tmp_path / "p"}


def test_a_sentence_names_five_and_counts_the_rest():
    assert first_names(["a", "b"]) == "'a', 'b'"
    assert first_names("abcdefgh") == "'a', 'b', 'c', 'd', 'e' and 3 more"


def test_words_name_classes_and_equal_words_keep_their_id():
    words = {"n1": "crane, bird", "n2": "crane, machine", "n3": "sea_lion, seal"}
    assert readable_names(["n1", "n2", "n3", "n4"], words) == [
        "crane (n1)",
        "crane (n2)",
        "sea lion",
        "n4",
    ]


@pytest.mark.parametrize("seed", range(4))
def test_folders_named_by_numbers_stand_in_the_order_of_the_numbers(tmp_path, seed):
    random = np.random.default_rng(seed)
    numbers = random.choice(2000, int(random.integers(2, 30)), replace=False)
    for number in numbers:
        (tmp_path / "n" / str(number)).mkdir(parents=True)
        (tmp_path / "m" / f"img{number}").mkdir(parents=True)
    assert [int(folder.name) for folder in subfolders(tmp_path / "n")] == sorted(numbers)
    names = [folder.name for folder in subfolders(tmp_path / "m")]
    assert names == sorted(names)
    (tmp_path / "n" / "other").mkdir()
    names = [folder.name for folder in subfolders(tmp_path / "n")]
    assert names == sorted(names)


HIDDEN_NAMES = (
    *(".ipynb_checkpoints/a.png", "deep/@eaDir/b.png/SYNOPHOTO_THUMB_M.jpg", "._c.png"),
    *(".DS_Store", "deep/Thumbs.db", "@tmp/x/y/d.png", "__MACOSX/e.png", "deep/desktop.ini"),
)
OTHER_NAMES = ("notes.txt", "boxes.xml", "deep/labels.json", "clip.mp4")


@pytest.mark.parametrize("seed", range(4))
def test_untidy_folders_keep_their_photos_and_count_the_rest(tmp_path, study, seed):
    """Any mixture of suffixes, depths, hidden and foreign files."""
    random, expected = np.random.default_rng(seed), {}
    suffixes = (".png", ".JPG", ".jfif", ".bin", "", ".photo", ".webp")
    n_photos = 0
    for label, name in enumerate(("2", "10", "1")):
        folder = tmp_path / "p" / name
        for number in range(int(random.integers(20, 30))):
            path = folder / random.choice(["", "deep", "deep/er"]) / f"{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path = path.with_suffix(random.choice(suffixes))
            path.write_bytes(png(1000 * label + number))
            n_photos += 1
        for names, why in ((HIDDEN_NAMES, HIDDEN), (OTHER_NAMES, COMPANION)):
            for other in random.permutation(names)[: random.integers(0, len(names) + 1)]:
                path = folder / str(other)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(7) if why == HIDDEN else b"text")
                expected[why] = expected.get(why, 0) + 1
    (tmp_path / "p" / "@eaDir").mkdir()
    (tmp_path / "p" / ".ipynb_checkpoints").mkdir()
    expected[HIDDEN] = expected.get(HIDDEN, 0) + 2
    manifest = prepare(study, str(tmp_path / "p"), [6, 9], 1, calibration=6)
    assert manifest["classes"] == ["1", "2", "10"] and manifest["image_size"] == [6, 9]
    assert sum(part["n"] for part in manifest["splits"].values()) == n_photos
    assert {row["why"]: row["n"] for row in manifest["left_out"]} == expected
    assert all(len(row["names"]) == min(5, row["n"]) for row in manifest["left_out"])


def test_files_of_unknown_kind_count_as_photos_that_cannot_be_read(tmp_path, study):
    root = photos(tmp_path / "p", n=20)
    for number in range(7):
        (root / "cat" / f"{number}.raw").write_bytes(bytes(range(256)) * 4)
    told = r"7 of 67 images of p .*unknown suffix.*: 'p/cat/0.raw'.*and 2 more.*max_skipped = 0.05"
    with pytest.raises(EdgeqError, match=told):
        prepare(study, str(root), 8, calibration=6, max_skipped=0.05)
    manifest = prepare(study, str(root), 8, calibration=6, max_skipped=0.2)
    assert [(row["why"], row["n"]) for row in manifest["left_out"]] == [(UNKNOWN, 7)]
