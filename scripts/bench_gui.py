"""Measures the window: latency from capture to painting, blocking of its event loop, idle CPU, and memory.

The cases are one camera at 720p and 30 fps, and four at 360p and 15 fps, from a process that sends prepared pictures,
so that only the window is measured; then one at 720p and 30 fps from the real service, which decodes a video, encodes
previews and recognises with `motion` on the same cores. The window runs without a screen (offscreen) unless
QT_QPA_PLATFORM is set. Targets: p95 from capture to painting at most 80 ms, no blocking over 50 ms, an idle window
under 5 % of a core.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import psutil
from _bench import report
from _scene_video import write_scene_video

from stream_i3d.config import CameraConfig, Config

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

_PROBE_MS = 5
_START_S = 60.0

Row = dict[str, Any]
Begin = Callable[[Any], None]
"""Connects a window to a service."""


def _serve(folder: str, cameras: int, size: tuple[int, int], fps: float, stop: Event) -> None:
    """Run a service whose cameras send prepared pictures, with three predictions a second."""
    from gui_service import GuiService

    GuiService(Path(folder), cameras, size, fps).run(stop.is_set)


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


class _Probe:
    """Measures how long the event loop is blocked by the delays of a timer."""

    def __init__(self) -> None:
        from PyQt6.QtCore import Qt, QTimer

        self.late = array("f")  # 4 bytes each: the probe must not be the memory that is measured
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(_PROBE_MS)
        self._timer.timeout.connect(self._tick)
        self._timer.start()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.late.append((now - self._last) * 1000 - _PROBE_MS)
        self._last = now

    def stop(self) -> None:
        self._timer.stop()


@contextmanager
def _made_service(folder: Path, cameras: int, size: tuple[int, int], fps: float) -> Iterator[Begin]:
    """Run a service of sockets only; yields a function that connects a window to it."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    service = context.Process(target=_serve, args=(str(folder), cameras, size, fps, stop), daemon=True)
    service.start()
    yield lambda window: window.session.connect_to(f"ipc://{folder}/control")
    stop.set()
    service.join(5.0)


@contextmanager
def _real_service(folder: Path, seconds: float) -> Iterator[Begin]:
    """Run a real service on a video of 720p at 30 fps; yields like `_made_service`."""
    path = folder / "camera.mp4"
    write_scene_video(path, 7, (1280, 720), 30, seconds)
    yield lambda window: window.start(Config(cameras=[CameraConfig(source=str(path), name="camera")]))


def _measure(name: str, cameras: int, service: Callable[[Path], AbstractContextManager[Begin]], seconds: float) -> Row:
    """Show the cameras of a service for `seconds` and return the measurements; no camera gives an idle window."""
    from PyQt6.QtCore import QSettings
    from PyQt6.QtWidgets import QApplication
    from stream_i3d_gui.app import make_application, make_window
    from stream_i3d_gui.settings_store import SettingsStore

    app = QApplication.instance() or make_application(["bench_gui"])
    with tempfile.TemporaryDirectory() as folder, service(Path(folder)) as begin:
        window = make_window(SettingsStore(QSettings(f"{folder}/gui.ini", QSettings.Format.IniFormat)))
        window.show()
        latencies = array("f")
        window.grid.painted.connect(lambda _, latency: latencies.append(latency))
        begin(window)
        _run(app, _START_S if cameras else 5.0, lambda: len(latencies) < 30 * cameras)
        _run(app, 2.0)
        del latencies[:]
        process = psutil.Process()
        process.cpu_percent()
        memory, began = process.memory_info().rss, time.perf_counter()
        # The probe itself costs: an idle window is measured without it.
        probe = _Probe() if cameras else None
        _run(app, seconds / 2)
        half_way = process.memory_info().rss
        _run(app, seconds / 2)
        cpu = process.cpu_percent()
        took = time.perf_counter() - began
        if probe is not None:
            probe.stop()
        grown = {
            "memory_grown_mib": (half_way - memory) / 2**20,  # lists and curves that are bounded fill up
            "then_grown_mib": (process.memory_info().rss - half_way) / 2**20,
        }
        window.close()
    row: Row = {"case": name, "painted_fps": len(latencies) / took}
    if latencies:
        row |= {"p50_ms": statistics.median(latencies), "p95_ms": _percentile(latencies, 0.95)}
        row["cpu_ms_per_picture"] = 10 * cpu * took / len(latencies)  # says something on a busy machine, too
    if probe is not None:
        row |= {"blocked_p99_ms": _percentile(probe.late, 0.99), "blocked_max_ms": max(probe.late)}
    return {**row, "cpu_percent": cpu, **grown}


def _run(app: Any, seconds: float, wanted: Callable[[], bool] = lambda: True) -> None:
    """Let the event loop run, as `exec` does, for `seconds` or while `wanted`."""
    from PyQt6.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    QTimer.singleShot(round(seconds * 1000), loop.quit)
    check = QTimer()
    check.timeout.connect(lambda: None if wanted() else loop.quit())
    check.start(500)
    loop.exec()
    check.stop()


def main() -> None:
    """Measure the three cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="per case (default: 10)")
    parser.add_argument("--memory-seconds", type=float, default=0.0, help="one camera this long, for memory (600)")
    given = parser.parse_args()

    def made(cameras: int, size: tuple[int, int], fps: float) -> Callable[[Path], AbstractContextManager[Begin]]:
        return lambda folder: _made_service(folder, cameras, size, fps)

    seconds = given.seconds
    rows = [
        _measure("idle, no service", 0, lambda _: nullcontext(lambda window: None), seconds),
        _measure("one camera, 720p, 30 fps", 1, made(1, (1280, 720), 30), seconds),
        _measure("four cameras, 360p, 15 fps", 4, made(4, (640, 360), 15), seconds),
        _measure("real service, 720p, 30 fps", 1, lambda folder: _real_service(folder, seconds + 15), seconds),
    ]
    if given.memory_seconds:
        rows.append(_measure("one camera, for memory", 1, made(1, (1280, 720), 30), given.memory_seconds))
    report("gui", rows)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
