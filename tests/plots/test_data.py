"""Figures of data and training."""

import numpy as np
import pytest
from plot_rows import check_texts

from edgeq_lib.plots.data import plot_class_balance, plot_learning_curves, plot_samples


@pytest.mark.parametrize("channels", [1, 3])
def test_sample_grid(channels):
    images = np.random.default_rng(0).integers(0, 256, (11, 8, 8, channels), dtype=np.uint8)
    figure = plot_samples(images, np.arange(11) % 2, ["a", "a class with a very long name"])
    assert len(figure.axes) == 11
    assert {axes.get_title() for axes in figure.axes} == {"a", "a class with…"}


@pytest.mark.parametrize("classes", [2, 12, 30, 200])
def test_class_balance(classes):
    counts = np.arange(classes).tolist()
    splits = {name: {"per_class": counts} for name in ("train", "validation", "test")}
    manifest = {"classes": [f"class {index}" for index in range(classes)], "splits": splits}
    figure = plot_class_balance(manifest)
    check_texts(figure)
    assert len(figure.axes) == (3 if classes > 40 else 1)
    if classes <= 40:
        assert len(figure.axes[0].patches) == 3 * classes


@pytest.mark.parametrize("epochs", [0, 1, 20])
def test_learning_curves(epochs):
    history = [
        {"loss": 1 / (epoch + 1), "accuracy": 0.5, "val_loss": 2.0, "val_accuracy": epoch / 20}
        for epoch in range(epochs)
    ]
    figure = plot_learning_curves(history)
    check_texts(figure)
    assert len(figure.axes) == 2
    if epochs > 1:
        words = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert "best epoch (19)" in words
