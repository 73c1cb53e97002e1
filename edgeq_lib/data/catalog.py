"""The data sets that edgeq knows by name, and folders of class folders.

A built-in data set is a function in a file of `data/builtin` that returns a `Source`, and a line in
`SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeq_lib.data.builtin.cats_vs_dogs import cats_vs_dogs
from edgeq_lib.data.builtin.cifar10 import cifar10
from edgeq_lib.data.builtin.digits import digits, faint_digits
from edgeq_lib.data.builtin.imagenet import imagenet_mini, imagenet_nips2017
from edgeq_lib.data.builtin.tiny_imagenet import tiny_imagenet
from edgeq_lib.data.source import Source, from_class_folders, split_roots
from edgeq_lib.files import EdgeqError, home


def find_source(data: str, splits: dict[str, str] | None) -> Source:
    """Find a data set.

    Args:
        data: A name in `SOURCES`, or the path of a folder of class folders.
        splits: Split → its sub-folder, for folders only; None to look for the usual names.

    Returns:
        The data set as it was found.

    Raises:
        EdgeqError: When there is none of that name, or the folder is not as it should be.
    """
    if data in SOURCES:
        if splits:
            raise EdgeqError(
                f"`splits` names sub-folders of a folder, and '{data}' is a data set; leave "
                "`splits` out."
            )
        return SOURCES[data]()
    folder = home() / Path(data).expanduser()
    if not folder.is_dir():
        raise EdgeqError(
            f"There is no data set and no folder '{data}': take one of {', '.join(SOURCES)}, or "
            "give the path of a folder that holds one folder of images per class."
        )
    return from_class_folders(split_roots(folder, splits), folder.name)


SOURCES: dict[str, Callable[[], Source]] = {
    "digits": digits,
    "faint_digits": faint_digits,
    "cifar10": cifar10,
    "cats_vs_dogs": cats_vs_dogs,
    "tiny_imagenet": tiny_imagenet,
    "imagenet_nips2017": imagenet_nips2017,
    "imagenet_mini": imagenet_mini,
}
