"""Which way of rounding should data-free files have? A sweep on photos that no study publishes.

Data-free quantization must not choose by photos of its own study, so `20_data_free` has a fixed
way, justified elsewhere: on the original float networks of `covering_sweep` (MobileNetV2's weights
lie on a grid already), files of 8 and 4 bits are made by each row of `squant.METHODS`, biases
corrected from the batch norms, and compared with float32 on official ImageNet validation photos.

Run `EDGEQ_ASSETS=… python tools/rounding_sweep.py`; it writes `figures/data_free_rounding.md`.
"""

from __future__ import annotations

import numpy as np
from covering_sweep import FIGURES, NETWORKS, VALIDATION, file, made_by, photos

from edgeq_lib.compress.quantize import bn_statistics, data_free, squant
from edgeq_lib.compress.quantize.sensitivity import fidelity
from edgeq_lib.files import digest
from edgeq_lib.measure.accuracy import predict_file
from edgeq_lib.models.convert import convert
from edgeq_lib.models.preprocessing import SIGNED
from edgeq_lib.report import render
from edgeq_lib.tflite.runtime import dequantize_array, make_interpreter


def row(name: str, bits: int, method: str, model: bytes, norms: dict, validation: np.ndarray):
    """What the file of one way of rounding keeps of float32's outputs."""
    files = data_free.files_by_rounding(model, norms, SIGNED.range, bits, method)
    int8 = files["int8 activations"]
    detail = make_interpreter(int8).get_output_details()[0]
    outputs = dequantize_array(predict_file(int8, validation, SIGNED), detail)
    kept = fidelity(outputs, predict_file(model, validation, SIGNED))
    print(name, bits, method, kept, flush=True)
    return [name, str(bits), method, f"{kept['agreement']:.1f}", f"{kept['snr']:.2f}"]


def main() -> None:
    """Make, compare and write the page."""
    validation, cells = photos("ilsvrc2012_val_1000_227sq_q88.tar")[:VALIDATION], []
    for name in ("MobileNet 0.25", "EfficientNet-Lite0"):
        weights, build = NETWORKS[name]
        network = build()
        network.load_weights(file(weights))
        model = convert(network)
        norms = bn_statistics.batch_norm_statistics(network, model)
        cells += [
            row(name, bits, method, model, norms, validation)
            for bits in (8, 4)
            for method in squant.METHODS
        ]
    caption = (
        f"Against float32 on {VALIDATION} ILSVRC-2012 validation photos; 4-bit depthwise kernels "
        f"have 8. {made_by('tools/rounding_sweep.py', digest(validation.tobytes()))}"
    )
    headings = ["network", "bits", "rounding", "agreement, %", "SNR, dB"]
    title = "Which way of rounding should data-free files have?"
    page = render.markdown([("title", title), ("table", caption, headings, cells, None)])
    (FIGURES / "data_free_rounding.md").write_text(page)


if __name__ == "__main__":
    main()
