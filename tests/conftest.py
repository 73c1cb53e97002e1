"""What tests share: an empty place for runs, and small models and images that need no download."""

import numpy as np
import pytest

from edgeq_lib.study import Study


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    """No test sees or leaves anything in the checkout's runs."""
    monkeypatch.setenv("EDGEQ_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("EDGEQ_STAGE_KEY", raising=False)
    monkeypatch.setenv("EDGEQ_PROGRESS", str(tmp_path / "progress.json"))
    return tmp_path / "runs"


@pytest.fixture
def study():
    return Study("sample", "03_ptq")


@pytest.fixture(scope="session")
def pictures():
    """512 easy uint8 images, 8 × 8 × 3 in four classes: a bright quarter says which."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 512)
    images = rng.integers(0, 110, (512, 8, 8, 3))
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 100
    return images.astype(np.uint8), labels.astype(np.int64)


@pytest.fixture(scope="session")
def small_net(pictures):
    """A ResNet8 of a quarter of the width, trained on the pictures, with its float flatbuffer."""
    from edgeq_lib.models import zoo
    from edgeq_lib.models.convert import convert
    from edgeq_lib.models.preprocessing import SIGNED
    from edgeq_lib.models.tf import keras

    images, labels = pictures
    keras.utils.set_random_seed(0)
    model = zoo.resnet8((8, 8, 3), 4, alpha=0.25)
    model.compile(
        keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(SIGNED(images), labels, epochs=6, batch_size=32, verbose=0)
    return model, convert(model)
