"""Which pictures are asked for."""

from __future__ import annotations

from PyQt6.QtCore import Qt
from PyQt6.QtTest import QTest

from tests.gui.widgets.conftest import add, until

CTRL = Qt.KeyboardModifier.ControlModifier


def test_only_the_enlarged_cameras_pictures_are_asked_for(watching, service, qtbot):
    add(watching, qtbot, "yard")
    until(qtbot, lambda: service.watched.get("yard") and service.watched["door"])
    watching.grid.tiles["yard"].setFocus()
    QTest.keyClick(watching.grid.tiles["yard"], Qt.Key.Key_Return)
    until(qtbot, lambda: not service.watched["door"])
    assert service.watched["yard"]
    QTest.keyClick(watching, Qt.Key.Key_Escape)
    until(qtbot, lambda: service.watched["door"])
    assert service.watched["yard"]
