"""Measures the memory of the service's processes and its growth, with the full Inception I3D on a video.

Each installed backend runs for --minutes with --cameras (1) of 640 x 480 at 30 frames/s and stride 8. The memory of
every process is measured every second; a row is a process.

    rss_mb           largest resident memory; wanted_mb: the target; ratio: wanted_mb / rss_mb
    peak_mb          largest since the start of the process, including loading (Linux)
    pss_mb, uss_mb   largest, with shared memory divided among the processes, and without it
    slope_mb_min     growth of resident memory per minute after the first quarter, by least squares
    minutes          resident memory at the end of each minute
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
from _bench import report
from _full_checkpoint import full_checkpoint
from _scene_video import write_scene_video
from _stages import stage_processes

from stream_i3d.config import BackendName, CameraConfig, Config, IdleConfig, ModelConfig, PublishConfig
from stream_i3d.inference.backends import BACKENDS
from stream_i3d.service.run import run_service

BACKENDS_ON_CPU: tuple[BackendName, ...] = ("openvino", "torch")
WANTED_MB = {"worker": 900.0, "capture": 120.0}
_FILM_S = 10.0


@dataclass(slots=True)
class Weights:
    """A process's resident memory over time, and the largest values of other measures."""

    at_s: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    peak_mb: float | None = None
    pss_mb: float = 0.0
    uss_mb: float = 0.0


class Scales:
    """A thread that measures this process and its children every second."""

    def __init__(self) -> None:
        self.found: dict[str, Weights] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self, _: object) -> None:
        """Start; called when the worker publishes."""
        self._thread.start()

    def stop(self) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(1.0):
            for name, process in {"supervisor and this script": psutil.Process(), **stage_processes()}.items():
                self._weigh(self.found.setdefault(name, Weights()), process, time.monotonic() - began)

    def _weigh(self, weights: Weights, process: psutil.Process, now: float) -> None:
        try:
            full = process.memory_full_info()
        except psutil.Error:
            return  # it ended while it was looked at
        if not full.rss:
            return  # the process has ended, but has not been waited for
        weights.at_s.append(now)
        weights.rss_mb.append(full.rss / 1e6)
        weights.peak_mb = _peak_mb(process.pid)
        weights.uss_mb = max(weights.uss_mb, full.uss / 1e6)
        weights.pss_mb = max(weights.pss_mb, getattr(full, "pss", 0) / 1e6)  # Linux only


def _peak_mb(pid: int) -> float | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    found = [float(line.split()[1]) * 1024e-6 for line in lines if line.startswith("VmHWM:")]
    return found[0] if found else None


def row_of(case: str, process: str, weights: Weights) -> dict[str, Any]:
    """Return the row of a process."""
    at, rss = np.asarray(weights.at_s), np.asarray(weights.rss_mb)
    later = at >= at[-1] / 4
    slope = float(np.polyfit(at[later] / 60, rss[later], 1)[0]) if later.sum() > 2 else None
    ends = [rss[at <= 60 * (minute + 1)][-1] for minute in range(int(at[-1] / 60))]
    wanted = WANTED_MB.get(process.partition(" ")[0])
    return {
        "case": f"{case} {process}",
        "rss_mb": round(float(rss.max()), 1),
        "wanted_mb": wanted,
        "ratio": None if wanted is None else round(wanted / float(rss.max()), 2),
        "peak_mb": _rounded(weights.peak_mb),
        "pss_mb": _rounded(weights.pss_mb or None),
        "uss_mb": _rounded(weights.uss_mb),
        "slope_mb_min": _rounded(slope),
        "minutes": " ".join(f"{end:.0f}" for end in ends),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def run_case(backend: BackendName, checkpoint: str, videos: Sequence[Path], minutes: float) -> Mapping[str, Weights]:
    """Run the service; return the measurements of each process by name."""
    config = Config(
        cameras=[CameraConfig(source=str(video), name=f"camera-{n}") for n, video in enumerate(videos)],
        model=ModelConfig(checkpoint=checkpoint, backend=backend, device="cpu"),
        idle=IdleConfig(min_confidence=0.0, min_motion=0.0),
        publish=PublishConfig(address="tcp://127.0.0.1:*"),
    )
    scales = Scales()
    run_service(config, 60 * minutes, scales.start)
    scales.stop()
    return scales.found


@click.command()
@click.option("--minutes", default=1.0, show_default=True, help="Of each case.")
@click.option("--cameras", default=1, show_default=True, help="At once.")
@click.option("--checkpoint", help="Another network than the full Inception I3D, of 400 classes.")
@click.option("--backend", "backends", multiple=True, type=click.Choice(BACKENDS_ON_CPU), help="Only this; repeatable.")
def main(minutes: float, cameras: int, checkpoint: str | None, backends: tuple[BackendName, ...]) -> None:
    """Measure the memory of the service."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="stream-i3d-bench-") as name:
        folder = Path(name)
        os.environ["STREAM_I3D_HOME"] = name  # what is converted here is of no use to anyone
        video = folder / "video.mp4"
        write_scene_video(video, 3, (640, 480), 30, _FILM_S, times=2 + int(60 * minutes / _FILM_S))
        given = checkpoint or full_checkpoint(folder)
        for backend in backends or BACKENDS_ON_CPU:
            if BACKENDS[backend].installed:
                found = run_case(backend, given, [video] * cameras, minutes)
                rows += [row_of(backend, process, weights) for process, weights in sorted(found.items())]
    report("memory", rows)


if __name__ == "__main__":
    main()
