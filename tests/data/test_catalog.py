"""A data set is a known name or a folder."""

import pytest
from image_files import photos

from edgeq_lib.data.catalog import SOURCES, find_source
from edgeq_lib.data.prepare import prepare
from edgeq_lib.files import EdgeqError


def test_unknown_names_and_folders(tmp_path, study):
    for name in ("cifar11", str(tmp_path / "nowhere")):
        with pytest.raises(
            EdgeqError, match=f"no folder '{name}': take one of digits, faint_digits, .* path"
        ):
            prepare(study, name, 8)


def test_a_name_calls_its_function_and_a_path_is_taken_from_home(tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, "digits", lambda: "the digits")
    assert find_source("digits", None) == "the digits"
    photos(tmp_path / "home" / "data" / "pets", n=2)
    relative = find_source("data/pets", None)
    assert relative.name == "pets" and relative.classes == ["cat", "dog", "emu"]
    assert relative == find_source(str(tmp_path / "home" / "data" / "pets"), None)


def test_a_file_is_no_folder_of_photos(tmp_path):
    (tmp_path / "photos.zip").write_bytes(b"x")
    with pytest.raises(EdgeqError, match="no folder '.*photos.zip'"):
        find_source(str(tmp_path / "photos.zip"), None)


def test_sub_folders_of_a_known_name_are_refused():
    with pytest.raises(EdgeqError, match="'digits' is a data set; leave `splits` out"):
        find_source("digits", {"train": "a"})
