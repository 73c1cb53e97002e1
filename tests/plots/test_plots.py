"""Figures: what is drawn is counted, labels are checked for overlap, and no text leaves its figure."""

import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from edgeq_lib.analysis import flow
from edgeq_lib.plots.data import plot_class_balance, plot_learning_curves, plot_samples
from edgeq_lib.plots.decision import plot_decision_flow
from edgeq_lib.plots.pareto import plot_pareto
from edgeq_lib.plots.style import COLOURS, MARKERS, TAKEN, colour_of, render_figure
from edgeq_lib.plots.variants import (
    plot_accuracy,
    plot_drops,
    plot_latency,
    plot_sizes,
    plot_weight_bits,
)

TECHNIQUES = [
    "ptq",
    "ptq_recovery",
    "qat",
    "data_free",
    "low_bit",
    "mixed_precision",
    "peer",
    "pruning",
    "unheard_of",
]
OF_ROWS = [plot_accuracy, plot_drops, plot_sizes, plot_latency, plot_pareto, plot_weight_bits]


def row(name, technique, value, size, latency, base=99.2):
    drop = (
        {"drop": None, "drop_low": None, "drop_high": None}
        if technique == "baseline"
        else {"drop": base - value, "drop_low": base - value - 0.8, "drop_high": base - value + 0.8}
    )
    return {
        "name": name,
        "kind": "variant",
        "technique": technique,
        "metric": "top1",
        "value": value,
        "n": 360,
        "low": value - 1,
        "high": min(value + 0.5, 100),
        **drop,
        "bytes": size,
        "gzip_bytes": int(size * 0.9),
        "ratio": 320e3 / size,
        "latency_ratio": latency,
        "latency_ratio_low": latency * 0.95,
        "latency_ratio_high": latency * 1.06,
        "weight_bits_share": {"8": 0.9, "4": 0.1},
        "latency_ratio_by_threads": {
            count: {"ratio": latency, "ratio_low": latency * 0.9, "ratio_high": latency * 1.1}
            for count in ("1", "2")
        },
    }


def shelf(count):
    """A baseline and variants most of which nearly coincide, two of which collapsed."""
    random = np.random.default_rng(count)
    rows = [row("float32", "baseline", 99.2, 320_000, 1.0)]
    for index in range(count - 1):
        value = 11.0 if index % 10 == 7 else 99.2 - 0.28 * (index % 4)
        rows.append(
            row(
                f"variant_number_{index}",
                TECHNIQUES[index % 9],
                value,
                int(9e4 + 2e4 * random.random()),
                0.3 + 0.1 * random.random(),
            )
        )
    return rows


def marked(figure, mark):
    return [line for line in figure.axes[0].lines if line.get_gid() == mark]


def texts_inside(figure):
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    paper = Bbox.from_bounds(0, 0, *figure.canvas.get_width_height()).padded(1)
    shown = [
        text
        for text in figure.findobj(matplotlib.text.Text)
        if text.get_visible() and text.get_text().strip()
    ]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in shown]
    off_axis = set()  # ticks that a locator keeps past the ends of an axis: never drawn
    for axes in figure.axes:
        for axis, place, (low, high) in (
            (axes.xaxis, 0, axes.get_xlim()),
            (axes.yaxis, 1, axes.get_ylim()),
        ):
            off_axis |= {
                tick.get_text()
                for tick in axis.get_ticklabels(which="both")
                if not min(low, high) <= tick.get_position()[place] <= max(low, high)
            }
    return [
        text
        for text, box in boxes
        if text not in off_axis
        and not (
            paper.x0 <= box.x0 and box.x1 <= paper.x1 and paper.y0 <= box.y0 and box.y1 <= paper.y1
        )
    ]


@pytest.mark.parametrize("count", [2, 12, 25])
def test_every_variant_is_drawn_once(count):
    rows = shelf(count)
    assert len(marked(plot_accuracy(rows), "point")) == count
    assert len(marked(plot_drops(rows, 1.0), "point")) == count - 1
    assert len(marked(plot_latency(rows), "point")) == count
    assert len(marked(plot_latency(rows), "all threads")) == count
    assert len(plot_sizes(rows).axes[0].patches) == 2 * count
    assert len(plot_weight_bits(rows).axes[0].patches) == 2 * count


