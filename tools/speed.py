"""`make benchmark`: the workbook's own speed on this machine, as ratios measured in one run.
Nothing here is a test.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ["EDGEQ_PROGRESS"] = os.devnull
os.environ["EDGEQ_RUNS"] = tempfile.mkdtemp()

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from edgeq_lib.compress.quantize import (
    calibration,
    converter,
    layerwise_rounding,
    quantized_weights,
    quantizer,
)
from edgeq_lib.data import dataset
from edgeq_lib.data.prepare import prepare
from edgeq_lib.measure import standalone
from edgeq_lib.measure.accuracy import predict_file
from edgeq_lib.measure.latency import measure_latency, versions
from edgeq_lib.models import zoo
from edgeq_lib.models.convert import convert
from edgeq_lib.models.graph import fold_batch_norms
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.report import render
from edgeq_lib.study import Study
from edgeq_lib.tflite.inspect import inspect_file
from edgeq_lib.tflite.rewrite import as_dense
from edgeq_lib.tflite.runtime import make_interpreter, run_images

IMAGES = 32
LOW_BITS = {"efficientnetv2b0": {}, "mobilenetv2": {}, "mobilenet": {"alpha": 0.75}}
PAGE = Path(__file__).resolve().parents[1] / "figures" / "low_bit_speed.md"


def clock(work) -> tuple[float, object]:
    """Seconds that `work` takes, and what it returns."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def making_variants() -> bytes:
    """All schemes of 03_ptq from one float flatbuffer, against TensorFlow's converter called scheme
    by scheme.
    """
    model = zoo.build("efficientnetv2b0", (224, 224, 3), 1000)
    images = np.random.default_rng(0).uniform(-1, 1, (IMAGES, 224, 224, 3)).astype(np.float32)
    kept = {}

    def ours() -> None:
        kept["float32"] = convert(model)
        ranges = calibration.calibrate(kept["float32"], images, (-1.0, 1.0))
        for name, spec in quantizer.SCHEMES.items():
            kept[name] = quantizer.quantize(kept["float32"], spec, ranges)

    taken, _ = clock(ours)
    print(
        f"03_ptq, EfficientNetV2B0 at 224, {IMAGES} calibration images: float32 and "
        f"{len(kept) - 1} schemes in {taken:.0f} s",
        flush=True,
    )
    # int16x8 is left out: what the converter makes of it here is refused by the runtime.
    rivals = {
        name: spec
        for name, spec in quantizer.SCHEMES.items()
        if spec.converter and spec.activations != 16
    }
    single = {"float32": clock(lambda: convert(model))[0]}
    for name, spec in rivals.items():
        single[name] = clock(
            lambda spec=spec: converter.quantize_with_converter(model, spec, images)
        )[0]
        print(f"  from Keras, {name}: {single[name]:.0f} s", flush=True)
    mean = statistics.mean(single.values())
    print(
        f"  ratio for the {len(single)} that the converter can make, ours making all {len(kept)}: "
        f"{taken / sum(single.values()):.2f}"
    )
    print(f"  ratio a variant: {taken / len(kept) / mean:.2f} (target ≤ 0.20)")
    return kept["int8"]


def evaluating(model: bytes) -> None:
    """2,000 images through `predict`, against the usual loop over one interpreter, turn about."""
    images = np.random.default_rng(0).integers(0, 256, (2000, 224, 224, 3), dtype=np.uint8)
    ratios = []
    for _ in range(3):
        loop, plain = clock(
            lambda: np.concatenate(
                [
                    run_images(interpreter, SIGNED(images[start : start + 1]))
                    for interpreter in [make_interpreter(model)]
                    for start in range(len(images))
                ]
            )
        )
        ours, found = clock(lambda: predict_file(model, images, SIGNED))
        if not np.array_equal(plain, found):
            sys.exit("the predictions differ")
        ratios.append(loop / ours)
    print(
        f"evaluation of 2,000 images on {os.cpu_count()} cores, predictions equal: "
        f"{statistics.median(ratios):.2f} × the "
        f"usual loop ({min(ratios):.2f} … {max(ratios):.2f}; target ≥ 1.7)"
    )


