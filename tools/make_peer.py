"""Make the small peer file that notebook 70 measures by default: another network, another recipe.

It is ours, so that it may lie in the repository, and it stands for a file of somebody else: trained
on 12 × 12 pixels from 0 to 1, quantized to int8, uint8 pixels in and scores out.
"""

import os
import tempfile
from pathlib import Path

from edgeq_lib.compress.quantize import calibration, quantizer
from edgeq_lib.data.dataset import load
from edgeq_lib.data.prepare import prepare
from edgeq_lib.models import training
from edgeq_lib.models.convert import convert
from edgeq_lib.models.preprocessing import PREPROCESSING
from edgeq_lib.models.tf import keras
from edgeq_lib.study import Study

TARGET = Path(__file__).resolve().parents[1] / "studies" / "peers" / "small_digits_int8.tflite"


def main() -> None:
    """Train on the training images of the study `quickstart`, quantize, write the file."""
    layers, preprocess = keras.layers, PREPROCESSING["unit"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"EDGEQ_RUNS": folder, "EDGEQ_PROGRESS": os.devnull}
        study = Study("peer", "01_data")
        prepare(study, "faint_digits", 12)
        study.finish({})
        data = load(study)
        keras.utils.set_random_seed(7)
        model = keras.Sequential(
            [
                keras.Input((12, 12, 3)),
                layers.Conv2D(16, 3, activation="relu"),
                layers.MaxPooling2D(),
                layers.Conv2D(32, 3, activation="relu"),
                layers.Flatten(),
                layers.Dense(len(data.classes), name="logits"),
            ]
        )
        training.fit(
            model,
            data.train,
            data.validation,
            preprocess,
            training.TrainingConfig(epochs=30, learning_rate=2e-3, batch=32, schedule="cosine"),
            folder=Path(folder) / "training",
            key="peer",
        )
        float_file = convert(model)
        ranges = calibration.calibrate(
            float_file, preprocess(data.calibration_images), preprocess.range
        )
        file = quantizer.quantize(float_file, quantizer.scheme("int8_uint8_io"), ranges)
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_bytes(file)
    print(f"{TARGET.name}: {len(file):,} bytes")


if __name__ == "__main__":
    main()
