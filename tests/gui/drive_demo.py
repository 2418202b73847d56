"""Drives the real window with the real demo on a real (X) screen, by key and mouse events; run by test_demo.py.

Prints one JSON object of what was seen. Waits are for conditions, bounded; a step that does not come true is an error.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QPoint, QRect, QSettings, Qt
from PyQt6.QtGui import QGuiApplication, QImage
from PyQt6.QtTest import QTest
from PyQt6.QtWidgets import QLabel, QPushButton, QWidget
from stream_i3d_gui.app import make_application, make_window
from stream_i3d_gui.settings_store import SettingsStore
from stream_i3d_gui.state.colours import label_style
from stream_i3d_gui.widgets.add_camera import SCENE, AddCamera
from stream_i3d_gui.widgets.main_window import MainWindow

CTRL = Qt.KeyboardModifier.ControlModifier
LEFT = Qt.MouseButton.LeftButton


def until(condition: Callable[[], object], what: str, seconds: float = 300.0) -> float:
    """Wait until a condition holds; returns the seconds that it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise SystemExit(f"waited {seconds:g} s in vain for {what}")
        QTest.qWait(20)
    return time.monotonic() - began


def screen_shot(window: QWidget, path: Path) -> QImage:
    """Return what the screen shows where the window is, and keep it."""
    QTest.qWait(250)
    screen = QGuiApplication.primaryScreen()
    assert screen is not None
    image = screen.grabWindow(int(window.winId())).toImage()
    image.save(str(path))
    return image


def part_of(image: QImage, widget: QWidget, window: QWidget) -> QImage:
    """Return the part of the window's picture that a widget takes."""
    ratio = image.width() / window.width()
    at = widget.mapTo(window, QPoint(0, 0))
    size = widget.size()
    return image.copy(
        QRect(round(at.x() * ratio), round(at.y() * ratio), round(size.width() * ratio), round(size.height() * ratio))
    )


def colours(image: QImage) -> int:
    """Number of different pixels."""
    return len({image.pixel(x, y) for x in range(0, image.width(), 3) for y in range(0, image.height(), 3)})


def words(widget: QWidget) -> list[str]:
    """All texts of labels and buttons that can be seen."""
    found = [*widget.findChildren(QLabel), *widget.findChildren(QPushButton)]
    return [one.text() for one in found if one.isVisible() and one.text()]


def drive(window: MainWindow, folder: Path) -> dict[str, Any]:
    """Go through all of it; returns what was seen."""
    seen: dict[str, Any] = {}
    first_run(window, folder, seen)
    recognition(window, folder, seen)
    controls(window, seen)
    cameras(window, folder, seen)
    death(window, folder, seen)
    return seen


def first_run(window: MainWindow, folder: Path, seen: dict[str, Any]) -> None:
    image = screen_shot(window, folder / "first-run.png")
    seen["first_run_words"] = words(window)
    seen["first_run_colours"] = colours(part_of(image, window.pictures.empty, window))
    QTest.mouseClick(window.pictures.empty.buttons["demo"], LEFT)


def recognition(window: MainWindow, folder: Path, seen: dict[str, Any]) -> None:
    until(lambda: "demo" in window.grid.tiles, "the demo's camera")
    tile = window.grid.tiles["demo"]
    until(lambda: tile.view.picture is not None and tile.view.shown.kind == "action", "a recognised action")
    until(lambda: len(tile.strip.spans) >= 2, "two segments")
    image = screen_shot(window, folder / "demo.png")
    seen["headline"] = tile.view.shown.headline
    seen["labels"] = list(window.session.board.labels)
    seen["picture_colours"] = colours(part_of(image, tile.view, window))
    strip = part_of(image, tile.strip, window)
    styles = {span.label: label_style(span.label, tile.theme.dark).fill for span in tile.strip.spans}
    pixels = {strip.pixelColor(x, y).name() for x in range(strip.width()) for y in range(0, strip.height(), 2)}
    seen["strip_labels"] = list(styles)
    seen["strip_labels_painted"] = [label for label, fill in styles.items() if fill in pixels]
    until(lambda: window.line.value("Latency").endswith("s"), "a latency", 10)
    seen["latency"], seen["model"] = window.line.value("Latency"), window.line.value("Model")


