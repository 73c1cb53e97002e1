"""Files from the network or from a folder on disk: fetched whole, checked, unpacked safely."""

from __future__ import annotations

import errno
import gzip
import hashlib
import http.client
import lzma
import os
import re
import shutil
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from filelock import FileLock

from edgeq_lib.files import EdgeqError, guard_disk, replace_folder, write_bytes
from edgeq_lib.progress import progress

CHUNK = 1 << 20  # bytes, so that progress counts in MiB


def asset(name: str) -> Path | None:
    """Find a file in the folder `EDGEQ_ASSETS` or anywhere below it.

    Args:
        name: The file's name.

    Returns:
        Its path, or None.

    Raises:
        EdgeqError: When the variable names no folder.
    """
    root = os.environ.get("EDGEQ_ASSETS")
    if not root:
        return None
    if not Path(root).is_dir():
        raise EdgeqError(
            f"EDGEQ_ASSETS names '{root}', which is not a folder; correct it or unset it."
        )
    for folder, folders, files in os.walk(root, followlinks=True):
        folders.sort()
        if name in files:
            return Path(folder) / name
    return None


def fetch(name: str, url: str, checksum: str | None, folder: Path) -> Path:
    """Bring a file: from `EDGEQ_ASSETS`, from `folder`, or by download.

    A download that broke off is resumed from its `.part` file, and only a checked file gets its
    final name. Wherever the file comes from, its checksum is verified.

    Args:
        name: The file's name.
        url: Its public address; `EDGEQ_MIRROR` may name another server.
        checksum: The official MD5 (32 hexadecimal digits) or SHA-256 (64). None where the publisher
            states none: then the SHA-256 of what came first is kept beside it (`NAME.sha256`) and
            is in force from then on ("trust on first use").
        folder: Where downloads go.

    Returns:
        The file's path.

    Raises:
        EdgeqError: When the checksum is wrong, when the network fails and when the disk is full.
    """
    target, first_use = folder / name, folder / f"{name}.sha256"
    if checksum is None and first_use.exists():
        checksum = first_use.read_text().strip()
    have = asset(name) or (target if target.exists() else None)
    if have:
        _check(have, checksum, f"delete {have} or replace it")
        return have
    url = mirrored(name, url)
    with guard_disk(name):
        folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{name}.lock"):
        if not target.exists():  # another process may have brought it meanwhile
            part = folder / f"{name}.part"
            _download(name, url, part)
            try:
                _check(
                    part,
                    checksum,
                    f"the download from {url} was thrown away, run the same command again",
                )
            except EdgeqError:
                part.unlink()
                raise
            if checksum is None:
                write_bytes(first_use, (_sum(part, "sha256") + "\n").encode())
            os.replace(part, target)
    return target


def mirrored(name: str, url: str) -> str:
    """Say from where to download a file.

    A mirror holds all files side by side under their own names; checksums stay in force.

    Args:
        name: The file's name.
        url: Its public address.

    Returns:
        `url`, or the file under the address in `EDGEQ_MIRROR`.

    Raises:
        EdgeqError: When the variable holds no address.
    """
    mirror = os.environ.get("EDGEQ_MIRROR", "").rstrip("/")
    if mirror and not mirror.startswith(("http://", "https://")):
        raise EdgeqError(
            f"EDGEQ_MIRROR is '{mirror}', which is no address; give one that starts with http:// "
            "or https://, or unset it."
        )
    return f"{mirror}/{name}" if mirror else url


