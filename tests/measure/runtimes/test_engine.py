"""What engines share: who is missing is named, and predictions keep the images' order."""

import numpy as np
from tiny_files import tiny_files

from edgeq_lib.measure.runtimes.engine import missing, predict


class Echo:
    """A network that answers with the image's first pixel and the negative of it."""

    def __init__(self, files):
        assert files == {"a": b"b"}

    def answer(self, image):
        return np.concatenate([image[:, 0, 0], -image[:, 0, 0]], axis=1)


def test_a_missing_package_is_named():
    assert missing("X", ["numpy"]) == ""
    said = missing("X", ["numpy", "no_such_package"])
    assert said == "X is not installed (no_such_package)."


def test_predictions_keep_the_order_of_the_images():
    images = np.arange(600, dtype=np.uint16).reshape(600, 1, 1, 1)
    told = predict(Echo, {"a": b"b"}, tiny_files()["float32"], images, lambda x: x.astype("f4"))
    assert told[:, 0].tolist() == list(range(600)) and (told[:, 1] == -told[:, 0]).all()
