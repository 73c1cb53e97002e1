"""A data set as it was found: named pools of images, nothing decoded yet."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgeq_lib.data.decode import SUFFIXES, is_image
from edgeq_lib.data.download import asset, fetch, unpack
from edgeq_lib.files import EdgeqError, home

SPLITS = ("train", "validation", "test")
HIDDEN, COMPANION, UNKNOWN = IGNORED = (
    "hidden file or folder",
    "text, sound or film beside the photos",
    "unknown suffix, and no image inside that could be read",
)
# What systems put into folders, in small letters: files and folders that nobody sees as photos.
SYSTEM_NAMES = {
    *("__macosx", "__pycache__", "#recycle", "#snapshot", "$recycle.bin", "lost+found"),
    *("system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
}
# File name, address, and the checksum that its publisher or (all but CIFAR-10) its widely used
# loaders state.
DOWNLOADS = {
    "cifar10": (
        "cifar-10-python.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
    ),
    "cats_vs_dogs": (
        "kagglecatsanddogs_5340.zip",
        "https://download.microsoft.com/download/3/E/1/"
        "3E1C3F21-ECDB-4869-8368-6DEBA77B919F/kagglecatsanddogs_5340.zip",
        "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
    ),
    "tiny_imagenet": (
        "tiny-imagenet-200.zip",
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        "90528d7ca1a48142e341f4ef8d21d0de",
    ),
}


class Item(NamedTuple):
    """One image before decoding."""

    name: str  # says to the user which it is, without machine paths
    content: bytes | Path | np.ndarray  # a file's bytes, its path, or pixels
    label: int


@dataclass(frozen=True)
class Source:
    """A data set as it was found: its pools of items, and how it is split by default."""

    name: str  # as published figures name it
    form: str  # what the images are
    origin: str  # where they come from
    classes: list[str]
    pools: dict[str, list[Item]]  # "train" always; "validation" and "test" where the set has them
    state: Any  # changes when the files change
    validation: float | int = 0.15
    test: float | int = 0.25
    validation_from: str = "train"  # the pool out of which validation is taken
    aspect: str = "stretch"
    sparse: bool = False  # classes may be absent (fewer photos than classes)
    ignored: dict[str, list[str]] = field(default_factory=dict)  # names of files, by kind (IGNORED)


def increment(counts: dict[str, int], what: str) -> None:
    """Add one to a count.

    Args:
        counts: What is counted → how often; changed in place.
        what: The key.
    """
    counts[what] = counts.get(what, 0) + 1


def first_names(names: Sequence[str]) -> str:
    """Join the first five names for a sentence.

    Args:
        names: All of them.

    Returns:
        Such as `'a', 'b', 'c', 'd', 'e' and 3 more`.
    """
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(f"'{name}'" for name in names[:5]) + more


def split_roots(folder: Path, splits: dict[str, str] | None) -> dict[str, Path]:
    """Find which sub-folder is which split.

    Args:
        folder: The data set's folder.
        splits: Split → name of its sub-folder, or None: then the usual names are looked for. A lone
            `val` beside `train` is what was held out, so it is the test set.

    Returns:
        Split → folder; "train" always.

    Raises:
        EdgeqError: When `splits` names what is no split or no folder.
    """
    if splits:
        if "train" not in splits or not set(splits) <= set(SPLITS):
            raise EdgeqError(
                f"`splits` names {', '.join(splits)}; it must map train, and may map validation "
                "and test, to sub-folders."
            )
        roots = {split: folder / name for split, name in splits.items()}
        for split, root in roots.items():
            if not root.is_dir():
                raise EdgeqError(
                    f"The folder '{splits[split]}' of the split {split} does not exist in "
                    f"'{folder.name}'; correct `splits`."
                )
        return roots
    inside = {child.name.lower(): child for child in subfolders(folder)}
    if "train" not in inside or not subfolders(inside["train"]):
        return {"train": folder}
    roots = {"train": inside["train"]}
    held = next((inside[name] for name in ("validation", "valid", "val") if name in inside), None)
    if "test" in inside:
        if held:
            roots["validation"] = held
        roots["test"] = inside["test"]
    elif held:
        roots["test"] = held
    return roots


def is_hidden(name: str, folder: bool) -> bool:
    """Tell whether a file or folder is one of a system's or program's own, and no photo or class.

    Args:
        name: Its name. Hidden are `.name`, folders `@name` (previews of storage systems), and
            `SYSTEM_NAMES`.
        folder: Whether it is a folder.
    """
    return name.startswith((".", "@") if folder else ".") or name.lower() in SYSTEM_NAMES


def subfolders(folder: Path) -> list[Path]:
    """List the visible sub-folders of a folder.

    Args:
        folder: The folder.

    Returns:
        Their paths, sorted by name; as numbers (2 before 10) where all names are numbers.
    """
    children = sorted(
        child for child in folder.iterdir() if child.is_dir() and not is_hidden(child.name, True)
    )
    if all(child.name.isdecimal() for child in children):
        children.sort(key=lambda child: int(child.name))
    return children


def from_class_folders(roots: dict[str, Path], name: str, **facts: Any) -> Source:
    """Make a source from folders that hold one folder per class.

    Args:
        roots: Split → its folder, see `split_roots`.
        name: The data set's name.
        **facts: Further fields of `Source`.

    Returns:
        The source; its classes stand in alphabetical order, or in that of numbers (`subfolders`).

    Raises:
        EdgeqError: When there are fewer than two classes, when the splits differ in classes, and
            when a class has no image.
    """
    classes = [folder.name for folder in subfolders(roots["train"])]
    if len(classes) < 2:
        has = f"only the class folder '{classes[0]}'" if classes else "no class folders"
        raise EdgeqError(
            f"The folder '{roots['train'].name}' holds {has}; put the images of each class, two "
            "classes at least, into a folder of its own."
        )
    pools: dict[str, list[Item]] = {}
    ignored: dict[str, list[str]] = {}
    state: list = []
    for split, root in roots.items():
        own = {folder.name for folder in subfolders(root)}
        if own != set(classes):
            only = [
                f"{first_names(sorted(names))} only in {where}"
                for names, where in ((set(classes) - own, "train"), (own - set(classes), split))
                if names
            ]
            raise EdgeqError(
                f"The class folders of '{name}' differ between train and {split}: "
                f"{', '.join(only)}; make them the same."
            )
        pools[split] = []
        stray = sorted(
            child.name for child in root.iterdir() if child.is_dir() and is_hidden(child.name, True)
        )
        if stray:
            ignored.setdefault(HIDDEN, []).extend(f"{root.name}/{name}" for name in stray)
        for label, class_name in enumerate(classes):
            before = len(pools[split])
            for path, hidden in files_below(root / class_name):
                item = Item(f"{root.name}/{path.relative_to(root).as_posix()}", path, label)
                why = HIDDEN if hidden else _why_no_photo(path)
                if why:
                    ignored.setdefault(why, []).append(item.name)
                    continue
                pools[split].append(item)
                state.append([item.name, *file_state(path)])
            if len(pools[split]) == before:
                raise EdgeqError(
                    f"The class folder '{root.name}/{class_name}' holds no image; put some there, "
                    "or remove that class everywhere."
                )
    facts = {"form": "image files", "origin": f"folder {name}", **facts}
    return Source(name=name, classes=classes, pools=pools, state=state, ignored=ignored, **facts)


def files_below(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Walk through the files of a folder and all below it.

    Args:
        folder: The folder.

    Yields:
        Path of a file, of any kind, in a fixed order; and whether it is hidden itself or lies in a
        hidden folder.
    """
    for path, folders, files in os.walk(folder):
        folders.sort()
        inside = Path(path).relative_to(folder).parts
        below_hidden = any(is_hidden(part, True) for part in inside)
        for file in sorted(files):
            yield Path(path) / file, below_hidden or is_hidden(file, False)


