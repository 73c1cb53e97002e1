"""Files are written completely or not at all."""

import errno
import os

import numpy as np
import pytest

from edgeq_lib.files import (
    EdgeqError,
    guard_disk,
    read_json,
    replace_folder,
    write_bytes,
    write_json,
)


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    write_json(path, {"old": 1})

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EdgeqError, match="disk is full: record.json could not be written"):
        write_json(path, {"new": 2})
    assert read_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["record.json"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_only_a_full_disk_is_called_so(code):
    with pytest.raises(EdgeqError, match="disk is full: the thing could not be written"):
        with guard_disk("the thing"):
            raise OSError(code, "full")
    with pytest.raises(PermissionError):
        with guard_disk("the thing"):
            raise PermissionError(errno.EACCES, "denied")


def test_nan_is_no_record(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"value": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_numpy_values_become_plain(tmp_path):
    write_json(tmp_path / "x.json", {"a": np.float32(0.5), "b": np.arange(2)})
    assert read_json(tmp_path / "x.json") == {"a": 0.5, "b": [0, 1]}


@pytest.mark.parametrize("there_before", [False, True])
def test_a_folder_is_replaced_as_a_whole(tmp_path, there_before):
    if there_before:
        write_bytes(tmp_path / "folder" / "old", b"1")
    write_bytes(tmp_path / ".new" / "file", b"2")
    replace_folder(tmp_path / ".new", tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"] and os.listdir(tmp_path / "folder") == ["file"]
