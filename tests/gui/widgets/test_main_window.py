"""The whole window on a service of real sockets, driven by keys and clicks."""

from __future__ import annotations

from PyQt6.QtCore import Qt
from PyQt6.QtTest import QTest
from PyQt6.QtWidgets import QInputDialog, QMessageBox, QPushButton
from stream_i3d_gui.state.shortcuts import actions
from stream_i3d_gui.widgets.help_sheet import HelpSheet

from stream_i3d.transport.control import AddCamera, PauseCamera, RemoveCamera, RenameCamera
from tests.gui.widgets.conftest import SOON_MS, add, send, until
from tests.samples import event, recognition

CTRL = Qt.KeyboardModifier.ControlModifier


def test_a_camera_is_shown_with_its_picture_and_its_label(watching, service, qtbot):
    tile = watching.grid.tiles["door"]
    send(service, recognition(), lambda: tile.view.shown.headline == "waving", qtbot)
    assert watching.pictures.stack.currentWidget() is watching.grid
    until(qtbot, lambda: tile.strip.spans and tile.strip.spans[0].label == "waving")
    until(qtbot, lambda: watching.line.value("Latency") == "22 ms")
    assert watching.line.value("Device") == "cpu · bf16" and watching.line.value("Model") == "i3d · motion"


def test_painted_pictures_are_counted_with_their_latency(watching, service, qtbot):
    figures = watching.session.board.cameras["door"].figures
    until(qtbot, lambda: figures.pictures.points(watching.session.clock()))
    (_, latency), *_ = figures.pictures.points(watching.session.clock())
    assert 0 < latency < 10_000


def test_keys_pause_and_resume_the_camera(watching, service, qtbot):
    QTest.keyClick(watching, Qt.Key.Key_P)
    until(qtbot, lambda: watching.grid.tiles["door"].view.shown.state == "paused")
    assert watching.actions_.by_id["pause"].isChecked()
    QTest.keyClick(watching, Qt.Key.Key_P)
    until(qtbot, lambda: watching.grid.tiles["door"].view.shown.state != "paused")
    assert isinstance(service.asked[0], PauseCamera)


def test_a_letter_typed_into_a_field_is_no_shortcut(watching, service, qtbot):
    watching.panel.events.search.setFocus()
    QTest.keyClicks(watching.panel.events.search, "p?")
    assert watching.panel.events.search.text() == "p?"
    assert service.asked == [] and not watching.findChildren(HelpSheet)


def test_a_letter_that_finds_something_in_a_list_is_no_shortcut(watching, service, qtbot):
    send(service, event(), lambda: watching.panel.events.model.rows, qtbot)
    for part in (watching.panel.events.view, watching.panel.events.camera):
        part.setFocus()
        QTest.keyClick(part, Qt.Key.Key_P)
    watching.session.add_camera("synthetic://", "yard")
    until(qtbot, lambda: service.asked)
    assert [type(one) for one in service.asked] == [AddCamera]


def test_cameras_are_added_renamed_and_removed_by_keys(watching, service, qtbot):
    add(watching, qtbot, "yard")
    watching.grid.choose("yard")
    QTest.keyClick(watching, Qt.Key.Key_F2)
    (question,) = watching.findChildren(QInputDialog)
    question.setTextValue("garden")
    question.accept()
    until(qtbot, lambda: "garden" in watching.grid.tiles)
    with qtbot.waitActive(watching):
        watching.activateWindow()
    watching.grid.tiles["garden"].setFocus()
    QTest.keyClick(watching.grid.tiles["garden"], Qt.Key.Key_Delete)
    (box,) = watching.findChildren(QMessageBox)
    assert box.defaultButton() is box.button(QMessageBox.StandardButton.Cancel)
    yes = box.button(QMessageBox.StandardButton.Yes)
    assert isinstance(yes, QPushButton)
    yes.click()
    until(qtbot, lambda: list(watching.grid.tiles) == ["door"])
    assert [type(one) for one in service.asked] == [AddCamera, RenameCamera, RemoveCamera]


def test_a_name_that_is_taken_is_refused_here(watching, service, qtbot):
    add(watching, qtbot, "yard")
    watching.dialogs._rename("yard", "door")
    assert "taken" in watching.line.service.accessibleDescription()
    assert len(service.asked) == 1


def test_a_hidden_label_reads_as_no_action(watching, service, qtbot):
    tile = watching.grid.tiles["door"]
    send(service, recognition(), lambda: tile.view.shown.headline == "waving", qtbot)
    watching.panel.controls.set_hidden(["waving"])
    send(service, recognition(), lambda: tile.view.shown.kind == "idle", qtbot)
    assert tile.view.shown.confidence is None
    assert "waving" not in [label for label, _ in tile.view.shown.bars]


def test_parts_are_shown_and_hidden_by_keys(watching, qtbot):
    tile = watching.grid.tiles["door"]
    for key, hidden in ((Qt.Key.Key_U, tile.strip), (Qt.Key.Key_B, watching.panel)):
        assert hidden.isVisible()
        QTest.keyClick(watching, key, CTRL)
        assert not hidden.isVisible()
    QTest.keyClick(watching, Qt.Key.Key_L, CTRL)
    assert not tile.view.show_bars


def test_f1_shows_the_help_sheet(window, qtbot):
    QTest.keyClick(window, Qt.Key.Key_F1)
    (sheet,) = window.findChildren(HelpSheet)
    assert sheet.isVisible()
    with qtbot.waitSignal(sheet.destroyed, timeout=SOON_MS):  # else each would stay for as long as the window does
        sheet.reject()


def test_every_action_has_a_handler_a_key_and_a_tip(window):
    for one in actions():
        action = window.actions_.by_id[one.id]
        assert action.shortcuts() and one.meaning in action.toolTip()
    for name in ("add", "pause", "snapshot", "record", "panel", "help"):
        button = window.actions_.toolbar.widgetForAction(window.actions_.by_id[name])
        assert button is not None and button.accessibleName()


def test_what_needs_a_camera_cannot_be_done_without_one(window):
    for name in ("snapshot", "record", "pause", "rename", "remove"):
        assert not window.actions_.by_id[name].isEnabled()
