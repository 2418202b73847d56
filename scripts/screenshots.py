#!/usr/bin/env python3
"""Make the pictures of docs/screenshots: the window on made scenes, without a screen.

    scripts/screenshots.py                        # into docs/screenshots
    scripts/screenshots.py --folder /tmp/x --scale 2 --dark

The window is the real one; the service behind it is sockets alone (scripts/gui_service.py), so that every picture shows
what it is about within seconds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream_i3d_gui.widgets.main_window import MainWindow

ROOT = Path(__file__).parents[1]
_LOST = {"yard": "cannot open rtsp://***@192.168.1.21/stream1: Connection refused"}


def _serve(folder: str, cameras: int, size: tuple[int, int], lost: dict[str, str], stop: Event) -> None:
    from gui_service import GuiService

    GuiService(Path(folder), cameras, size, 25, lost).run(stop.is_set)


@contextmanager
def _window(cameras: int, lost: dict[str, str], dark: bool) -> Iterator[MainWindow]:
    """Give a window of 1280 x 720 on a service with so many cameras (none: no service)."""
    from PyQt6.QtCore import QSettings
    from PyQt6.QtGui import QCursor
    from stream_i3d_gui.app import make_window
    from stream_i3d_gui.settings_store import SettingsStore
    from stream_i3d_gui.widgets.theme import DARK, LIGHT

    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    with tempfile.TemporaryDirectory() as folder:
        service = context.Process(target=_serve, args=(folder, cameras, (960, 540), lost, stop), daemon=True)
        if cameras:
            service.start()
        window = make_window(SettingsStore(QSettings(f"{folder}/gui.ini", QSettings.Format.IniFormat)))
        window.apply_theme(DARK if dark else LIGHT)
        window.resize(1280, 720)
        QCursor.setPos(640, 300)  # away from the tool bar
        window.show()
        if cameras:
            window.session.connect_to(f"ipc://{folder}/control")
            _wait(60, lambda: bool(window.session.board.cameras))
        try:
            yield window
        finally:
            window.close()
            stop.set()
            if cameras:
                service.join(5.0)


def _wait(seconds: float, done: Callable[[], bool] = lambda: False) -> None:
    """Let the window run for so long, or until something is done."""
    from PyQt6.QtCore import QDeadlineTimer
    from PyQt6.QtTest import QTest

    deadline = QDeadlineTimer(round(seconds * 1000))
    while not deadline.hasExpired() and not done():
        QTest.qWait(50)  # type: ignore[call-arg, arg-type]  # PyQt6's stub takes it for a method


def _events(window: MainWindow, number: int) -> Callable[[], bool]:
    return lambda: len(window.session.board.history) >= number


def _keep(window: MainWindow, folder: Path, name: str) -> None:
    path = folder / f"{name}.png"
    window.grab().save(str(path))
    print(path)


def _shoot(folder: Path, seconds: float, dark: bool) -> None:
    with _window(0, {}, dark) as window:
        _wait(1.5)
        _keep(window, folder, "first-run")
    with _window(1, {}, dark) as window:
        _wait(seconds, _events(window, 7))
        _keep(window, folder, "one-camera")
        window.open_tab(1)
        _wait(1.5)
        _keep(window, folder, "controls")
        window.open_tab(2)
        _wait(1.5)
        _keep(window, folder, "details")
    with _window(4, {}, dark) as window:
        _wait(seconds, _events(window, 16))
        _keep(window, folder, "four-cameras")
    with _window(2, _LOST, dark) as window:
        _wait(seconds, _events(window, 5))
        _keep(window, folder, "lost-camera")


def main() -> None:
    """Make them all."""
    parser = argparse.ArgumentParser(description="Make the pictures of docs/screenshots.")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "screenshots")
    parser.add_argument("--scale", type=float, default=1.0, help="of the screen (default: 1)")
    parser.add_argument("--dark", action="store_true", help="the dark theme (default: light)")
    parser.add_argument("--seconds", type=float, default=45.0, help="at most, before each picture (default: 45)")
    given = parser.parse_args()
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    os.environ["QT_SCALE_FACTOR"] = str(given.scale)
    from stream_i3d_gui.app import make_application

    app = make_application(sys.argv[:1])
    given.folder.mkdir(parents=True, exist_ok=True)
    _shoot(given.folder, given.seconds, given.dark)
    app.quit()


if __name__ == "__main__":
    main()
