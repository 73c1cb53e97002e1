"""Tiny-ImageNet: 64 × 64 photos in 200 classes."""

from __future__ import annotations

from dataclasses import replace

from edgeq_lib.data.source import (
    DOWNLOADS,
    Item,
    Source,
    from_assets,
    from_class_folders,
    has_assets,
    official_file,
    readable_names,
)
from edgeq_lib.files import read_json


def tiny_imagenet() -> Source:
    """Find Tiny ImageNet (Le and Yang, *Tiny ImageNet visual recognition challenge*, 2015).

    Returns:
        The official archive, or the smaller form from `EDGEQ_ASSETS`.

    Raises:
        EdgeqError: When neither can be had.
    """
    parts = "tiny_imagenet_train_60pc.tar", "tiny_imagenet_val_40pc.tar"
    facts = {"form": "JPEG, 64 × 64", "validation": 2000, "validation_from": "test"}
    if has_assets("tiny_imagenet", *parts, "classes.json"):
        train, held, named = from_assets("tiny_imagenet", *parts, "classes.json")
        source = from_class_folders(
            {"train": train / "train", "test": held / "val"},
            "Tiny-ImageNet (60 + 40 images per class)",
            origin=", ".join(parts),
            **facts,
        )
        return replace(source, classes=readable_names(source.classes, dict(read_json(named))))
    folder = official_file("tiny_imagenet") / "tiny-imagenet-200"
    source = from_class_folders(
        {"train": folder / "train"}, "Tiny-ImageNet", origin=DOWNLOADS["tiny_imagenet"][1], **facts
    )
    rows = [
        line.split("\t")
        for line in (folder / "val" / "val_annotations.txt").read_text().splitlines()
    ]
    test = [
        Item(f"val/{row[0]}", folder / "val" / "images" / row[0], source.classes.index(row[1]))
        for row in rows
    ]
    words = dict(line.split("\t", 1) for line in (folder / "words.txt").read_text().splitlines())
    return replace(
        source, classes=readable_names(source.classes, words), pools={**source.pools, "test": test}
    )
