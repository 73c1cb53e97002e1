"""Labels of scatter plots: one per point, the same place every time, off points and each other."""

import numpy as np
from plot_rows import check_texts, texts_of

from edgeq_lib.plots.labels import place_labels
from edgeq_lib.plots.style import new_figure, styled


@styled
def crowd(count):
    figure, axes = new_figure(4)
    random = np.random.default_rng(0)
    points = [tuple(point) for point in random.normal(0, 1, (count, 2)).tolist()]
    axes.plot(*np.transpose(points), "o")
    place_labels(axes, points, [f"label {index}" for index in range(count)], points, [])
    return figure


def test_every_point_has_its_label_where_it_covers_no_other():
    figure = crowd(20)
    assert sorted(texts_of(figure, "label")) == sorted(f"label {index}" for index in range(20))
    check_texts(figure)


def test_nothing_is_random():
    places = [[text.get_position() for text in crowd(12).axes[0].texts] for _ in range(2)]
    assert places[0] == places[1]


def test_no_labels_are_no_error():
    _, axes = new_figure(2)
    place_labels(axes, [], [], [(0, 1)], [])
    assert not axes.texts
