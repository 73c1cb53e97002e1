"""Figures of the data and of training: how many images a class, what they look like, how loss and accuracy went.

Same style as `plots`; each function returns a matplotlib Figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from edgeq_lib.plots.style import FAINT, TAKEN, WIDTH, Picture, new_figure, styled
from edgeq_lib.records import best_epoch


@styled
def plot_class_balance(manifest: Mapping[str, Any]) -> Figure:
    """Images a class in each split; past 40 classes a histogram, since no bar could be read."""
    splits = {name: split["per_class"] for name, split in manifest["splits"].items()}
    classes, shades = (
        manifest["classes"],
        sns.color_palette(["#0072B2", "#E69F00", "#009E73", "#CC79A7"]),
    )
    many = len(classes) > 40
    if many:
        figure = Picture(figsize=(WIDTH, 2.6), layout="constrained")
        for axes, shade, (name, counts) in zip(
            figure.subplots(1, len(splits)), shades, splits.items(), strict=False
        ):
            sns.histplot(x=counts, ax=axes, color=shade, discrete=np.ptp(counts) < 15, linewidth=0)
            axes.set(xlabel="Images a class", ylabel="Classes", title=f"{name} ({sum(counts):,})")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4, min_n_ticks=1))
        return figure
    long = max(map(len, classes)) > 8 or len(classes) > 14
    figure, axes = new_figure(1.4 + (0.26 * len(classes) if long else 1.6))
    thick = 0.8 / len(splits)
    for index, (name, counts) in enumerate(splits.items()):
        places = np.arange(len(classes)) + (index - (len(splits) - 1) / 2) * thick
        (axes.barh if long else axes.bar)(
            places,
            counts,
            thick,
            color=shades[index % 4],
            linewidth=0,
            label=f"{name} ({sum(counts):,})",
        )
    if long:
        axes.set_yticks(range(len(classes)), [_short(name, 28) for name in classes])
        axes.set_ylim(len(classes) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("Images")
    else:
        axes.set_xticks(range(len(classes)), classes)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("Images")
    axes.set_title("Images a class")
    figure.legend(loc="outside lower center", ncols=len(splits), frameon=False)
    return figure


@styled
def plot_samples(images: np.ndarray, labels: Sequence[int], classes: Sequence[str]) -> Figure:
    """A grid of images, uint8 (n, height, width, 1 or 3), with the name of the class above each."""
    across = max(1, min(8, len(images)))
    down = -(-len(images) // across)
    figure = Picture(
        figsize=(WIDTH * across / 8 if across < 8 else WIDTH, 1.12 * down), layout="constrained"
    )
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        axes = figure.add_subplot(down, across, place + 1)
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
    """Loss and accuracy by epoch, training dashed and validation solid; the best epoch is marked (see
    `best_epoch`). Epoch 0 is the network as it came."""
    figure = Picture(figsize=(WIDTH, 2.9), layout="constrained")
    epochs = np.arange(len(history))
    best = best_epoch(history)
    for axes, key, title in zip(
        figure.subplots(1, 2), ("loss", "accuracy"), ("Loss", "Accuracy, %"), strict=True
    ):
        scale = 100 if key == "accuracy" else 1
        for name, label, dash, shade in (
            (key, "train", (0, (4, 2)), FAINT),
            (f"val_{key}", "validation", "-", TAKEN),
        ):
            values = [
                scale * epoch[name] if epoch.get(name) is not None else np.nan for epoch in history
            ]
            axes.plot(
                epochs,
                values,
                linestyle=dash,
                color=shade,
                label=label,
                linewidth=1.6,
                marker="o" if len(history) < 4 else "",
                markersize=4,
            )
            if name.startswith("val_") and len(history) > 1:
                axes.plot(
                    epochs[best],
                    values[best],
                    marker="o",
                    markersize=7,
                    markerfacecolor="white",
                    color=shade,
                    markeredgewidth=1.6,
                    linestyle="",
                    label=f"best epoch ({best})",
                )
        axes.set(xlabel="Epoch", title=title, xlim=(-0.5, max(len(history), 1) - 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    figure.axes[0].legend(frameon=False)
    return figure


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
