"""Cats vs Dogs: photos of the Asirra data set."""

from __future__ import annotations

from dataclasses import replace

from edgeq_lib.data.source import (
    DOWNLOADS,
    Source,
    from_assets,
    from_class_folders,
    has_assets,
    official_file,
)


def cats_vs_dogs() -> Source:
    """Find Cats vs Dogs (Elson et al., *Asirra*, CCS 2007).

    Returns:
        The official archive, or the smaller form from `EDGEQ_ASSETS`.

    Raises:
        EdgeqError: When neither can be had.
    """
    parts = "catsdogs_train_600pc_224_q88.tar", "catsdogs_test_400pc_224_q88.tar"
    if has_assets("cats_vs_dogs", *parts):
        roots = dict(zip(("train", "test"), from_assets("cats_vs_dogs", *parts), strict=True))
        return from_class_folders(
            roots,
            "Cats vs Dogs (2,000 photos)",
            form="JPEG of quality 88, 224 × 224",
            origin=", ".join(parts),
            validation=200,
        )
    source = from_class_folders(
        {"train": official_file("cats_vs_dogs") / "PetImages"},
        "Cats vs Dogs",
        form="photos of many sizes",
        origin=DOWNLOADS["cats_vs_dogs"][1],
        validation=0.1,
        test=0.2,
    )
    return replace(source, classes=[name.lower() for name in source.classes])
