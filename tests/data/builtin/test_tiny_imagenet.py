"""Tiny ImageNet from a stand-in for the official archive."""

from image_files import official, png, zip_of

from edgeq_lib.data.dataset import load
from edgeq_lib.data.decode import decode_image
from edgeq_lib.data.prepare import prepare


def test_official_tiny_imagenet(tmp_path, study, monkeypatch):
    root, wnids = "tiny-imagenet-200", [f"n{i:08}" for i in range(4)]
    files = {
        f"{root}/train/{wnid}/images/{wnid}_{i}.JPEG": png(100 * c + i)
        for c, wnid in enumerate(wnids)
        for i in range(3)
    }
    held = {f"val_{i}.JPEG": wnids[3 - i % 4] for i in range(2400)}
    files |= {f"{root}/val/images/{name}": png(1000 + i, (4, 4)) for i, name in enumerate(held)}
    files[f"{root}/val/val_annotations.txt"] = "".join(
        f"{name}\t{wnid}\t0\t0\t62\t62\n" for name, wnid in held.items()
    )
    files[f"{root}/words.txt"] = (
        "n00000000\tfish, sea fish\nn00000001\tcrane\nn00000002\tcrane, machine\n"
    )
    official(monkeypatch, tmp_path, "tiny_imagenet", zip_of(files))
    manifest = prepare(study, "tiny_imagenet", 4, calibration=8)
    assert manifest["classes"] == ["fish", "crane (n00000001)", "crane (n00000002)", "n00000003"]
    assert manifest["splits"]["validation"]["per_class"] == [500] * 4
    assert manifest["splits"]["test"]["per_class"] == [100] * 4
    assert manifest["splits"]["train"]["per_class"] == [3] * 4
    data = load(study)
    first = next(i for i, name in enumerate(held) if held[name] == wnids[0])
    expected = decode_image(png(1000 + first, (4, 4)), (4, 4), 3)[0]
    found = [
        part.labels[i]
        for part in (data.validation, data.test)
        for i in range(len(part.labels))
        if (part.images[i] == expected).all()
    ]
    assert found == [0], "a held-out photo has the label that the annotations give it"
