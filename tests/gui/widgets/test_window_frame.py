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


def test_a_panel_opened_in_a_narrow_window_stays_while_its_edge_is_dragged(window):
    window.resize(700, 500)
    QTest.keyClick(window, Qt.Key.Key_1, CTRL)
    window.resize(720, 500)
    assert window.panel.isVisible()


def test_a_maximised_window_is_maximised_again_after_full_screen(window):
    window.showMaximized()
    QTest.keyClick(window, Qt.Key.Key_F11)
    assert window.isFullScreen()
    QTest.keyClick(window, Qt.Key.Key_F11)
    assert window.isMaximized() and not window.isFullScreen()


def test_full_screen_by_other_means_leaves_the_pictures_alone_too(window):
    window.showFullScreen()
    assert not window.actions_.toolbar.isVisible() and not window.panel.isVisible()
    assert window.actions_.by_id["full_screen"].isChecked()
    window.showNormal()
    assert window.actions_.toolbar.isVisible() and window.panel.isVisible()
    assert not window.actions_.by_id["full_screen"].isChecked()


def test_in_full_screen_only_its_own_key_brings_the_side_panel(window):
    QTest.keyClick(window, Qt.Key.Key_F11)
    QTest.keyClick(window, Qt.Key.Key_L, CTRL)
    assert not window.panel.isVisible()
    QTest.keyClick(window, Qt.Key.Key_B, CTRL)
    assert window.panel.isVisible()
    QTest.keyClick(window, Qt.Key.Key_F11)
    assert window.panel.isVisible() and window.window_settings.now.show_panel
