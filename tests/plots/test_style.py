"""The style: one colour and marker per technique, dark text, pictures that are reproducible."""

import subprocess
import sys

import matplotlib
import pytest
from plot_rows import contrast, shelf

from edgeq_lib.analysis.techniques import TABLE
from edgeq_lib.plots import style
from edgeq_lib.plots.variants import plot_drops


def test_each_technique_has_one_colour_and_one_marker_of_its_own():
    assert set(style.COLOURS) == set(style.MARKERS) == {technique.name for technique in TABLE}
    assert len(set(style.COLOURS.values())) == len(set(style.MARKERS.values())) == len(TABLE)
    assert style.colour_of("unheard_of") not in style.COLOURS.values()
    assert style.marker_of("unheard_of") not in style.MARKERS.values()


def test_colours_of_text_are_dark_enough():
    assert contrast("black", "white") == pytest.approx(21)
    for colour in (style.TEXT, style.MUTED):
        assert contrast(colour, "#ebebeb") >= 4.5
    assert contrast("white", style.TAKEN) >= 4.5


def test_a_collapsed_variant_sets_a_limit_and_nothing_else_does():
    assert style.collapse_limit([0, 0.5, 1.0, 1.5]) == float("inf")
    assert style.collapse_limit([0, 0.5, 1.0, 80.0]) == pytest.approx(4.5)
    assert style.collapse_limit([]) == float("inf")


def test_a_notebook_shows_a_figure_by_itself():
    from IPython.core.formatters import DisplayFormatter

    shown, _ = DisplayFormatter().format(plot_drops(shelf(3)))
    assert shown["image/png"].startswith(b"\x89PNG")


def test_pictures_are_reproducible_and_leave_the_callers_style_alone():
    before = dict(matplotlib.rcParams)
    first, second = (style.render_figure(plot_drops(shelf(3))) for _ in range(2))
    assert first == second and first.startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams) == before


def test_figures_need_neither_tensorflow_nor_pyplot_windows():
    code = (
        "import sys, pkgutil, importlib, edgeq_lib.plots, edgeq_lib.analysis\n"
        "for package in (edgeq_lib.plots, edgeq_lib.analysis):\n"
        "    for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "names = {name for name in sys.modules if name.startswith(('tensorflow', 'tf_keras'))}\n"
        "rooms = {f'edgeq_lib.{room}' for room in ('data', 'models', 'compress')}\n"
        "names |= rooms & set(sys.modules)\n"
        "sys.exit(str(names) if names else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