def image_files(folder: Path) -> Iterator[Path]:
    """Walk through the files of a folder and all below it that are not hidden.

    Args:
        folder: The folder.

    Yields:
        Paths of files, of any kind, in a fixed order.
    """
    yield from (path for path, hidden in files_below(folder) if not hidden)


def _why_no_photo(path: Path) -> str | None:
    """None for a photo, or what the file is (of `IGNORED`); decided by content where unknown."""
    if path.suffix.lower() in SUFFIXES or is_image(path):
        return None
    kind = (mimetypes.guess_type(path.name)[0] or "").split("/")[0]
    if kind in ("text", "audio", "video"):
        return COMPANION
    if kind == "image":
        return UNKNOWN
    try:
        with open(path, "rb") as file:
            text = file.read(1024).decode("utf-8", errors="ignore")
    except OSError:
        return UNKNOWN
    readable = text.isprintable() or all(sign.isprintable() or sign.isspace() for sign in text)
    return COMPANION if text and readable and "<svg" not in text else UNKNOWN


def file_state(path: Path) -> list:
    """Describe a file so that a change of its content shows.

    Args:
        path: The file.

    Returns:
        Name, bytes, and time of the last change in nanoseconds.
    """
    facts = path.stat()
    return [path.name, facts.st_size, facts.st_mtime_ns]


def official_file(key: str) -> Path:
    """Fetch and unpack the official archive of a data set.

    Args:
        key: A key of `DOWNLOADS`.

    Returns:
        The folder with its content.

    Raises:
        EdgeqError: See `download.fetch` and `download.unpack`.
    """
    folder = home() / "data" / key
    name, url, checksum = DOWNLOADS[key]
    return unpack(fetch(name, url, checksum, folder), folder / "unpacked")


def from_assets(key: str, *names: str) -> list[Path]:
    """Find files that only `EDGEQ_ASSETS` can bring.

    Args:
        key: The data set, as messages name it.
        *names: The files.

    Returns:
        Their paths in this order; of a `.tar`, the folder with its content.

    Raises:
        EdgeqError: When one is missing.
    """
    paths = {name: asset(name) for name in names}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        raise EdgeqError(
            f"The data set '{key}' needs {', '.join(missing)}, which no public address offers in "
            "this form (data/README.md names the sources); set EDGEQ_ASSETS to a folder that "
            "holds it."
        )
    return [
        unpack(path, home() / "data" / key / path.stem) if path.suffix == ".tar" else path
        for path in paths.values()
        if path is not None
    ]


def has_assets(key: str, *names: str) -> bool:
    """Tell whether `EDGEQ_ASSETS` brings a smaller form of a data set, and not the official file.

    Args:
        key: The data set, a key of `DOWNLOADS`.
        *names: The files of the smaller form.
    """
    return all(map(asset, names)) and not asset(DOWNLOADS[key][0])


def readable_names(wnids: list[str], words: dict[str, str]) -> list[str]:
    """Name classes by words instead of WordNet ids.

    Args:
        wnids: The ids, in the order of the classes.
        words: Id → its words, separated by commas.

    Returns:
        The first word of each class; with the id where two classes have the same.
    """
    short = [words.get(wnid, wnid).split(",")[0].replace("_", " ") for wnid in wnids]
    return [
        f"{word} ({wnid})" if short.count(word) > 1 else word
        for word, wnid in zip(short, wnids, strict=True)
    ]
