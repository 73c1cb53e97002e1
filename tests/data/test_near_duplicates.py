"""Thumbnails, resized photos and photos encoded anew are known, and other photos are not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from edgeq_lib.data.dataset import load, prove_disjoint
from edgeq_lib.data.decode import decode_image, thumbnail
from edgeq_lib.data.near_duplicates import CROWD, Photos
from edgeq_lib.data.prepare import prepare
from edgeq_lib.data.source import SPLITS


def scene(seed, side=160):
    """A picture with coarse and fine parts, as photos have: noise of many sizes."""
    random, picture = np.random.default_rng(seed), np.zeros((side, side, 3))
    for size in (3, 6, 12, 24, 48):
        noise = random.integers(0, 256, (size, size, 3), np.uint8)
        wide = Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)
        picture += np.asarray(wide, float) * size**-1.0
    picture -= picture.min()
    image = Image.fromarray((picture / picture.max() * 255).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(0.5))


def again(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


COPIES = {
    "jpeg": lambda image: again(image, "JPEG", quality=30),
    "webp": lambda image: again(image, "WEBP", quality=50),
    "palette": lambda image: again(image, "GIF"),
    "half": lambda image: image.resize((image.width // 2, image.height // 2)),
    "larger": lambda image: image.resize((2 * image.width, 2 * image.height)),
    "thumbnail": lambda image: again(image.resize((64, 64)), "JPEG", quality=75),
    "other shape": lambda image: image.resize((image.width, image.height // 2)),
}


def known(images):
    photos = Photos()
    photos.add(
        np.stack([thumbnail(image) for image in images]),
        [("test", str(number), 0) for number in range(len(images))],
    )
    return photos


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_known_among_others_and_nothing_else_is(kind):
    images = [scene(seed) for seed in range(60)]
    copies = np.stack([thumbnail(COPIES[kind](image)) for image in images])
    names = [[name for _, name, _ in alike] for alike in known(images).alike(copies)]
    assert names == [[str(number)] for number in range(60)]


def test_other_photos_are_not_taken_for_copies():
    photos = known([scene(seed) for seed in range(300)])
    others = np.stack([thumbnail(scene(1000 + seed)) for seed in range(300)])
    assert not any(photos.alike(others))


def test_plain_surfaces_and_noise_are_no_copies():
    random = np.random.default_rng(0)
    plain = [Image.new("RGB", (90, 90), (grey, grey, grey)) for grey in range(0, 250, 10)]
    noise = [Image.fromarray(random.integers(0, 256, (90, 90, 3), np.uint8)) for _ in range(40)]
    assert not any(known(plain).alike(np.stack([thumbnail(image) for image in reversed(plain)])))
    photos = known(noise[:20])
    assert not any(photos.alike(np.stack([thumbnail(image) for image in noise[20:]])))


def test_nothing_is_like_what_was_never_added():
    assert Photos().alike(np.stack([thumbnail(scene(0))])) == [[]]
    photos = known([scene(0)])
    assert photos.alike(np.zeros((0, 32, 32, 3), np.uint8)) == []


@pytest.mark.parametrize("seed", range(3))
def test_no_photo_with_copies_stands_in_two_splits(tmp_path, study, seed):
    """Folders whose photos have any number of copies, which the seeded splits tear apart."""
    random, kinds = np.random.default_rng(seed), list(COPIES)
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "p" / name).mkdir(parents=True)
        for number in range(20):
            picture = scene(10_000 * seed + 100 * label + number)
            picture.save(tmp_path / "p" / name / f"{number}.png")
            for kind in random.permutation(kinds)[: random.integers(0, 4)]:
                COPIES[kind](picture).save(tmp_path / "p" / name / f"{number}_{kind}.png")
    size = [int(random.integers(60, 90)), int(random.integers(60, 90))]
    manifest = prepare(study, str(tmp_path / "p"), size, calibration=4, seed=seed)
    data = load(study)
    photo = {
        decode_image(path, tuple(size), 3)[0].tobytes(): path.parent.name + path.stem.split("_")[0]
        for path in (tmp_path / "p").rglob("*.png")
    }
    stand = {split: {photo[i.tobytes()] for i in getattr(data, split).images} for split in SPLITS}
    assert not stand["train"] & stand["validation"] and not stand["train"] & stand["test"]
    assert not stand["validation"] & stand["test"]
    assert len(stand["train"] | stand["validation"] | stand["test"]) == 40
    assert sum(manifest["duplicates"]["near"].values()) > 0
    why = {row["why"]: row for row in manifest["left_out"]}
    row = why["near-duplicate of a photo in test or validation"]
    assert row["n"] == sum(manifest["duplicates"]["near"].values())
    assert len(row["names"]) == min(5, row["n"]) and " like p/" in row["names"][0]
    assert not any(prove_disjoint(data).values())


def test_alike_in_another_class_and_scenes_of_one_camera_stay_and_are_counted(tmp_path, study):
    for split, first in (("train", 0), ("test", 50)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / "p" / split / name).mkdir(parents=True)
            for number in range(6):
                scene(first + 100 * label + number).save(
                    tmp_path / "p" / split / name / f"{number}.png"
                )
    COPIES["half"](scene(50)).save(tmp_path / "p" / "train" / "dog" / "wrong.png")
    fixed = scene(777)
    for number in range(CROWD + 1):
        for split in ("train", "test"):
            frame = np.asarray(fixed).copy()
            frame[0, number if split == "train" else 50 + number] = 255 - frame[0, 0]
            Image.fromarray(frame).save(tmp_path / "p" / split / "cat" / f"frame{number}.png")
    manifest = prepare(
        study, str(tmp_path / "p"), 64, validation=2, calibration=4, max_skipped=0.01
    )
    duplicates = manifest["duplicates"]
    assert duplicates["near_other_class"] == 1 and not duplicates["near"]
    assert duplicates["near_crowd"] >= CROWD - 1


def test_small_images_are_compared_by_equal_pixels_alone(tmp_path, study):
    for split in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / "p" / split / name).mkdir(parents=True)
            for number in range(8):
                small = scene(100 * label + number).resize((63, 63))
                quality = {"train": 90, "test": 60}[split]
                small.save(tmp_path / "p" / split / name / f"{number}.jpg", quality=quality)
    manifest = prepare(study, str(tmp_path / "p"), 32, validation=2, calibration=4)
    assert not manifest["duplicates"]["near"] and manifest["splits"]["test"]["n"] == 16
