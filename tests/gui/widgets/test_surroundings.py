"""Full screen, on top, and the side panel where there is little room."""

from __future__ import annotations

from PyQt6.QtCore import Qt
from PyQt6.QtTest import QTest

CTRL = Qt.KeyboardModifier.ControlModifier


def test_full_screen_leaves_the_pictures_alone_and_escape_goes_back(watching, qtbot):
    QTest.keyClick(watching, Qt.Key.Key_F11)
    assert watching.isFullScreen() and not watching.panel.isVisible() and not watching.actions_.toolbar.isVisible()
    QTest.keyClick(watching, Qt.Key.Key_Escape)
    assert not watching.isFullScreen() and watching.panel.isVisible() and watching.actions_.toolbar.isVisible()


def test_always_on_top_is_a_flag_of_the_window(watching, qtbot):
    QTest.keyClick(watching, Qt.Key.Key_T, CTRL)
    assert watching.windowFlags() & Qt.WindowType.WindowStaysOnTopHint and watching.isVisible()
    watching.actions_.by_id["on_top"].trigger()
    assert not watching.windowFlags() & Qt.WindowType.WindowStaysOnTopHint and watching.isVisible()


def test_a_narrow_window_folds_its_panel_away_and_unfolds_it(window):
    window.resize(700, 500)
    assert not window.panel.isVisible()
    window.resize(1200, 700)
    assert window.panel.isVisible()
