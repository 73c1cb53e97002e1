"""Downloads against a server on this machine, and archives that mean harm."""

import errno
import hashlib
import io
import tarfile
import zipfile

import loopback
import pytest

from edgeq_lib.data import download
from edgeq_lib.data.download import asset, fetch, unpack
from edgeq_lib.files import EdgeqError

CONTENT = bytes(range(256)) * 12_000  # three chunks


@pytest.fixture(autouse=True)
def no_assets(monkeypatch):
    monkeypatch.delenv("EDGEQ_ASSETS", raising=False)
    monkeypatch.delenv("EDGEQ_MIRROR", raising=False)


@pytest.fixture
def server(tmp_path):
    """Serves CONTENT as file.bin."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "file.bin").write_bytes(CONTENT)
    with loopback.serve(folder) as running:
        running.url = f"{running.address}/file.bin"
        yield running


def ranges(server):
    return [asked for _, asked in server.asked]


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_file_is_downloaded_once_and_checked(server, tmp_path, algorithm):
    checksum = hashlib.new(algorithm, CONTENT).hexdigest()
    assert fetch("file.bin", server.url, checksum, tmp_path / "new").read_bytes() == CONTENT
    fetch("file.bin", server.url, checksum, tmp_path / "new")
    assert ranges(server) == [None]
    assert not list((tmp_path / "new").glob("*.part"))


def test_a_part_is_resumed(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    assert (
        fetch("file.bin", server.url, hashlib.md5(CONTENT).hexdigest(), tmp_path).read_bytes()
        == CONTENT
    )
    assert ranges(server) == ["bytes=1000-"]


def test_a_server_that_cannot_resume_is_asked_from_the_start(server, tmp_path):
    server.resumable = False
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    assert (
        fetch("file.bin", server.url, hashlib.md5(CONTENT).hexdigest(), tmp_path).read_bytes()
        == CONTENT
    )


def test_a_complete_part_needs_no_more_bytes(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert (
        fetch("file.bin", server.url, hashlib.md5(CONTENT).hexdigest(), tmp_path).read_bytes()
        == CONTENT
    )


def test_a_broken_connection_is_taken_up_again(server, tmp_path):
    server.hang_up = 1_000_000
    assert (
        fetch("file.bin", server.url, hashlib.md5(CONTENT).hexdigest(), tmp_path).read_bytes()
        == CONTENT
    )
    assert ranges(server) == [None, "bytes=1000000-", "bytes=2000000-", "bytes=3000000-"]


def test_wrong_checksum_names_file_expected_and_found(server, tmp_path):
    with pytest.raises(
        EdgeqError,
        match=f"file.bin .*expected md5 {'0' * 32}, found "
        f"{hashlib.md5(CONTENT).hexdigest()}.*again",
    ):
        fetch("file.bin", server.url, "0" * 32, tmp_path)
    assert not list(tmp_path.glob("file.bin*")), (
        "neither the file nor a part that would poison the next try"
    )


def test_no_network_names_the_address_and_both_cures(tmp_path):
    url = "http://127.0.0.1:9/file.bin"
    with pytest.raises(EdgeqError) as caught:
        fetch("file.bin", url, "0" * 32, tmp_path)
    assert all(
        part in str(caught.value) for part in (url, "file.bin", str(tmp_path), "EDGEQ_ASSETS")
    )


def test_a_missing_page_is_not_asked_for_again(server, tmp_path):
    with pytest.raises(EdgeqError, match="HTTP 404"):
        fetch("file.bin", server.url.replace("file.bin", "gone"), "0" * 32, tmp_path)
    assert len(ranges(server)) == 1


def test_assets_serve_files_by_name_wherever_they_lie(server, tmp_path, monkeypatch):
    deep = tmp_path / "assets" / "a" / "b" / "file.bin"
    deep.parent.mkdir(parents=True)
    deep.write_bytes(CONTENT)
    monkeypatch.setenv("EDGEQ_ASSETS", str(tmp_path / "assets"))
    assert fetch("file.bin", server.url, hashlib.md5(CONTENT).hexdigest(), tmp_path / "new") == deep
    assert ranges(server) == [] and not (tmp_path / "new").exists()
    with pytest.raises(EdgeqError, match="file.bin is damaged .*replace it"):
        fetch("file.bin", server.url, "0" * 32, tmp_path / "new")
    assert deep.exists() and asset("other.bin") is None


def test_without_an_official_checksum_the_first_file_is_trusted_and_kept_to(server, tmp_path):
    folder, served = tmp_path / "new", tmp_path / "served" / "file.bin"
    file = fetch("file.bin", server.url, None, folder)
    assert (folder / "file.bin.sha256").read_text() == hashlib.sha256(CONTENT).hexdigest() + "\n"
    assert fetch("file.bin", server.url, None, folder) == file
    file.write_bytes(b"another")
    with pytest.raises(EdgeqError, match="file.bin is damaged or another version .*sha256"):
        fetch("file.bin", server.url, None, folder)
    file.unlink()
    served.write_bytes(b"another")
    with pytest.raises(EdgeqError, match="thrown away"):
        fetch("file.bin", server.url, None, folder)
    assert not file.exists()


def test_a_mirror_stands_in_for_every_address_and_checksums_stay(server, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEQ_MIRROR", server.address + "/deep/")
    official = "http://127.0.0.1:9/elsewhere/other.bin"
    assert (
        fetch("file.bin", official, hashlib.md5(CONTENT).hexdigest(), tmp_path / "new").read_bytes()
        == CONTENT
    )
    with pytest.raises(EdgeqError, match="damaged .*thrown away"):
        fetch("file.bin", official, "0" * 64, tmp_path / "other")
    monkeypatch.setenv("EDGEQ_MIRROR", "mirror.example.org")
    with pytest.raises(
        EdgeqError, match="EDGEQ_MIRROR is 'mirror.example.org', which is no address"
    ):
        fetch("file.bin", official, "0" * 64, tmp_path / "third")


def test_assets_must_be_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEQ_ASSETS", str(tmp_path / "nowhere"))
    with pytest.raises(EdgeqError, match="EDGEQ_ASSETS names .*nowhere"):
        asset("x")


def full_disk(monkeypatch, allowed=0):
    """From now on every file that `downloads` writes takes `allowed` bytes and no more."""

    def opened(path, mode="r", **options):
        file = open(path, mode, **options)
        if "w" in mode or "a" in mode:
            write = file.write
            left = [allowed]

            class Full(io.RawIOBase):
                def write(self, data):
                    left[0] -= len(data)
                    if left[0] < 0:
                        raise OSError(errno.ENOSPC, "No space left on device")
                    return write(data)

                def close(self):
                    file.close()
                    super().close()

            return Full()
        return file

    monkeypatch.setattr(download, "open", opened, raising=False)


def test_a_full_disk_while_downloading(server, tmp_path, monkeypatch):
    full_disk(monkeypatch, 1 << 20)
    with pytest.raises(EdgeqError, match="disk is full: file.bin"):
        fetch("file.bin", server.url, hashlib.md5(CONTENT).hexdigest(), tmp_path)
    assert not (tmp_path / "file.bin").exists()
    monkeypatch.undo()
    assert (
        fetch("file.bin", server.url, hashlib.md5(CONTENT).hexdigest(), tmp_path).read_bytes()
        == CONTENT
    )


def make_tar(path, members, mode="w"):
    """`members`: name → bytes, or TarInfo type with a link name."""
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                archive.addfile(info)
    return path


def make_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda path, members: make_tar(path / "a.tar", members),
        lambda path, members: make_tar(path / "a.tar.gz", members, "w:gz"),
        lambda path, members: make_zip(path / "a.zip", members),
    ],
)
def test_archives_are_unpacked_once(tmp_path, make):
    archive = make(tmp_path, {"cat/1.txt": b"one", "./dog/2.txt": b"two"})
    folder = unpack(archive, tmp_path / "data" / "set")
    assert (folder / "cat" / "1.txt").read_bytes() == b"one" and (
        folder / "dog" / "2.txt"
    ).read_bytes() == b"two"
    (folder / "cat" / "1.txt").write_bytes(b"touched")
    unpack(archive, folder)
    assert (folder / "cat" / "1.txt").read_bytes() == b"touched", "a second call does nothing"
    archive.unlink()
    unpack(make(tmp_path, {"cat/3.txt": b"another version"}), folder)
    assert [path.name for path in (folder / "cat").iterdir()] == ["3.txt"]


@pytest.mark.parametrize("name", ["/etc/evil", "../evil", "a/../../evil", "..\\evil", "C:/evil"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_members_that_lead_outside_are_refused(tmp_path, name, kind):
    members = {"good": b"x", name: b"y"}
    box = tmp_path / "box"
    box.mkdir()
    archive = (make_tar if kind == "tar" else make_zip)(box / f"a.{kind}", members)
    with pytest.raises(EdgeqError, match="evil' leads out"):
        unpack(archive, box / "in" / "folder")
    assert [path for path in box.rglob("*") if path.is_file() and path.suffix != ".lock"] == [
        archive
    ]


@pytest.mark.parametrize(
    "kind",
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.LNKTYPE, "good"),
        (tarfile.CHRTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
def test_links_and_devices_are_refused(tmp_path, kind):
    archive = make_tar(tmp_path / "a.tar", {"good": b"x", "evil": kind})
    with pytest.raises(EdgeqError, match="'evil' is a link or a device"):
        unpack(archive, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("evil")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(EdgeqError, match="'evil' is a link"):
        unpack(tmp_path / "a.zip", tmp_path / "folder")


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "zip"])
def test_damaged_archives_leave_nothing(tmp_path, suffix):
    good = {"a": bytes(range(256)) * 400, "b": b"z" * 5000}
    path = tmp_path / f"a.{suffix}"
    make_zip(path, good) if suffix == "zip" else make_tar(
        path, good, "w:gz" if suffix == "tar.gz" else "w"
    )
    whole = path.read_bytes()
    for content in (b"", b"not an archive", whole[: len(whole) // 3]):
        path.write_bytes(content)
        with pytest.raises(
            EdgeqError, match=f"a.{suffix} .*damaged|a.{suffix} could not be unpacked"
        ):
            unpack(path, tmp_path / "folder")
        assert not (tmp_path / "folder").exists() and not (tmp_path / ".folder.part").exists()


def test_a_full_disk_while_unpacking_leaves_nothing(tmp_path, monkeypatch):
    archive = make_tar(tmp_path / "a.tar", {"a": b"x" * 10, "b": b"y" * 10})
    full_disk(monkeypatch, 5)
    with pytest.raises(EdgeqError, match="disk is full.*a.tar"):
        unpack(archive, tmp_path / "folder")
    assert not (tmp_path / "folder").exists() and not (tmp_path / ".folder.part").exists()


def test_a_folder_of_the_user_is_not_overwritten(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("work")
    with pytest.raises(EdgeqError, match="move it away"):
        unpack(make_tar(tmp_path / "a.tar", {"a": b"x"}), tmp_path / "folder")
    assert (tmp_path / "folder" / "mine").read_text() == "work"
