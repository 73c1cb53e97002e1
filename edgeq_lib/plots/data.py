"""Figures of the data and of training: images per class, samples, learning curves.

Each function returns a matplotlib Figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from edgeq_lib.plots.style import FAINT, TAKEN, WIDTH, Picture, legend_below, new_figure, styled
from edgeq_lib.records import best_epoch

SHADES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")  # of splits
READABLE = 40  # classes up to which each gets a bar


@styled
def plot_class_balance(manifest: Mapping[str, Any]) -> Figure:
    """Draw images per class in each split; past 40 classes a histogram, since no bar could be read.

    Args:
        manifest: The record of the data: classes, and splits with per_class (counts).
    """
    splits = {name: split["per_class"] for name, split in manifest["splits"].items()}
    if len(manifest["classes"]) > READABLE:
        return _balance_histograms(splits)
    return _balance_bars(splits, manifest["classes"])


def _balance_histograms(splits: Mapping[str, Sequence[int]]) -> Figure:
    figure = Picture(figsize=(WIDTH, 2.6), layout="constrained")
    panels = figure.subplots(1, len(splits), squeeze=False)[0]
    for axes, shade, (name, counts) in zip(panels, SHADES * 2, splits.items(), strict=False):
        sns.histplot(x=counts, ax=axes, color=shade, discrete=np.ptp(counts) < 15, linewidth=0)
        axes.set(xlabel="Images per class", ylabel="Classes", title=f"{name} ({sum(counts):,})")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4, min_n_ticks=1))
    return figure


def _balance_bars(splits: Mapping[str, Sequence[int]], classes: Sequence[str]) -> Figure:
    across = max(map(len, classes)) > 8 or len(classes) > 14  # long names need rows
    figure, axes = new_figure(1.4 + (0.26 * len(classes) if across else 1.6))
    thickness, handles = 0.8 / len(splits), []
    for index, (name, counts) in enumerate(splits.items()):
        positions = np.arange(len(classes)) + (index - (len(splits) - 1) / 2) * thickness
        look: dict[str, Any] = {
            "color": SHADES[index % 4],
            "linewidth": 0,
            "label": f"{name} ({sum(counts):,})",
        }
        draw = axes.barh if across else axes.bar
        handles.append(draw(positions, counts, thickness, **look))
    if across:
        axes.set_yticks(range(len(classes)), [_short(name, 28) for name in classes])
        axes.set_ylim(len(classes) - 0.4, -0.6)
        axes.set_xlabel("Images")
    else:
        axes.set_xticks(range(len(classes)), classes)
        axes.set_ylabel("Images")
    axes.grid(visible=False, axis="y" if across else "x")
    axes.set_title("Images per class")
    legend_below(figure, handles, len(splits))
    return figure


@styled
def plot_samples(images: np.ndarray, labels: Sequence[int], classes: Sequence[str]) -> Figure:
    """Draw a grid of images, with the name of the class above each.

    Args:
        images: uint8 (n, height, width, 1 or 3).
        labels: Index of the class of each, (n,).
        classes: Names of the classes.
    """
    across = max(1, min(8, len(images)))
    down = -(-len(images) // across)
    figure = Picture(figsize=(WIDTH * across / 8, 1.12 * down), layout="constrained")
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        axes = figure.add_subplot(down, across, index + 1)
        axes.imshow(
            image.squeeze(),
            cmap="gray",
            vmin=0,
            vmax=255,
            interpolation="nearest" if max(image.shape[:2]) < 48 else "antialiased",
        )
        axes.set_title(
            _short(str(classes[int(label)]), 13),
            fontsize=7.5,
            fontweight="normal",
            loc="center",
            pad=2,
        )
        axes.axis("off")
    return figure


@styled
def plot_learning_curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Draw loss and accuracy by epoch, training dashed and validation solid.

    The best epoch is marked (see `records.best_epoch`). Epoch 0 is the network as it came.

    Args:
        history: A record per epoch, see `models.training.fit`.
    """
    figure = Picture(figsize=(WIDTH, 2.9), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, key, title in zip(panels, ("loss", "accuracy"), ("Loss", "Accuracy, %"), strict=True):
        scale = 100 if key == "accuracy" else 1
        train, validation = (_series(history, name, scale) for name in (key, f"val_{key}"))
        few: dict[str, Any] = {
            "marker": "o" if len(history) < 4 else "",
            "markersize": 4,
            "linewidth": 1.6,
        }
        axes.plot(train, linestyle=(0, (4, 2)), color=FAINT, label="train", **few)
        axes.plot(validation, color=TAKEN, label="validation", **few)
        best = best_epoch(history)
        if best is not None and len(history) > 1:
            axes.plot(
                best,
                validation[best],
                marker="o",
                markersize=7,
                markerfacecolor="white",
                color=TAKEN,
                markeredgewidth=1.6,
                linestyle="",
                label=f"best epoch ({best})",
            )
        axes.set(xlabel="Epoch", title=title, xlim=(-0.5, max(len(history), 1) - 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    panels[0].legend(frameon=False)
    return figure


def _series(history: Sequence[Mapping[str, float]], name: str, scale: float) -> list[float]:
    values = (epoch.get(name) for epoch in history)
    return [np.nan if value is None else scale * value for value in values]


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
