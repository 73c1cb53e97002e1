"""The decision flow: the path that was taken stands out, no text covers another."""

import itertools

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from plot_rows import check_texts

from edgeq_lib.analysis import flow
from edgeq_lib.plots.decision import plot_decision_flow
from edgeq_lib.plots.style import TAKEN

PATH = [
    ["target", "named"],
    ["images", "labelled"],
    ["retraining", "yes"],
    ["meets", "yes"],
    ["objective", "simplest"],
    ["ptq_enough", "yes"],
    ["ptq", None],
]
FREE = [["images", "none"], ["free_meets", "yes"], ["data_free", None]]
SMALLEST = [*PATH[:4], ["objective", "smallest"], ["by_objective", None]]
NOTE = "≥ 8 bits: data_free_int8_per_tensor\n   drop 60.90, 5.42 ×, not measured: agreement, speed"


def boxes_of(figure):
    return [patch for patch in figure.axes[0].patches if patch.get_gid() == "node"]


def test_the_flow_highlights_its_path():
    figure = plot_decision_flow(flow.FLOW, PATH)
    assert len(boxes_of(figure)) == len(flow.FLOW)
    taken = matplotlib.colors.to_rgba(TAKEN)
    assert sum(box.get_edgecolor() == taken for box in boxes_of(figure)) == len(PATH)
    bold = [text.get_text() for text in figure.axes[0].texts if text.get_fontweight() == "bold"]
    assert bold.count("yes") == 3 and "named" in bold and any("PTQ" in text for text in bold)
    assert "simplest" in bold


@pytest.mark.parametrize("path", [PATH, PATH[:1], FREE, SMALLEST])
def test_no_text_of_the_flow_covers_another_or_leaves_the_figure(path):
    leaves = [name for name, node in flow.FLOW.items() if "next" not in node]
    figure = plot_decision_flow(flow.FLOW, path, dict.fromkeys(leaves, f"{NOTE}\n{NOTE}"))
    check_texts(figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [text.get_window_extent(renderer) for text in figure.axes[0].texts if text.get_text()]
    boxes = [patch.get_window_extent(renderer) for patch in boxes_of(figure)]
    pairs = sum(text.overlaps(box) for text, box in itertools.product(texts, boxes))
    assert pairs == len(flow.FLOW), "each box holds its own text and no other"
