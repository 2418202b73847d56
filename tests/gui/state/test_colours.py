from __future__ import annotations

import colorsys
import itertools

import pytest
from stream_i3d_gui.state.colours import (
    DARK_GROUND,
    HUES,
    LIGHT_GROUND,
    PATTERNS,
    SHAPE_CONTRAST,
    TEXT_CONTRAST,
    blend,
    contrast,
    label_style,
)

MOTIONS = ["still", "left", "right", "up", "down", "nearer", "farther", "clockwise", "counter-clockwise", "waving"]


def hue(colour: str) -> float:
    """Hue of #rrggbb, 0 to 1."""
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return colorsys.rgb_to_hls(red, green, blue)[0]


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the known grey that just fails
    assert contrast("#123456", "#123456") == 1


@pytest.mark.parametrize(("dark", "ground"), [(True, DARK_GROUND), (False, LIGHT_GROUND)])
def test_every_label_can_be_read_and_told_from_its_ground(dark, ground):
    for number in range(500):
        style = label_style(f"label {number}", dark)
        assert contrast(style.fill, style.text) >= TEXT_CONTRAST
        assert contrast(style.fill, ground) >= SHAPE_CONTRAST


def test_a_label_keeps_its_style_whatever_came_before():
    first = label_style("waving", True)
    label_style.cache_clear()
    for name in ("other", "labels", "first"):
        label_style(name, True)
    assert label_style("waving", True) == first
    assert label_style("waving", False).pattern == first.pattern


def test_the_carried_labels_all_look_different():
    hues = sorted(hue(label_style(label, True).fill) for label in MOTIONS)
    gaps = [later - earlier for earlier, later in itertools.pairwise([*hues, hues[0] + 1])]
    assert min(gaps) > 0.9 * 2 / HUES


def test_labels_are_spread_over_all_patterns():
    assert {label_style(f"label {number}", True).pattern for number in range(200)} == set(PATTERNS)


def test_blending_is_between_the_two():
    assert blend("#ffffff", "#000000", 0.5) == "#808080"
    assert blend("#ffffff", "#102030", 0.0) == "#102030"
