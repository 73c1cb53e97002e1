"""Folders and archives of small images, and stand-ins for the official files."""

import hashlib
import io
import os
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from edgeq_lib.data.source import DOWNLOADS

ASSETS = os.environ.get("EDGEQ_ASSETS")  # as it was before a fixture hid it

needs_assets = pytest.mark.skipif(not ASSETS, reason="needs the real files: set EDGEQ_ASSETS")


def png(seed, size=(10, 12)):
    """The bytes of an RGB image of noise."""
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


def official(monkeypatch, tmp_path, key, make):
    """Put a stand-in for an official archive into EDGEQ_ASSETS, with its own checksum."""
    (tmp_path / "assets").mkdir(exist_ok=True)
    monkeypatch.setenv("EDGEQ_ASSETS", str(tmp_path / "assets"))
    name, url, _ = DOWNLOADS[key]
    make(tmp_path / "assets" / name)
    checksum = hashlib.md5((tmp_path / "assets" / name).read_bytes()).hexdigest()
    monkeypatch.setitem(DOWNLOADS, key, (name, url, checksum))


def tar_of(files):
    """A function that writes an archive of these files (name → content)."""

    def make(path):
        with tarfile.open(path, "w:gz") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))

    return make


def zip_of(files):
    """A function that writes an archive of these files (name → content)."""

    def make(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)

    return make
