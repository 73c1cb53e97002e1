"""The small ImageNet sets: what brings them, and what is said when nothing does."""

import sys
import types

import pytest
from image_files import ASSETS, needs_assets, photos

from edgeq_lib.data.prepare import prepare
from edgeq_lib.data.source import SPLITS
from edgeq_lib.files import EdgeqError


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


@needs_assets
def test_the_real_photos_of_the_assets(study, monkeypatch):
    monkeypatch.setenv("EDGEQ_ASSETS", ASSETS)
    manifest = prepare(study, "imagenet_nips2017", 32, calibration=50)
    assert [manifest["splits"][split]["n"] for split in SPLITS] == [600, 400, 1000]
