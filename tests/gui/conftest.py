"""Widgets without a screen, and a service that is none: real sockets, no process."""

from __future__ import annotations

import os

# The tests' conftest imports OpenCV, which points Qt at plugins of its own.
os.environ.pop("QT_QPA_PLATFORM_PLUGIN_PATH", None)
os.environ.pop("QT_QPA_FONTDIR", None)
os.environ["QT_QPA_PLATFORM"] = "offscreen"

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PyQt6.QtCore import QBuffer, QIODevice, QSettings
from PyQt6.QtGui import QColor, QImage, QPainter
from PyQt6.QtWidgets import QApplication
from stream_i3d_gui.picture import Picture
from stream_i3d_gui.settings_store import SettingsStore

from tests.gui.service import FakeService


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """An unexpected word of Qt fails a test, as an unexpected warning of Python does."""
    for item in items:
        if "tests/gui" in str(item.path):
            item.add_marker(pytest.mark.qt_log_level_fail("WARNING"))
            item.add_marker(pytest.mark.qt_log_ignore("This plugin does not support"))


@pytest.fixture
def application(qapp: QApplication) -> QApplication:
    """The application in the window's own style."""
    qapp.setStyle("Fusion")
    return qapp


@pytest.fixture
def store(tmp_path: Path) -> SettingsStore:
    """Settings in a file of the test's own."""
    return SettingsStore(QSettings(str(tmp_path / "gui.ini"), QSettings.Format.IniFormat))


def jpeg(width: int = 320, height: int = 240, colour: str = "#3366cc") -> bytes:
    """A picture: one colour, with a white disc in the middle."""
    image = QImage(width, height, QImage.Format.Format_RGB32)
    image.fill(QColor(colour))
    painter = QPainter(image)
    painter.setBrush(QColor("white"))
    painter.drawEllipse(width // 2 - 20, height // 2 - 20, 40, 40)
    painter.end()
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "JPEG", 90)
    return bytes(buffer.data())


@pytest.fixture
def picture(application: QApplication) -> Callable[..., Picture]:
    """Return a function that makes a preview picture."""

    def make(width: int = 320, height: int = 240, colour: str = "#3366cc", capture_ns: int = 0) -> Picture:
        data = jpeg(width, height, colour)
        return Picture(QImage.fromData(data).convertToFormat(QImage.Format.Format_RGB32), data, capture_ns, 0)

    return make


@pytest.fixture
def service(tmp_path: Path) -> Iterator[FakeService]:
    """A running service with one camera, "door"."""
    with FakeService(tmp_path) as running:
        yield running
