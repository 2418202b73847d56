from __future__ import annotations

import pytest
from stream_i3d_gui.state.colours import SHAPE_CONTRAST, TEXT_CONTRAST, blend, contrast, label_style
from stream_i3d_gui.widgets.overlay import TRACK_ALPHA
from stream_i3d_gui.widgets.theme import DARK, LIGHT, ON_PICTURE, SCRIM, SCRIM_ALPHA, Theme


@pytest.mark.parametrize("theme", [DARK, LIGHT])
def test_all_text_can_be_read_on_all_grounds(theme: Theme):
    for ground in (theme.window, theme.base, theme.raised):
        for ink in (theme.text, theme.muted, theme.accent, theme.danger, theme.warning):
            assert contrast(ink, ground) >= TEXT_CONTRAST, (ink, ground)
        assert contrast(theme.line, ground) >= SHAPE_CONTRAST
    assert contrast(theme.on_accent, theme.accent) >= TEXT_CONTRAST


@pytest.mark.parametrize("behind", ["#ffffff", "#000000", "#808080", "#ff0000", "#ffff00"])
def test_words_over_a_picture_can_be_read_whatever_it_shows(behind: str):
    ground = blend(SCRIM, behind, SCRIM_ALPHA)
    for ink in (ON_PICTURE.text, ON_PICTURE.muted, ON_PICTURE.warning):
        assert contrast(ink, ground) >= TEXT_CONTRAST, ink
    for number in range(100):
        style = label_style(f"label {number}", dark=True)
        assert contrast(style.fill, blend(ON_PICTURE.text, ground, TRACK_ALPHA)) >= 2.0
        assert contrast(style.fill, ground) >= SHAPE_CONTRAST
