from __future__ import annotations

import pytest
from PyQt6.QtCore import Qt
from PyQt6.QtGui import QColor
from PyQt6.QtWidgets import QCheckBox, QListWidget, QListWidgetItem, QMainWindow, QToolButton, QWidget
from stream_i3d_gui.state.colours import SHAPE_CONTRAST, TEXT_CONTRAST, blend, contrast, label_style
from stream_i3d_gui.state.shortcuts import actions
from stream_i3d_gui.widgets.actions import Actions
from stream_i3d_gui.widgets.controls import TickDelegate
from stream_i3d_gui.widgets.overlay import TRACK_ALPHA
from stream_i3d_gui.widgets.theme import DARK, LIGHT, ON_PICTURE, SCRIM, SCRIM_ALPHA, Theme, apply_theme


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


def contrast_within(widget: QWidget, width: int = 0) -> float:
    """Contrast between the lightest and the darkest thing that is painted in a widget's first `width` columns."""
    image = widget.grab().toImage()
    columns = range(2, min(width or image.width() - 2, image.width()))
    colours = {image.pixel(x, y) for x in columns for y in range(2, image.height() - 2)}
    names = sorted(QColor(one).name() for one in colours)
    return max(contrast(one, other) for one in names for other in names)


@pytest.mark.parametrize("theme", [DARK, LIGHT])
def test_an_empty_check_box_can_be_seen(application, qtbot, theme: Theme):
    apply_theme(application, theme)
    box, labels = QCheckBox(), QListWidget()
    item = QListWidgetItem("")
    item.setCheckState(Qt.CheckState.Unchecked)
    labels.addItem(item)
    labels.setItemDelegate(TickDelegate(labels))
    for widget in (box, labels):
        qtbot.addWidget(widget)
        widget.resize(30, 30)
        assert contrast_within(widget) >= SHAPE_CONTRAST


@pytest.mark.parametrize("theme", [DARK, LIGHT])
def test_what_the_tool_bar_has_no_room_for_is_behind_a_button_that_can_be_seen(application, qtbot, theme: Theme):
    apply_theme(application, theme)
    window = QMainWindow()
    qtbot.addWidget(window)
    everything = {action.id: lambda on: None for action in actions()}
    window.addToolBar(Actions(window, QWidget(window), everything).toolbar)
    window.resize(300, 200)
    window.show()
    more = window.findChild(QToolButton, "qt_toolbar_ext_button")
    assert more.isVisible() and more.accessibleName() == "More"
    assert contrast_within(more) >= SHAPE_CONTRAST
