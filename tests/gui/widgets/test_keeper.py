"""Snapshots and recordings."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from PyQt6.QtCore import Qt
from PyQt6.QtGui import QImage
from PyQt6.QtTest import QTest

from tests.gui.widgets.conftest import SOON_MS, until

CTRL = Qt.KeyboardModifier.ControlModifier


def test_a_snapshot_is_saved_with_its_overlay(watching, service, qtbot, tmp_path):
    watching.choices.prefer(folder=str(tmp_path / "kept"))
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
    watching.choices.prefer(folder=str(tmp_path))
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
    watching.choices.prefer(folder=str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    QTest.keyClick(watching, Qt.Key.Key_R, CTRL)
    assert "needs the program ffmpeg" in watching.line.service.accessibleDescription()
    assert not watching.actions_.by_id["record"].isChecked()


def test_a_folder_that_cannot_be_written_to_is_said(watching, qtbot, tmp_path):
    (tmp_path / "file").write_text("")
    watching.choices.prefer(folder=str(tmp_path / "file"))
    QTest.keyClick(watching, Qt.Key.Key_S, CTRL)
    assert "Cannot write" in watching.line.service.accessibleDescription()
