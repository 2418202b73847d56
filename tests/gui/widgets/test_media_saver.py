"""Snapshots and recordings."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from PyQt6.QtCore import QStandardPaths, Qt
from PyQt6.QtGui import QImage
from PyQt6.QtTest import QTest
from stream_i3d_gui.recorder import Recorder

from tests.gui.widgets.conftest import SOON_MS, add, send, until
from tests.samples import recognition

CTRL = Qt.KeyboardModifier.ControlModifier


def test_a_snapshot_is_saved_with_its_overlay(watching, service, qtbot, tmp_path):
    watching.window_settings.prefer(folder=str(tmp_path / "kept"))
    QTest.keyClick(watching, Qt.Key.Key_S, CTRL)
    QTest.keyClick(watching, Qt.Key.Key_S, CTRL)
    files = sorted((tmp_path / "kept").glob("door-*.png"))
    assert len(files) == 2
    image = QImage(str(files[0]))
    assert (image.width(), image.height()) == (320, 240)
    assert image.pixelColor(160, 80) != image.pixelColor(20, 225)
    assert str(tmp_path) in watching.line.service.accessibleDescription()


def test_snapshots_of_the_same_second_keep_the_cameras_name(watching, service, qtbot, tmp_path, monkeypatch):
    add(watching, qtbot, "front_door")
    monkeypatch.setattr("stream_i3d_gui.widgets.media_saver.time.time", lambda: 1e9)
    kept = [watching.media_saver.snapshot("front_door", str(tmp_path)) for _ in range(3)]
    first = kept[0].stem
    assert first.startswith("front_door-2001") and [path.stem for path in kept] == [first, f"{first}_2", f"{first}_3"]


def test_a_folder_that_cannot_be_made_is_named(watching, tmp_path, monkeypatch):
    (tmp_path / "stream-i3d").write_text("")
    monkeypatch.setattr(QStandardPaths, "writableLocation", lambda _: str(tmp_path))
    assert watching.media_saver.snapshot("door", "") is None
    assert watching.line.service.accessibleDescription() == f"Cannot write {tmp_path / 'stream-i3d'}"


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_a_recording_goes_on_under_the_cameras_new_name(watching, service, qtbot, tmp_path):
    watching.window_settings.prefer(folder=str(tmp_path))
    QTest.keyClick(watching, Qt.Key.Key_R, CTRL)
    recorder = watching.media_saver._recorder
    watching.session.rename_camera("door", "gate")
    until(qtbot, lambda: "gate" in watching.grid.tiles)
    written = recorder._pace.written
    until(qtbot, lambda: recorder._pace.written > written)
    assert watching.media_saver.camera == "gate" and watching.media_saver._recorder is recorder
    assert watching.actions_.by_id["record"].isChecked()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_what_is_recorded_is_labelled_though_another_camera_is_enlarged(watching, service, qtbot, tmp_path):
    add(watching, qtbot, "yard")
    watching.grid.choose("door")
    watching.window_settings.prefer(folder=str(tmp_path))
    QTest.keyClick(watching, Qt.Key.Key_R, CTRL)
    watching.grid.enlarge("yard")
    view = watching.grid.tiles["door"].view
    send(service, recognition(), lambda: view.shown.headline == "waving", qtbot)
    assert not view.isVisible()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_a_recording_ends_with_the_service_that_is_let_go(watching, qtbot, tmp_path):
    watching.window_settings.prefer(folder=str(tmp_path))
    QTest.keyClick(watching, Qt.Key.Key_R, CTRL)
    assert watching.media_saver.camera == "door"
    watching.session.close()
    assert watching.media_saver.camera == "" and watching.grid.tiles == {}
    assert not watching.actions_.by_id["snapshot"].isEnabled()


def test_a_recording_whose_codec_hangs_ends_all_the_same(application, qtbot, tmp_path, monkeypatch):
    monkeypatch.setattr("stream_i3d_gui.recorder._END_WITHIN_S", 0.1)
    hanging = tmp_path / "ffmpeg"
    hanging.write_text("#!/bin/sh\nexec sleep 60\n")
    hanging.chmod(0o755)
    picture = QImage(640, 480, QImage.Format.Format_RGB32)
    recorder = Recorder(str(tmp_path / "x.mp4"), picture, 0.0, find=lambda _: str(hanging))
    until(qtbot, recorder._pictures.empty)  # the first is under way, and stays so
    for number in range(1, 20):
        recorder.add(picture, number / 20)
    assert recorder.dropped > 0
    assert recorder.finish() == "ffmpeg ended with code -9"


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_a_recording_is_a_video_that_plays(watching, service, qtbot, tmp_path):
    watching.window_settings.prefer(folder=str(tmp_path))
    QTest.keyClick(watching, Qt.Key.Key_R, CTRL)
    assert watching.actions_.by_id["record"].isChecked()
    assert watching.session._wanted == {"door": None}  # in full, however small it is shown
    recorder = watching.media_saver._recorder
    assert recorder is not None
    until(qtbot, lambda: recorder._pace.written >= 10)
    with qtbot.waitSignal(
        watching.media_saver.notice, timeout=SOON_MS, check_params_cb=lambda words, bad: words.startswith("Recorded")
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
    watching.window_settings.prefer(folder=str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    QTest.keyClick(watching, Qt.Key.Key_R, CTRL)
    assert "needs the program ffmpeg" in watching.line.service.accessibleDescription()
    assert not watching.actions_.by_id["record"].isChecked()


def test_a_folder_that_cannot_be_written_to_is_said(watching, qtbot, tmp_path):
    (tmp_path / "file").write_text("")
    watching.window_settings.prefer(folder=str(tmp_path / "file"))
    QTest.keyClick(watching, Qt.Key.Key_S, CTRL)
    assert "Cannot write" in watching.line.service.accessibleDescription()
