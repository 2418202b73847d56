#!/usr/bin/env python3
"""Makes the pictures of docs/screenshots: the window on the service with generated scenes, without a screen.

    scripts/screenshots.py                        # into docs/screenshots
    scripts/screenshots.py --folder /tmp/x --scale 2 --dark

The labels are those of the packaged model. The lost camera is a real process that the script ends.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from _scene_camera import scene_camera

from stream_i3d.config import CameraConfig, Config, IdleConfig, PublishConfig

if TYPE_CHECKING:
    from stream_i3d_gui.widgets.main_window import MainWindow

ROOT = Path(__file__).parents[1]
_SIZE, _FPS = (640, 360), 25
_START_S = 120.0


def _scene(name: str, seed: int) -> CameraConfig:
    return CameraConfig(name=name, source=f"synthetic://?seed={seed}&fps={_FPS}&size={_SIZE[0]}x{_SIZE[1]}")


_FRONT_DOOR = _scene("front-door", 7)
_FOUR = [_FRONT_DOOR, _scene("yard", 12), _scene("workshop", 4), _scene("loading-bay", 21)]


@contextmanager
def _window(cameras: list[CameraConfig], dark: bool) -> Iterator[MainWindow]:
    """Give a window of 1280 x 720 on a service with these cameras (none: no service)."""
    from PyQt6.QtCore import QSettings
    from PyQt6.QtGui import QCursor
    from stream_i3d_gui.app import make_window
    from stream_i3d_gui.settings_store import SettingsStore
    from stream_i3d_gui.widgets.theme import DARK, LIGHT

    with tempfile.TemporaryDirectory() as folder:
        window = make_window(SettingsStore(QSettings(f"{folder}/gui.ini", QSettings.Format.IniFormat)))
        window.apply_theme(DARK if dark else LIGHT)
        window.resize(1280, 720)
        QCursor.setPos(640, 300)  # away from the tool bar
        window.show()
        if cameras:
            window.start(Config(cameras=cameras, publish=PublishConfig(top_k=10), idle=IdleConfig(min_motion=1.0)))
            _until(lambda: bool(window.session.board.cameras), _START_S)
        try:
            yield window
        finally:
            window.close()


def _until(done: Callable[[], bool], seconds: float) -> None:
    """Let the window run until something is done, or for so long."""
    from PyQt6.QtCore import QDeadlineTimer
    from PyQt6.QtTest import QTest

    deadline = QDeadlineTimer(round(seconds * 1000))
    while not deadline.hasExpired() and not done():
        QTest.qWait(50)  # type: ignore[call-arg, arg-type]  # PyQt6's stub takes it for a method


def _events(window: MainWindow, number: int) -> bool:
    return len(window.session.board.history) >= number


def _sure(window: MainWindow, number: int, least: float = 0.8) -> bool:
    """Tell whether so many cameras show an action that the model is sure of."""
    views = [tile.view for tile in window.grid.visible_tiles]
    sure = sum(1 for view in views if view.shown is not None and (view.shown.confidence or 0.0) >= least)
    return sure >= number


def _keep(window: MainWindow, folder: Path, name: str) -> None:
    _until(lambda: False, 0.5)  # until what is known is shown
    path = folder / f"{name}.png"
    window.grab().save(str(path))
    _reduce(path)
    print(path)


def _reduce(path: Path) -> None:
    """Write a picture again with 256 colours: a third of the size. The colours of labels stay as they are."""
    from PIL import Image

    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(
            256, method=Image.Quantize.MAXCOVERAGE, kmeans=4, dither=Image.Dither.NONE
        )
    few.save(path, optimize=True)


def _shoot(folder: Path, seconds: float, dark: bool) -> None:
    with _window([], dark) as window:
        _until(lambda: False, 1.5)
        _keep(window, folder, "first-run")
    with _window([_FRONT_DOOR], dark) as window:
        _until(lambda: _events(window, 7) and _sure(window, 1), seconds)
        _keep(window, folder, "one-camera")
        for tab, name in ((1, "controls"), (2, "details")):
            window.open_tab(tab)
            _until(lambda: False, 2.0)
            _keep(window, folder, name)
    with _window(_FOUR, dark) as window:
        _until(lambda: _events(window, 16) and _sure(window, 3), seconds)
        _keep(window, folder, "four-cameras")
    with (
        scene_camera(12, _SIZE, _FPS) as yard,
        _window([_FRONT_DOOR, CameraConfig(name="yard", source=yard.url)], dark) as window,
    ):
        _until(lambda: _events(window, 6), seconds)
        yard.stop()
        track = window.session.board.cameras["yard"].track
        _until(lambda: (track.shown(window.session.clock()).next_try_s or 0) >= 3 and _sure(window, 1), seconds)
        _keep(window, folder, "lost-camera")


def main() -> None:
    """Make them all."""
    parser = argparse.ArgumentParser(description="Make the pictures of docs/screenshots.")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "screenshots")
    parser.add_argument("--scale", type=float, default=1.0, help="of the screen (default: 1)")
    parser.add_argument("--dark", action="store_true", help="the dark theme (default: light)")
    parser.add_argument("--seconds", type=float, default=90.0, help="at most, before each picture (default: 90)")
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
