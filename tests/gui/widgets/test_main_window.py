"""The whole window on a service of real sockets, driven by keys and clicks."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from PyQt6.QtCore import QSettings, Qt
from PyQt6.QtGui import QImage
from PyQt6.QtTest import QTest
from PyQt6.QtWidgets import QDialog, QInputDialog, QMessageBox, QPushButton
from stream_i3d_gui.session import Session
from stream_i3d_gui.settings_store import SettingsStore
from stream_i3d_gui.state.shortcuts import actions
from stream_i3d_gui.widgets.add_camera import AddCamera as AddCameraDialog
from stream_i3d_gui.widgets.help_sheet import HelpSheet
from stream_i3d_gui.widgets.main_window import MainWindow

from stream_i3d.config import Config
from stream_i3d.transport.control import AddCamera, ChangeSettings, PauseCamera, RemoveCamera, RenameCamera
from tests.gui.widgets.conftest import SOON_MS, add, send, until
from tests.samples import event, recognition, status

CTRL = Qt.KeyboardModifier.ControlModifier


def test_the_first_run_offers_what_can_be_done(window, launcher):
    assert window.stack.currentWidget() is window.empty
    assert window.empty.title.text() == "Nothing to watch yet"
    QTest.mouseClick(window.empty.buttons["demo"], Qt.MouseButton.LeftButton)
    assert len(launcher.configs) == 1 and window.session.state == "starting"
    assert window.empty.title.text() == "Starting"


def test_a_camera_that_was_found_is_chosen_and_a_service_is_started_for_it(window, launcher, qtbot):
    QTest.mouseClick(window.empty.buttons["camera"], Qt.MouseButton.LeftButton)
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
    assert window.empty.text.text() == "checkpoint /x.pt: no such file"
    launcher.code = None
    QTest.mouseClick(window.empty.buttons["carried"], Qt.MouseButton.LeftButton)
    assert launcher.configs[1].model.checkpoint == "motion"


def test_no_service_is_said_with_its_address(window, qtbot, tmp_path):
    window.session.connect_to(f"ipc://{tmp_path / 'nobody'}")
    assert window.empty.title.text() == "No service yet"
    assert str(tmp_path) in window.empty.text.text()


def test_a_camera_is_shown_with_its_picture_and_its_label(watching, service, qtbot):
    tile = watching.grid.tiles["door"]
    send(service, recognition(), lambda: tile.view.shown.headline == "waving", qtbot)
    assert watching.stack.currentWidget() is watching.grid
    until(qtbot, lambda: tile.strip.spans and tile.strip.spans[0].label == "waving")
    until(qtbot, lambda: watching.line.value("Latency") == "22 ms")
    assert watching.line.value("Device") == "cpu · bf16" and watching.line.value("Model") == "i3d · motion"


def test_painted_pictures_are_counted_with_their_latency(watching, service, qtbot):
    figures = watching.session.board.cameras["door"].figures
    until(qtbot, lambda: figures.pictures.points(watching.session.clock()))
    (_, latency), *_ = figures.pictures.points(watching.session.clock())
    assert 0 < latency < 10_000


def test_an_event_is_listed_with_a_thumbnail(watching, service, qtbot):
    send(service, event(), lambda: watching.events.model.rows, qtbot)
    key = ("door", "door-1-1")
    assert key in watching.events.model._thumbnails
    assert watching.events.view.isVisible()


def test_a_control_reaches_the_service_at_once(watching, service, qtbot):
    QTest.keyClick(watching, Qt.Key.Key_2, CTRL)
    until(qtbot, watching.controls.isVisible)
    until(qtbot, lambda: watching.controls.service_group.isEnabled())
    watching.controls.stride.setValue(4)
    until(qtbot, lambda: service.settings["window.stride"] == 4)
    watching.controls.stride.setValue(128)
    until(qtbot, lambda: watching.controls.stride.value() == 4)  # refused: it shows what is
    assert "too large" in watching.line.service.accessibleDescription()
    assert isinstance(service.asked[0], ChangeSettings)


def test_keys_pause_and_resume_the_camera(watching, service, qtbot):
    QTest.keyClick(watching, Qt.Key.Key_P)
    until(qtbot, lambda: watching.grid.tiles["door"].view.shown.state == "paused")
    assert watching.actions_.by_id["pause"].isChecked()
    QTest.keyClick(watching, Qt.Key.Key_P)
    until(qtbot, lambda: watching.grid.tiles["door"].view.shown.state != "paused")
    assert isinstance(service.asked[0], PauseCamera)


def test_a_letter_typed_into_a_field_is_no_shortcut(watching, service, qtbot):
    watching.events.search.setFocus()
    QTest.keyClicks(watching.events.search, "p?")
    assert watching.events.search.text() == "p?"
    assert service.asked == [] and not watching.findChildren(HelpSheet)


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
    yes = box.button(QMessageBox.StandardButton.Yes)
    assert isinstance(yes, QPushButton)
    yes.click()
    until(qtbot, lambda: list(watching.grid.tiles) == ["door"])
    assert [type(one) for one in service.asked] == [AddCamera, RenameCamera, RemoveCamera]


def test_a_name_that_is_taken_is_refused_here(watching, service, qtbot):
    add(watching, qtbot, "yard")
    watching.asking._rename("yard", "door")
    assert "taken" in watching.line.service.accessibleDescription()
    assert len(service.asked) == 1


def test_only_the_enlarged_cameras_pictures_are_asked_for(watching, service, qtbot):
    add(watching, qtbot, "yard")
    until(qtbot, lambda: service.watched.get("yard") and service.watched["door"])
    watching.grid.tiles["yard"].setFocus()
    QTest.keyClick(watching.grid.tiles["yard"], Qt.Key.Key_Return)
    until(qtbot, lambda: service.watched["yard"] and not service.watched["door"])
    QTest.keyClick(watching, Qt.Key.Key_Escape)
    until(qtbot, lambda: service.watched["yard"] and service.watched["door"])


def test_a_hidden_label_reads_as_no_action(watching, service, qtbot):
    tile = watching.grid.tiles["door"]
    send(service, recognition(), lambda: tile.view.shown.headline == "waving", qtbot)
    watching.controls.set_hidden(["waving"])
    send(service, recognition(), lambda: tile.view.shown.kind == "idle", qtbot)


def test_a_lost_service_is_said_and_nothing_is_forgotten(watching, service, qtbot):
    send(service, event(), lambda: watching.events.model.rows, qtbot)
    service.stop()
    until(qtbot, watching.banner.isVisible)
    until(qtbot, lambda: watching.grid.tiles["door"].view.shown.dimmed)
    assert "does not answer" in watching.banner.words.text()
    assert watching.grid.tiles["door"].view.picture is not None
    assert len(watching.events.model.rows) == 1 and not watching.controls.service_group.isEnabled()
    service.start()
    until(qtbot, lambda: not watching.banner.isVisible())


def test_malformed_messages_are_shown_in_details(watching, service, qtbot):
    send(service, status(), lambda: watching.session.board.cameras["door"].track.status is not None, qtbot)
    QTest.keyClick(watching, Qt.Key.Key_3, CTRL)

    def shown() -> bool:
        service.raw(b"v1/door/status", b"[]")
        return watching.details.fact("Messages that were not ours") not in ("", "0")

    qtbot.waitUntil(shown, timeout=SOON_MS)


def test_a_snapshot_is_saved_with_its_overlay(watching, service, qtbot, tmp_path):
    watching._prefer(folder=str(tmp_path / "kept"))
    QTest.keyClick(watching, Qt.Key.Key_S, CTRL)
    QTest.keyClick(watching, Qt.Key.Key_S, CTRL)
    files = sorted((tmp_path / "kept").glob("door-*.png"))
    assert len(files) == 2
    image = QImage(str(files[0]))
    assert (image.width(), image.height()) == (320, 240)
    assert image.pixelColor(160, 80) != image.pixelColor(20, 225)
    assert str(tmp_path) in watching.line.service.accessibleDescription()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_a_recording_is_a_video_that_plays(watching, service, qtbot, tmp_path):
    watching._prefer(folder=str(tmp_path))
    QTest.keyClick(watching, Qt.Key.Key_R, CTRL)
    assert watching.actions_.by_id["record"].isChecked()
    assert watching.session._wanted == {"door": None}  # in full, however small it is shown
    recorder = watching.keeper._recorder
    assert recorder is not None
    until(qtbot, lambda: recorder._pace.written >= 10)
    with qtbot.waitSignal(
        watching.keeper.said, timeout=SOON_MS, check_params_cb=lambda words, bad: words.startswith("Recorded")
    ):
        QTest.keyClick(watching, Qt.Key.Key_R, CTRL)
    (video,) = tmp_path.glob("door-*.mp4")
    probe = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=width,height,nb_read_frames"]
    told = subprocess.run(
        [*probe, "-of", "csv=p=0", str(video)], capture_output=True, text=True, check=True
    ).stdout.strip()
    width, height, frames = (int(number) for number in told.split(","))
    assert (width, height) == (320, 240) and frames >= 10


def test_without_ffmpeg_one_clear_line_is_said(watching, qtbot, tmp_path, monkeypatch):
    watching._prefer(folder=str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    QTest.keyClick(watching, Qt.Key.Key_R, CTRL)
    assert "needs the program ffmpeg" in watching.line.service.accessibleDescription()
    assert not watching.actions_.by_id["record"].isChecked()


def test_a_folder_that_cannot_be_written_to_is_said(watching, qtbot, tmp_path):
    (tmp_path / "file").write_text("")
    watching._prefer(folder=str(tmp_path / "file"))
    QTest.keyClick(watching, Qt.Key.Key_S, CTRL)
    assert "Cannot write" in watching.line.service.accessibleDescription()


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
    sheet.reject()


def test_a_narrow_window_folds_its_panel_away_and_unfolds_it(window):
    window.resize(700, 500)
    assert not window.panel.isVisible()
    window.resize(1200, 700)
    assert window.panel.isVisible()


def test_what_was_chosen_is_there_again(application, store, launcher, service, qtbot, tmp_path):
    first = MainWindow(Session(launcher), store, lambda: Config(), list)
    qtbot.addWidget(first)
    first.show()
    first.session.connect_to(service.control)
    until(qtbot, lambda: "door" in first.grid.tiles)
    first.session.add_camera("synthetic://", "yard")
    until(qtbot, lambda: "yard" in first.grid.tiles)
    first.grid.choose("yard")
    first.grid.move_chosen(-1)
    first.grid.enlarge("yard")
    first._prefer(top_k=3, show_bars=False, hidden_labels=("left",), panel_tab=2)
    first.close()
    again = SettingsStore(QSettings(str(tmp_path / "gui.ini"), QSettings.Format.IniFormat))
    second = MainWindow(Session(launcher), again, lambda: Config(), list)
    qtbot.addWidget(second)
    assert second.preferences.top_k == 3 and second.preferences.hidden_labels == ("left",)
    assert not second.preferences.show_bars and second.panel.currentIndex() == 2
    second.show()
    second.session.connect_to(service.control)
    until(qtbot, lambda: set(second.grid.tiles) == {"door", "yard"})
    assert second.grid.cameras.cameras == ["yard", "door"] and second.grid.cameras.enlarged == "yard"
    second.close()


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