@pytest.mark.parametrize("x", ["bytes", "latency_ratio"])
def test_dominated_variants_are_crosses(x):
    rows = [
        row("float32", "baseline", 99.2, 320_000, 1.0),
        row("a", "ptq", 99.2, 100_000, 0.5),
        row("b", "ptq", 98.9, 110_000, 0.6),
        row("c", "qat", 98.0, 50_000, 0.4),
    ]
    figure = plot_pareto(rows, x)
    assert len(marked(figure, "front")) == 2 and len(marked(figure, "dominated")) == 2
    assert {line.get_marker() for line in marked(figure, "dominated")} == {"x"}
    assert {text.get_text() for text in figure.axes[0].texts} == {"float32", "a", "b", "c"}
    assert figure.axes[0].get_xscale() == ("log" if x == "bytes" else "linear")
    assert not marked(figure, "recommended")
    (ringed,) = marked(plot_pareto(rows, x, "b"), "recommended")
    assert ringed.get_xdata()[0] == rows[2][x]


def test_peers_are_drawn_apart_from_the_front():
    rows = [
        row("float32", "baseline", 99.2, 320_000, 1.0),
        row("a", "ptq", 99.0, 100_000, 0.5),
        {**row("google", "peer", 99.9, 50_000, 0.1), "kind": "peer"},
    ]
    for x in ("bytes", "latency_ratio"):
        figure = plot_pareto(rows, x)
        assert len(marked(figure, "front")) == 2 and len(marked(figure, "dominated")) == 0
        assert [line.get_marker() for line in marked(figure, "peer")] == ["*"]
        assert max(marked(figure, "front line")[0].get_ydata()) < 99.5, (
            "the line of the front does not touch the peer"
        )


def test_a_file_dominated_in_bytes_may_lead_in_latency():
    rows = [
        row("float32", "baseline", 99.2, 320_000, 1.0),
        row("a", "ptq", 99.2, 100_000, 0.5),
        row("b", "ptq", 99.2, 110_000, 0.4),
    ]
    assert [len(marked(plot_pareto(rows, x), "front")) for x in ("bytes", "latency_ratio")] == [
        1,
        1,
    ]
    assert marked(plot_pareto(rows, "latency_ratio"), "front")[0].get_xdata()[0] == 0.4


@pytest.mark.parametrize("count", [2, 12, 25])
@pytest.mark.parametrize("x", ["bytes", "latency_ratio"])
def test_labels_do_not_overlap(count, x):
    figure = plot_pareto(shelf(count), x)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    frame = figure.axes[0].get_window_extent()
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    assert len(boxes) == count
    common = [
        Bbox.intersection(one, other) for index, one in enumerate(boxes) for other in boxes[:index]
    ]
    assert not [box for box in common if box is not None and box.height > 2 and box.width > 2]
    assert all(frame.x0 - 2 <= box.x0 and box.x1 <= frame.x1 + 2 for box in boxes)


def test_one_collapsed_variant_does_not_flatten_the_others():
    low, high = plot_accuracy(shelf(12)).axes[0].get_xlim()
    assert low > 90 and high <= 100.5
    bottom, _ = plot_pareto(shelf(12)).axes[0].get_ylim()
    assert bottom > 90
    assert any("11.0" in text.get_text() for text in plot_pareto(shelf(12)).axes[0].texts)
    assert any(text.get_text() == "11.0" for text in plot_accuracy(shelf(12)).axes[0].texts)


def test_intervals_are_those_of_the_rows():
    rows = shelf(2)
    drawn = marked(plot_accuracy(rows), "interval")
    assert [list(line.get_xdata()) for line in drawn] == [
        [each["low"], each["high"]] for each in rows
    ]


@pytest.mark.parametrize("count", [2, 25])
@pytest.mark.parametrize("draw", OF_ROWS)
def test_no_text_leaves_the_figure(draw, count):
    assert texts_inside(draw(shelf(count))) == []


def test_null_figures_are_left_out():
    rows = [
        *shelf(3),
        {
            **row("unmeasured", "ptq", 99.0, 100_000, 0.4),
            "value": None,
            "drop": None,
            "bytes": None,
            "latency_ratio": None,
            "weight_bits_share": None,
        },
    ]
    for draw in (plot_accuracy, plot_sizes, plot_latency, plot_weight_bits):
        labels = [label.get_text() for label in draw(rows).axes[0].get_yticklabels()]
        assert labels == [each["name"] for each in rows[:3]]
    assert len(plot_pareto(rows).axes[0].texts) == 3
    for draw in OF_ROWS:
        assert isinstance(draw(rows[3:]), Figure)


