"""What the offers of the first run do."""

from __future__ import annotations

from PyQt6.QtCore import Qt
from PyQt6.QtTest import QTest
from PyQt6.QtWidgets import QDialog
from stream_i3d_gui.widgets.add_camera import AddCamera as AddCameraDialog

from stream_i3d.config import Config
from tests.gui.widgets.conftest import until

CTRL = Qt.KeyboardModifier.ControlModifier


def test_the_first_run_offers_what_can_be_done(window, launcher):
    assert window.pictures.stack.currentWidget() is window.pictures.empty
    assert window.pictures.empty.title.text() == "Nothing to watch yet"
    QTest.mouseClick(window.pictures.empty.buttons["demo"], Qt.MouseButton.LeftButton)
    assert len(launcher.configs) == 1 and window.session.state == "starting"
    assert window.pictures.empty.title.text() == "Starting"


def test_a_camera_that_was_found_is_chosen_and_a_service_is_started_for_it(window, launcher, qtbot):
    QTest.mouseClick(window.pictures.empty.buttons["camera"], Qt.MouseButton.LeftButton)
    dialog = next(one for one in window.findChildren(QDialog) if isinstance(one, AddCameraDialog))
    assert dialog.cameras.currentText() == "Desk camera (number 0)"
    dialog.camera_name.setText("desk")
    dialog.accept()
    (camera,) = launcher.configs[0].cameras
    assert (camera.source, camera.name) == ("0", "desk")


def test_a_service_that_cannot_start_for_want_of_a_model_offers_the_carried_one(window, launcher, qtbot):
    launcher.code, launcher.words = 2, "checkpoint /x.pt: no such file"
    window.start(Config())
    until(qtbot, lambda: window.session.state == "failed")
    assert window.pictures.empty.text.text() == "checkpoint /x.pt: no such file"
    launcher.code = None
    QTest.mouseClick(window.pictures.empty.buttons["carried"], Qt.MouseButton.LeftButton)
    assert launcher.configs[1].model.checkpoint == "motion"
