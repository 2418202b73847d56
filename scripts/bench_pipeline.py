"""Measures the whole service with the synthetic camera: latency besides inference, drops, and overload.

steady     a camera at 30 frames/s with the packaged model: drops, and p95 of capture -> publish minus inference
overload   the same with an engine at a tenth of the needed speed: age of each window's newest frame at the start
           of its inference (limit: one inference plus one stride), and growth of the worker's memory
cameras-N  N cameras of 640 x 480 H.264 at 30 frames/s over RTSP from loopback: latency from the newest frame's capture
           to publishing, drops, memory and CPU use of each process (the reference is --cameras 8 --seconds 60)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import Any

import click
import numpy as np
import psutil
from _bench import report
from _camera_rows import camera_row
from _scene_camera import scene_camera
from _stages import stage_processes

from stream_i3d.config import CameraConfig, Config, ControlConfig, IdleConfig, ModelConfig, PublishConfig, WindowConfig
from stream_i3d.inference.engine import Batch, Engine, LoadedModel, State
from stream_i3d.inference.setup import ModelSetup, wait_passively
from stream_i3d.inference.worker.drain import WorkerJob
from stream_i3d.inference.worker.process import serve, worker_main
from stream_i3d.messages import Recognition
from stream_i3d.recognition.head import Features
from stream_i3d.service.run import run_service
from stream_i3d.stage import Ready, Stage
from stream_i3d.transport.sockets import Subscriber
from stream_i3d.transport.wire import decode_published

STRIDE, SAMPLE_FPS, SLOWDOWN = 8, 25.0, 10.0


class SlowEngine:
    """Wraps an engine so that every batch takes `SLOWDOWN` strides."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.description, self.facts = f"{engine.description}, slowed", engine.facts
        self.clip_shape = engine.clip_shape
        self.make_ring, self.prepare = engine.make_ring, engine.prepare

    def run(self, batch: Batch, states: Sequence[State]) -> tuple[Features, list[State]]:
        """As the other engine, later."""
        until = time.monotonic() + SLOWDOWN * STRIDE / SAMPLE_FPS
        found = self._engine.run(batch, states)
        time.sleep(max(0.0, until - time.monotonic()))
        return found


def slow_worker_main(stage: Stage, job: WorkerJob) -> None:
    """Entry point of a slowed worker process."""
    wait_passively()
    from stream_i3d.inference.backends import load_model

    def load(setup: ModelSetup) -> LoadedModel:
        model = load_model(setup)
        return LoadedModel(SlowEngine(model.engine), model.head)

    serve(stage, job, load)


