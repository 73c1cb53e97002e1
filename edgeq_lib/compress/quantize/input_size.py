"""The study's network at another image size: the same weights, so another speed."""

from __future__ import annotations

import numpy as np

from edgeq_lib.compress.quantize import calibration, quantizer
from edgeq_lib.data import dataset
from edgeq_lib.models import zoo
from edgeq_lib.models.convert import convert
from edgeq_lib.models.preprocessing import Preprocessing
from edgeq_lib.models.tf import tf
from edgeq_lib.models.weights import load_float_model
from edgeq_lib.study import Study

CALIBRATION = 16  # images are enough for ranges that only speed depends on


def sizes(study: Study, scales: list[float]) -> list[int]:
    """Return the study's image size times each of `scales`, in pixels.

    [] for a network that did not come from the zoo, whose layers are known at one size only.
    """
    side = study.read("data")["image_size"][0]
    return (
        [round(side * scale) for scale in scales]
        if study.read("baseline")["model"] in zoo.ZOO
        else []
    )


def files_at(study: Study, size: int) -> dict[str, bytes]:
    """Make `float32` and `int8` flatbuffers of the study's network for another image size.

    Made to be timed, not to predict: nothing was trained at this size.

    Args:
        study: The study.
        size: Pixels per side.

    Raises:
        EdgeqError: For a size that the network does not bear.
    """
    baseline, data = study.read("baseline"), dataset.load(study)
    model = zoo.build(
        baseline["model"],
        (size, size, data.train.images.shape[-1]),
        len(data.classes),
        baseline["alpha"],
    )
    model.set_weights(load_float_model(study).get_weights())
    preprocess = Preprocessing(**baseline["preprocessing"])
    resized = tf.image.resize(data.calibration_images[:CALIBRATION], (size, size)).numpy()
    flat = convert(model)
    ranges = calibration.calibrate(flat, preprocess(np.rint(resized)), preprocess.range)
    return {"float32": flat, "int8": quantizer.quantize(flat, quantizer.scheme("int8"), ranges)}