def decoding() -> None:
    """The data of a study, prepared the first time and the second."""
    study = Study("speed", "01_data")
    first, _ = clock(lambda: prepare(study, "digits", 96))
    second, _ = clock(lambda: prepare(study, "digits", 96))
    loaded, _ = clock(lambda: dataset.load(study))
    print(
        f"decoding once a study: {first:.1f} s the first time, {second:.2f} s again, "
        f"{loaded * 1e3:.0f} ms a later stage"
    )


def low_bits() -> pd.DataFrame:
    """Weights of 8, 4 and 2 bits at 224 pixels and 1,000 classes, one thread, interleaved; random
    weights, which neither size nor speed depend on. Written to `figures/low_bit_speed.md`.
    """
    rows = []
    for name, options in LOW_BITS.items():
        network = fold_batch_norms(zoo.build(name, (224, 224, 3), 1000, **options))
        flat = convert(network)
        dense, images = (
            as_dense(flat),
            np.random.default_rng(0).uniform(-1, 1, (4, 224, 224, 3)).astype(np.float32),
        )
        ranges = calibration.calibrate(flat, images, (-1.0, 1.0))
        files = {
            "float32": flat,
            "int8": quantizer.quantize(flat, quantizer.scheme("int8"), ranges),
        }
        for bits, classifier in ((4, 8), (4, 4), (2, 4)):
            widths = layerwise_rounding.default_widths(dense, bits=bits, classifier=classifier)
            files[f"{bits} bits, classifier {classifier}"] = quantized_weights.to_file(
                dense, quantized_weights.round_all_to_nearest(dense, ranges, widths), ranges
            )
        paths = {
            label: Path(os.environ["EDGEQ_RUNS"]) / f"{name}_{number}.tflite"
            for number, label in enumerate(files)
        }
        for label, path in paths.items():
            path.write_bytes(files[label])
        timed = measure_latency(paths, 1, 20.0, "int8")
        for label, file in files.items():
            report, ratio = inspect_file(file), timed[label]
            rows.append(
                {
                    "network": name,
                    "weights": label,
                    "MB": len(file) / 1e6,
                    "integer only": report["integer_only"],
                    "ops": sum(report["ops"].values()),
                    "ms": ratio["p50"],
                    "× int8": ratio["ratio"],
                    "from": ratio["ratio_low"],
                    "to": ratio["ratio_high"],
                }
            )
        print(pd.DataFrame(rows[-len(files) :]).round(3).to_string(index=False), flush=True)
    return pd.DataFrame(rows)


def publish(rows: pd.DataFrame) -> None:
    """The table as a page, with what it was measured on and with."""
    machine, installed = standalone.describe_machine(), versions()
    caption = (
        "Random weights. One thread, files in turn, ratios of neighbours in time with their 95 % "
        f"interval. Made by `make benchmark` on {machine['cpu']} ({', '.join(machine['flags'])}), "
        f"{machine['cores']} cores; "
        f"{', '.join(f'{name} {found}' for name, found in installed.items())}."
    )
    cells = [
        [f"{value:.3f}" if isinstance(value, float) else str(value) for value in row]
        for row in rows.to_numpy()
    ]
    PAGE.write_text(
        render.markdown(
            [
                ("title", "Size and latency of low-bit files at 224 pixels and 1,000 classes"),
                ("table", caption, [*rows], cells, None),
            ]
        )
    )


if __name__ == "__main__":
    print(f"edgeq's own speed on {standalone.describe_machine()}")
    if "low_bits" not in sys.argv:
        decoding()
        evaluating(making_variants())
    publish(low_bits())
