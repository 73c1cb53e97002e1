"""Markers and inks stand out on light and dark."""

import re
from importlib import resources

import pytest

from edgeq_lib.plots.style import COLOURS, MARKERS
from edgeq_lib.report import explorer, markers


@pytest.mark.parametrize("technique", [*COLOURS, "a_new_one"])
def test_markers_stand_out_on_light_and_dark(technique):
    for page, ratio in explorer.PAGES.values():
        shade = markers.readable(COLOURS.get(technique, "#666666"), page, ratio)
        assert markers.contrast(shade, page) >= 3


def test_text_has_the_contrast_of_wcag_aa():
    style = (resources.files("edgeq_lib.report") / "templates" / "style.css").read_text()
    themes = [dict(re.findall(r"--(\w+): (#\w{6})", part))
              for part in re.findall(r":root \{[^}]*\}", style)]  # fmt: skip
    assert len(themes) == 2
    for (page, _), theme in zip(explorer.PAGES.values(), themes, strict=True):
        assert theme["page"] == page
        for ink in ("ink", "soft", "mark", "ring"):
            for back in ("page", "tint", "hover", "raised"):
                assert markers.contrast(theme[ink], theme[back]) >= 4.5, (ink, back)


def test_every_marker_is_a_path_within_its_square():
    for marker in MARKERS.values():
        path = markers.svg_path(marker)
        assert path.startswith("M") and "nan" not in path
        assert max(abs(float(number)) for number in re.findall(r"-?[\d.]+", path)) <= 1.4


def test_contrast_is_that_of_wcag_and_does_not_depend_on_the_order():
    assert markers.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert markers.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert markers.contrast("#ffffff", "#777777") == markers.contrast("#777777", "#ffffff")
    assert markers.contrast("#123456", "#123456") == 1


def test_a_colour_that_stands_out_already_is_not_changed():
    assert markers.readable("#004488", "#ffffff", 3) == "#004488"
    lighter = markers.readable("#004488", "#101010", 3)
    assert lighter != "#004488" and markers.contrast(lighter, "#101010") >= 3