def controls(window: MainWindow, seen: dict[str, Any]) -> None:
    QTest.keyClick(window, Qt.Key.Key_2, CTRL)
    until(
        lambda: window.panel.controls.service_group.isEnabled() and window.panel.controls.isVisible(),
        "the controls",
        10,
    )
    box = window.panel.controls.stride
    box.setFocus()
    box.selectAll()
    QTest.keyClicks(box, "4")
    QTest.keyClick(box, Qt.Key.Key_Return)
    until(lambda: window.session.settings.get("window.stride") == 4, "the stride", 20)
    track = window.session.board.cameras["demo"].track
    steps: list[int] = []

    def step_of_four() -> bool:
        newest = track.recognition
        if newest is not None and (not steps or newest.window.last_frame != steps[-1]):
            steps.append(newest.window.last_frame)
        return any(later - earlier == 4 for earlier, later in itertools.pairwise(steps))

    until(step_of_four, "windows four frames apart", 30)
    seen["stride"] = 4
    slider = window.panel.controls.threshold_slider
    QTest.mouseClick(slider, LEFT, pos=QPoint(slider.width() - 2, slider.height() // 2))
    for _ in range(30):
        QTest.keyClick(slider, Qt.Key.Key_PageUp)
    until(lambda: window.session.settings.get("idle.min_confidence") == 1.0, "the threshold", 20)
    tile = window.grid.tiles["demo"]
    until(lambda: tile.view.shown.headline == "Idle", "idleness", 30)
    seen["idle_note"] = tile.view.shown.note
    slider.setFocus()
    QTest.keyClick(slider, Qt.Key.Key_Home)
    until(lambda: window.session.settings.get("idle.min_confidence") == 0.0, "the threshold back", 20)


def cameras(window: MainWindow, folder: Path, seen: dict[str, Any]) -> None:
    QTest.keyClick(window, Qt.Key.Key_N, CTRL)
    (dialog,) = [one for one in window.findChildren(AddCamera) if one.isVisible()]
    dialog.cameras.setCurrentIndex(dialog.cameras.findData(SCENE))
    QTest.keyClicks(dialog.camera_name, "second")
    QTest.keyClick(dialog.camera_name, Qt.Key.Key_Return)
    until(lambda: "second" in window.grid.tiles, "a second camera", 60)
    second = window.grid.tiles["second"]
    until(lambda: second.view.picture is not None, "its picture", 60)
    image = screen_shot(window, folder / "grid.png")
    seen["grid_colours"] = [colours(part_of(image, tile.view, window)) for tile in window.grid.visible_tiles]
    QTest.mouseClick(second.view, LEFT)
    seen["enlarged"] = window.grid.cameras.visible
    QTest.keyClick(window, Qt.Key.Key_Escape)
    seen["after_escape"] = window.grid.cameras.visible
    window.grid.choose("second")
    QTest.keyClick(window, Qt.Key.Key_P)
    until(lambda: second.view.shown.dimmed, "the pause", 20)
    seen["paused"] = second.view.shown.state
    QTest.keyClick(window, Qt.Key.Key_S, CTRL)
    seen["snapshots"] = [path.name for path in folder.glob("second-*.png")]


def death(window: MainWindow, folder: Path, seen: dict[str, Any]) -> None:
    hello = window.session.hello
    assert hello is not None
    events = len(window.session.board.history)
    os.kill(hello.pid, signal.SIGKILL)
    seen["noticed_s"] = until(window.pictures.banner.isVisible, "the banner", 20)
    screen_shot(window, folder / "service-gone.png")
    seen["banner"] = window.pictures.banner.words.text()
    seen["history_kept"] = len(window.session.board.history) >= events > 0
    QTest.mouseClick(window.pictures.banner.button, LEFT)
    until(lambda: window.session.state == "up", "the service's return")
    until(lambda: "demo" in window.grid.tiles, "the camera's return")
    until(lambda: window.grid.tiles["demo"].view.shown.kind == "action", "recognition again")
    seen["events_after"] = len(window.session.board.history) >= events
    seen["heavy"] = sorted({"cv2", "torch"} & sys.modules.keys())


def main() -> None:
    """Drive, and print what was seen."""
    folder = Path(sys.argv[1])
    app = make_application(sys.argv[:1])
    settings = QSettings(str(folder / "gui.ini"), QSettings.Format.IniFormat)
    settings.setValue("preferences/folder", str(folder))
    window = make_window(SettingsStore(settings))
    window.show()
    QTest.qWaitForWindowExposed(window)
    window.activateWindow()
    try:
        print(json.dumps(drive(window, folder)))
    finally:
        window.close()
        app.processEvents()


if __name__ == "__main__":
    main()
