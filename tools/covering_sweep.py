"""How much of the calibration images should an activation range cover? A sweep on validation alone.

`calibration.covering` holds a share of the images in full, 98 % by default. That default was once
picked on images some of which test a published study. Here it stands trial on photos and networks
that no published study scores or ships:

1. Three networks with their original ImageNet weights: MobileNet 0.25, MobileNetV2 1.0 (whose
   weights lie on an int8 grid, so that activation ranges are all that can lose) and
   EfficientNet-Lite0.
2. Three calibration sets, drawn from one photo per class; shares from 90 to 100 %.
3. Plain int8 files, compared with float32 on the first of 1,000 official validation photos: top-1
   agreement, and the signal-to-noise ratio of the outputs, which tells closer files apart.

Run `EDGEQ_ASSETS=… python tools/covering_sweep.py`; it writes `figures/covering_sweep.md`.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["EDGEQ_PROGRESS"] = os.devnull

import numpy as np
import pandas as pd

from edgeq_lib.compress.quantize import calibration, quantizer
from edgeq_lib.compress.quantize.sensitivity import fidelity
from edgeq_lib.data.decode import decode_image
from edgeq_lib.data.download import asset
from edgeq_lib.files import EdgeqError, digest
from edgeq_lib.measure import standalone
from edgeq_lib.measure.accuracy import predict_file
from edgeq_lib.measure.latency import versions
from edgeq_lib.models import zoo
from edgeq_lib.models.convert import convert
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.report import render
from edgeq_lib.tflite.runtime import dequantize_array, make_interpreter

SHARES = (0.9, 0.94, 0.96, 0.98, 0.99, 0.995, 1.0)
DRAWS = (0, 1, 2)
CALIBRATION, VALIDATION, SIZE = 200, 300, (224, 224)
FIGURES = Path(__file__).resolve().parents[1] / "figures"


def file(name: str) -> Path:
    """A file of EDGEQ_ASSETS."""
    path = asset(name)
    if path is None:
        raise EdgeqError(f"{name} is missing; set EDGEQ_ASSETS to the folder that holds it.")
    return path


def lite0() -> Any:
    """EfficientNet-Lite0 from the text that comes with its weights."""
    builder = file("efficientnet_lite0_224_imagenet.builder.txt")
    return runpy.run_path(str(builder))["efficientnet_lite0"]()


NETWORKS: dict[str, tuple[str, Callable[[], Any]]] = {
    "MobileNet 0.25": (
        "mobilenet_v1_0.25_224_imagenet.h5",
        lambda: zoo.build("mobilenet", (*SIZE, 3), 1000, alpha=0.25),
    ),
    "MobileNetV2 1.0": (
        "mobilenet_v2_1.0_224_imagenet_dequantised.weights.h5",
        lambda: zoo.build("mobilenetv2", (*SIZE, 3), 1000),
    ),
    "EfficientNet-Lite0": ("efficientnet_lite0_224_imagenet.weights.h5", lite0),
}


def photos(archive: str) -> np.ndarray:
    """The photos of an archive in the order of their names, uint8 (n, height, width, 3)."""
    with tarfile.open(file(archive)) as members:
        files = sorted((member for member in members if member.isfile()), key=lambda m: m.name)
        contents = [members.extractfile(member).read() for member in files]  # type: ignore[union-attr]
    return np.stack([decode_image(content, SIZE, 3, "crop")[0] for content in contents])


def sweep(model: bytes, pool: np.ndarray, validation: np.ndarray) -> list[dict[str, float]]:
    """A row per draw and share: agreement and snr of the int8 file."""
    reference, rows = predict_file(model, validation, SIGNED), []
    for draw in DRAWS:
        drawn = np.random.default_rng(draw).choice(len(pool), CALIBRATION, replace=False)
        observed = calibration.observe(model, SIGNED(pool[np.sort(drawn)]), histogram=False)
        for share in SHARES:
            calibration.SUMMARIES["swept"] = lambda seen, share=share: calibration.covering(
                seen, share
            )
            ranges = calibration.summarize(observed, "swept", SIGNED.range)
            int8 = quantizer.quantize(model, quantizer.scheme("int8"), ranges)
            detail = make_interpreter(int8).get_output_details()[0]
            outputs = dequantize_array(predict_file(int8, validation, SIGNED), detail)
            rows.append({"draw": draw, "share": share, **fidelity(outputs, reference)})
    return rows


def main() -> None:
    """Sweep each network and write the page."""
    pool = photos("imagenet1000_one_per_class_256sq_q90.tar")
    validation = photos("ilsvrc2012_val_1000_227sq_q88.tar")[:VALIDATION]
    rows = []
    for name, (weights, build) in NETWORKS.items():
        network = build()
        network.load_weights(file(weights))
        rows += [{"network": name, **row} for row in sweep(convert(network), pool, validation)]
    table = pd.DataFrame(rows)
    print(table.groupby(["network", "share"], sort=False)[["agreement", "snr"]].mean().round(2))
    (FIGURES / "covering_sweep.md").write_text(
        page(table, digest(pool.tobytes() + validation.tobytes()))
    )


def made_by(tool: str, fingerprint: str) -> str:
    """The sentence that says how a page was made, and on what."""
    git = ["git", "-C", str(FIGURES), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    machine, installed = standalone.describe_machine(), versions()
    return (
        f"Made by `python {tool}` at {commit}, photos {fingerprint[:12]}, on {machine['cpu']} "
        f"({', '.join(machine['flags'])}); "
        f"{', '.join(f'{name} {version}' for name, version in installed.items())}."
    )


def page(table: pd.DataFrame, fingerprint: str) -> str:
    """The result as Markdown: mean over the draws, smallest and largest."""
    caption = (
        f"int8 against float32 on {VALIDATION} ILSVRC-2012 validation photos: mean over "
        f"{len(DRAWS)} draws of {CALIBRATION} calibration photos [smallest, largest]. "
        + made_by("tools/covering_sweep.py", fingerprint)
    )
    cells = []
    for (network, share), group in table.groupby(["network", "share"], sort=False):
        figures = [
            f"{group[column].mean():.{digits}f} [{group[column].min():.{digits}f}, "
            f"{group[column].max():.{digits}f}]"
            for column, digits in (("agreement", 1), ("snr", 2))
        ]
        cells.append([network, f"{100 * share:g}", *figures])
    headings = ["network", "images covered, %", "agreement, %", "SNR, dB"]
    return render.markdown(
        [
            ("title", "Which share of the calibration images should a range cover?"),
            ("table", caption, headings, cells, None),
        ]
    )


if __name__ == "__main__":
    main()
