"""The study's network at another image size: the same weights, other feature maps, so another speed."""

from __future__ import annotations

import numpy as np

from edgeq_lib import datasets, keras_files, litert, zoo
from edgeq_lib.compress import ptq
from edgeq_lib.quiet_tensorflow import tf
from edgeq_lib.study import Study

CALIBRATION = 16  # images are enough for ranges that only speed depends on


def sizes(study: Study, scales: list[float]) -> list[int]:
    """The study's image size times each of `scales`, in pixels; [] for a network that did not come from the zoo, whose layers
    are known at one size only."""
    side = study.read("data")["image_size"][0]
    return [round(side * scale) for scale in scales] if study.read("baseline")["model"] in zoo.ZOO else []


def files_at(study: Study, size: int) -> dict[str, bytes]:
    """`float32` and `int8` (PTQ) flatbuffers of the study's network for images of `size` × `size` pixels.

    Made to be timed, not to predict: nothing was trained at this size. Raises EdgeqError for a size that the network does
    not bear.
    """
    baseline, data = study.read("baseline"), datasets.load(study)
    model = zoo.build(baseline["model"], (size, size, data.train.images.shape[-1]), len(data.classes), baseline["alpha"])
    model.set_weights(keras_files.shelved_model(study).get_weights())
    preprocess = zoo.Preprocessing(**baseline["preprocessing"])
    resized = tf.image.resize(data.calibration_images[:CALIBRATION], (size, size)).numpy()
    flat = litert.convert(model)
    ranges = ptq.calibrate(flat, preprocess(np.rint(resized)), preprocess.range)
    return {"float32": flat, "int8": ptq.quantize(flat, ptq.scheme("int8"), ranges)}
