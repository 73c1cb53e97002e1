"""Cats vs Dogs from a stand-in for the official archive, and from the assets where they are."""

from image_files import ASSETS, needs_assets, official, png, zip_of

from edgeq_lib.data.prepare import prepare
from edgeq_lib.data.source import SPLITS


def test_official_cats_vs_dogs(tmp_path, study, monkeypatch):
    files = {
        f"PetImages/{name}/{i}.jpg": png(100 * c + i)
        for c, name in enumerate(("Cat", "Dog"))
        for i in range(20)
    }
    files["PetImages/Cat/Thumbs.db"] = files["readme[1].txt"] = b"x"
    official(monkeypatch, tmp_path, "cats_vs_dogs", zip_of(files))
    manifest = prepare(study, "cats_vs_dogs", 16, calibration=8)
    assert manifest["classes"] == ["cat", "dog"] and [row["n"] for row in manifest["left_out"]] == [
        1
    ]
    assert [manifest["splits"][split]["n"] for split in SPLITS] == [28, 4, 8]


@needs_assets
def test_the_real_photos_of_the_assets(study, monkeypatch):
    monkeypatch.setenv("EDGEQ_ASSETS", ASSETS)
    manifest = prepare(study, "cats_vs_dogs", 32, calibration=50)
    assert [manifest["splits"][split]["n"] for split in SPLITS] == [1000, 200, 800]
