"""The whole window on a service of real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from PyQt6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot
from stream_i3d_gui.session import Session
from stream_i3d_gui.settings_store import SettingsStore
from stream_i3d_gui.sources import FoundCamera
from stream_i3d_gui.widgets.main_window import MainWindow

from stream_i3d.config import Config
from tests.gui.conftest import jpeg
from tests.gui.service import FakeService

SOON_MS = 10_000


class Launcher:
    """Starts nothing, and remembers what was to be started."""

    control = "ipc:///nonexistent/control"

    def __init__(self) -> None:
        self.configs: list[Config] = []
        self.code: int | None = None
        self.words = ""

    def __call__(self, config: Config) -> Launcher:
        self.configs.append(config)
        return self

    def poll(self) -> int | None:
        return self.code

    def failure(self) -> str:
        return self.words

    def close(self) -> None:
        self.code = None


@pytest.fixture
def launcher() -> Launcher:
    return Launcher()


@pytest.fixture
def window(application: QApplication, store: SettingsStore, launcher: Launcher, qtbot: QtBot) -> Iterator[MainWindow]:
    made = MainWindow(Session(launcher), store, lambda: Config(), lambda: [FoundCamera("0", "Desk camera")])
    qtbot.addWidget(made)
    made.show()
    with qtbot.waitActive(made):
        made.activateWindow()
    yield made
    made.close()


@pytest.fixture
def watching(window: MainWindow, service: FakeService, qtbot: QtBot) -> MainWindow:
    """The window with one camera whose picture is painted."""
    window.session.connect_to(service.control)
    qtbot.waitUntil(lambda: service.watched.get("door", False), timeout=SOON_MS)
    service.preview("door", jpeg())
    qtbot.waitUntil(lambda: window.grid.tiles["door"].view.picture is not None, timeout=SOON_MS)
    return window


def until(qtbot: QtBot, condition: Callable[[], object]) -> None:
    qtbot.waitUntil(lambda: bool(condition()), timeout=SOON_MS)


def add(window: MainWindow, qtbot: QtBot, *names: str) -> None:
    for name in names:
        window.session.add_camera("synthetic://", name)
    until(qtbot, lambda: set(names) <= set(window.grid.tiles))


def send(service: FakeService, message: object, arrived: Callable[[], object], qtbot: QtBot) -> None:
    def once() -> bool:
        service.publish(message)  # type: ignore[arg-type]
        return bool(arrived())

    qtbot.waitUntil(once, timeout=SOON_MS)
