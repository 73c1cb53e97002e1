"""CIFAR-10 from a stand-in for the official archive, and from the assets where they are."""

import dataclasses
import os
import pickle

import numpy as np
import pytest
from image_files import ASSETS, needs_assets, official, tar_of

from edgeq_lib.data.builtin import cifar10
from edgeq_lib.data.builtin.cifar10 import cifar10_jpeg
from edgeq_lib.data.dataset import load
from edgeq_lib.data.prepare import prepare
from edgeq_lib.data.source import SPLITS
from edgeq_lib.files import EdgeqError


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