class Watcher:
    """Subscribes to the service and measures the memory of its processes."""

    def __init__(self) -> None:
        self.recognitions: list[Recognition] = []
        self.memory_mb: dict[str, list[float]] = {}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, ready: Ready) -> None:
        """Start; called when the worker publishes."""
        for target, args in ((self._listen, (ready.address,)), (self._weigh, ())):
            self._threads.append(threading.Thread(target=target, args=args, daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        """Stop both threads."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def growth_mb(self, name: str) -> float:
        """Return the growth of a process from the first quarter of the run (median) to the last."""
        values = self.memory_mb[name]
        quarter = max(1, len(values) // 4)
        return float(np.median(values[-quarter:]) - np.median(values[:quarter]))

    def _listen(self, address: str) -> None:
        with Subscriber(address, ("v1/bench/prediction",)) as subscriber:
            while not self._stop.is_set():
                parts = subscriber.receive(0.2)
                if parts is not None and isinstance(message := decode_published(parts), Recognition):
                    self.recognitions.append(message)

    def _weigh(self) -> None:
        while not self._stop.wait(1.0):
            for name, process in stage_processes().items():
                with suppress(psutil.Error):  # it ended while it was looked at
                    self.memory_mb.setdefault(name.partition(" ")[0], []).append(process.memory_info().rss / 1e6)


def run_case(case: str, seconds: float, checkpoint: str, worker: Callable[[Stage, Any], None]) -> dict[str, Any]:
    """Run the service once and return its row."""
    config = Config(
        cameras=[CameraConfig(source="synthetic://?seed=5&fps=30", name="bench")],
        model=ModelConfig(checkpoint=checkpoint),
        window=WindowConfig(stride=STRIDE),
        idle=IdleConfig(min_confidence=0.0, min_motion=0.0),
        publish=PublishConfig(address="tcp://127.0.0.1:*"),
    )
    watcher = Watcher()
    summary = run_service(config, seconds, watcher.start, worker)
    watcher.stop()
    seen = [message for message in watcher.recognitions if message.state != "warming"]
    inference = np.array([message.latency_ms.inference for message in seen])
    queue = np.array([message.latency_ms.queue for message in seen])
    total = np.array([message.latency_ms.total for message in seen])
    steps = np.diff([message.window.last_frame for message in seen])
    return {
        "case": case,
        "seconds": seconds,
        "windows": len(seen),
        "windows_dropped": sum(summary.windows_dropped.values()),
        "frames_dropped": summary.frames_dropped,
        "strides_missed": int((steps // STRIDE - 1).sum()),
        "median_ms": round(float(np.median(inference)), 2),
        "overhead_p50_ms": round(float(np.percentile(total - inference, 50)), 2),
        "overhead_p95_ms": round(float(np.percentile(total - inference, 95)), 2),
        "age_max_ms": round(float(queue.max()), 1),
        "age_bound_ms": round(float(inference.max()) + 1000 * STRIDE / SAMPLE_FPS, 1),
        "worker_growth_mb": round(watcher.growth_mb("worker"), 2),
        "worker_mb": round(max(watcher.memory_mb["worker"]), 1),
        "capture_mb": round(max(watcher.memory_mb["capture"]), 1),
    }


def camera_config(sources: Sequence[str], model: ModelConfig, stride: int) -> Config:
    """Return the configuration of a row with many cameras."""
    return Config(
        cameras=[CameraConfig(source=source, name=f"c{number}") for number, source in enumerate(sources)],
        model=model,
        window=WindowConfig(stride=stride),
        idle=IdleConfig(min_confidence=0.0, min_motion=0.0),
        publish=PublishConfig(address="tcp://127.0.0.1:*"),
        control=ControlConfig(address="off"),
    )


@click.command()
@click.option("--seconds", default=60.0, help="Of each case.")
@click.option("--checkpoint", default="motion", help="The small network.")
@click.option("--cameras", "counts", multiple=True, type=int, help="Only rows of so many cameras; repeatable.")
@click.option("--source", "kind", type=click.Choice(["rtsp", "synthetic"]), default="rtsp", help="Their kind.")
@click.option("--backend", type=click.Choice(["auto", "torch", "openvino"]), default="auto")
@click.option("--stride", default=STRIDE, help="Frames between windows, with --cameras.")
def main(seconds: float, checkpoint: str, counts: tuple[int, ...], kind: str, backend: Any, stride: int) -> None:
    """Run all cases, or only those with --cameras cameras."""
    rows = []
    if not counts:
        rows += [
            run_case("steady", seconds, checkpoint, worker_main),
            run_case("overload", seconds, checkpoint, slow_worker_main),
        ]
    model = ModelConfig(checkpoint=checkpoint, backend=backend)
    with scene_camera(5, (640, 480), 30.0) if kind == "rtsp" else nullcontext() as camera:
        for count in counts or (1, 2, 4, 8):
            sources = [
                camera.url if camera else f"synthetic://?seed={number}&fps=30&size=640x480" for number in range(count)
            ]
            rows.append(camera_row(f"cameras-{count}", camera_config(sources, model, stride), seconds))
    report("pipeline", rows)


if __name__ == "__main__":
    main()