def _sum(path: Path, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _check(path: Path, checksum: str | None, cure: str) -> None:
    if checksum is None:
        return
    algorithm = {32: "md5", 64: "sha256"}[len(checksum)]
    actual = _sum(path, algorithm)
    if actual != checksum.lower():
        raise EdgeqError(
            f"The file {path.name.removesuffix('.part')} is damaged or another version "
            f"(expected {algorithm} {checksum}, found {actual}); {cure}."
        )


def _download(name: str, url: str, part: Path) -> None:
    """Bring `url` into `part`, going on where it ends.

    A broken connection is taken up again as long as it brings bytes.
    """
    reason = ""
    for _ in range(10):
        before = part.stat().st_size if part.exists() else 0
        try:
            _receive(name, url, part, before)
            return
        except urllib.error.HTTPError as error:
            if (
                error.code == 416 and before
            ):  # nothing past the end of what is there: the checksum will tell
                return
            reason = f"HTTP {error.code} {error.reason}"
            break
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", "") or error) or type(error).__name__
            if not part.exists() or part.stat().st_size <= before:
                break
    raise EdgeqError(
        f"{name} could not be downloaded from {url} ({reason}): put the file into {part.parent} "
        "yourself, "
        "or set EDGEQ_ASSETS to a folder that holds it; a download that broke off is resumed."
    )


def _receive(name: str, url: str, part: Path, start: int) -> None:
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=60) as response:
        resumed = response.status == 206
        length = response.headers.get("Content-Length")
        total = -(-int(length) // CHUNK) if length else None
        received = 0
        with open(part, "ab" if resumed else "wb") as file:
            for block in progress(
                iter(lambda: response.read(CHUNK), b""), f"download {name} (MiB)", total
            ):
                with guard_disk(name):
                    file.write(block)
                    file.flush()
                received += len(block)
    if length and received < int(
        length
    ):  # read() returns short, without an error, when the server hangs up
        raise ConnectionError(f"the connection broke after {start * resumed + received} bytes")


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a tar (plain or compressed) or zip file, whole or not at all.

    Only regular files and folders that stay inside the target are taken.

    Args:
        archive: The file.
        folder: The target; when it was unpacked there before, nothing is done.

    Returns:
        `folder`.

    Raises:
        EdgeqError: For a member that is absolute, holds `..`, is a link or a device; for a damaged
            archive, a full disk, and a folder that something else has filled.
    """
    stamp = f"{archive.name} {archive.stat().st_size} {archive.stat().st_mtime_ns}"
    marker = folder / ".unpacked"
    staging = folder.with_name(f".{folder.name}.part")
    with guard_disk(archive.name):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if marker.exists() and marker.read_text() == stamp:
            return folder
        if folder.exists() and not marker.exists() and any(folder.iterdir()):
            raise EdgeqError(
                f"The folder {folder} was not filled by edgeq, so that {archive.name} is not "
                "unpacked over it; move it away."
            )
        shutil.rmtree(staging, ignore_errors=True)
        try:
            with guard_disk(f"the content of {archive.name}"):
                staging.mkdir()
                _extract(archive, staging)
                (staging / ".unpacked").write_text(stamp)
            replace_folder(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return folder


def _extract(archive: Path, folder: Path) -> None:
    damaged = (
        f"The archive {archive.name} is damaged or no tar or zip file; delete it and run the same "
        "command again."
    )
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                for member in progress(opened.infolist(), f"unpack {archive.name}"):
                    kind = stat.S_IFMT(member.external_attr >> 16)
                    plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
                    with _member(archive, folder, member.filename, plain) as target:
                        if member.is_dir():
                            target.mkdir(parents=True, exist_ok=True)
                        else:
                            with opened.open(member) as content:
                                _write(content, target)
        else:
            with tarfile.open(archive) as tar:
                for part in progress(tar, f"unpack {archive.name}"):
                    plain = part.isfile() or part.isdir()
                    with _member(archive, folder, part.name, plain) as target:
                        file = tar.extractfile(part)
                        if file is None:
                            target.mkdir(parents=True, exist_ok=True)
                        else:
                            _write(file, target)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        gzip.BadGzipFile,
        lzma.LZMAError,
        EOFError,
        zlib.error,
    ):
        raise EdgeqError(damaged) from None
    except RuntimeError:  # what zipfile raises for an encrypted member
        raise EdgeqError(
            f"The archive {archive.name} is encrypted; unpack it yourself and name its folder."
        ) from None


@contextmanager
def _member(archive: Path, folder: Path, name: str, plain: bool) -> Iterator[Path]:
    """Yield where a member may go; raise EdgeqError when it may not, or cannot be written."""
    path = PurePosixPath(name.replace("\\", "/"))
    if not plain or path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
        what = "leads out of its folder" if plain else "is a link or a device"
        raise EdgeqError(
            f"The archive {archive.name} is refused: its member '{name}' {what}; get it from a "
            "source that you trust, or unpack it yourself."
        )
    try:
        yield folder / path
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise EdgeqError(
            f"The member '{name}' of the archive {archive.name} could not be unpacked "
            f"({error.strerror or error}); get the archive anew, or unpack it yourself."
        ) from None


def _write(content: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "wb") as file:
        shutil.copyfileobj(content, file, CHUNK)