def test_each_technique_has_one_colour_and_one_marker_of_its_own():
    assert set(flow.TECHNIQUES) <= set(COLOURS) == set(MARKERS)
    assert len(set(COLOURS.values())) == len(set(MARKERS.values())) == len(COLOURS)
    assert colour_of("unheard_of") not in COLOURS.values()


PATH = [
    ["kernels", "integer"],
    ["images", "labelled"],
    ["retraining", "yes"],
    ["bits", "8 or more"],
    ["ptq_enough", "yes"],
    ["ptq", None],
]


def test_the_flow_highlights_its_path():
    figure = plot_decision_flow(flow.FLOW, PATH)
    boxes = [patch for patch in figure.axes[0].patches if patch.get_gid() == "node"]
    taken = matplotlib.colors.to_rgba(TAKEN)
    assert len(boxes) == len(flow.FLOW)
    assert sum(box.get_edgecolor() == taken for box in boxes) == len(PATH)
    bold = [text.get_text() for text in figure.axes[0].texts if text.get_fontweight() == "bold"]
    assert bold.count("yes") == 2 and "integer" in bold and any("PTQ" in text for text in bold)


@pytest.mark.parametrize(
    "path", [PATH, PATH[:1], [["images", "none"], ["free_bits", "8 or more"], ["data_free", None]]]
)
def test_no_text_of_the_flow_covers_another_or_leaves_the_figure(path):
    lines = (
        "8 or more: data_free_int8_per_tensor",
        "   drop 60.90, 5.42 ×, not measured: agreement, speed",
    )
    leaves = [name for name, node in flow.FLOW.items() if "next" not in node]
    figure = plot_decision_flow(flow.FLOW, path, dict.fromkeys(leaves, "\n".join(lines * 2)))
    axes, renderer = figure.axes[0], FigureCanvasAgg(figure).get_renderer()
    texts = [
        text.get_window_extent(renderer) for text in axes.texts if text.get_text()
    ]  # an arrow is an empty text
    boxes = [
        patch.get_window_extent(renderer) for patch in axes.patches if patch.get_gid() == "node"
    ]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(texts, 2))
    assert sum(text.overlaps(box) for text, box in itertools.product(texts, boxes)) == len(
        flow.FLOW
    ), "only its own"
    assert all(text.x0 >= 0 and text.x1 <= figure.bbox.x1 and text.y0 >= 0 for text in texts)


@pytest.mark.parametrize("channels", [1, 3])
def test_sample_grid(channels):
    images = np.random.default_rng(0).integers(0, 256, (11, 8, 8, channels), dtype=np.uint8)
    figure = plot_samples(images, np.arange(11) % 2, ["a", "a class with a very long name"])
    assert len(figure.axes) == 11
    assert {axes.get_title() for axes in figure.axes} == {"a", "a class with…"}


@pytest.mark.parametrize("classes", [2, 12, 30, 200])
def test_class_balance(classes):
    counts = np.arange(classes).tolist()
    figure = plot_class_balance(
        {
            "classes": [f"class {index}" for index in range(classes)],
            "splits": {name: {"per_class": counts} for name in ("train", "validation", "test")},
        }
    )
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
    assert len(figure.axes) == 2
    if epochs > 1:
        assert any(
            "best epoch (19)" in text.get_text() for text in figure.axes[0].get_legend().get_texts()
        )


def test_a_notebook_shows_a_figure_by_itself():
    from IPython.core.formatters import DisplayFormatter

    shown, _ = DisplayFormatter().format(plot_accuracy(shelf(3)))
    assert shown["image/png"].startswith(b"\x89PNG")


def test_pictures_are_reproducible_and_leave_the_callers_style_alone():
    before = dict(matplotlib.rcParams)
    pictures = [
        [render_figure(plot_accuracy(shelf(3)), kind) for kind in ("png", "svg")] for _ in range(2)
    ]
    assert (
        pictures[0] == pictures[1]
        and pictures[0][0].startswith(b"\x89PNG")
        and b"<svg" in pictures[0][1]
    )
    assert dict(matplotlib.rcParams) == before
