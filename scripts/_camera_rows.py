"""Rows of bench_pipeline for many cameras: cost by number of cameras, and whether the service keeps up."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil
from _stages import stage_processes

from stream_i3d.config import Config
from stream_i3d.messages import Recognition
from stream_i3d.service.run import run_service
from stream_i3d.stage import Ready
from stream_i3d.transport.sockets import Subscriber
from stream_i3d.transport.wire import decode_published

_SETTLE_S = 3.0
_ROLES = ("worker", "capture", "publisher")


class Weigher:
    """Measures the service's processes: memory, and processor time after a settling time."""

    def __init__(self) -> None:
        self.memory_mb: dict[str, list[float]] = {role: [] for role in _ROLES}
        self._busy: dict[psutil.Process, tuple[str, float, float]] = {}
        self.cores: dict[str, list[float]] = {role: [] for role in _ROLES}

    def begin(self) -> None:
        """Record the processor time so far."""
        for name, process in stage_processes().items():
            self._busy[process] = name.partition(" ")[0], _cpu_s(process), time.monotonic()

    def end(self) -> None:
        """Record memory, and the cores that each process used since `begin`."""
        for process, (role, before, at) in self._busy.items():
            self.memory_mb[role].append(process.memory_info().rss / 1e6)
            self.cores[role].append((_cpu_s(process) - before) / (time.monotonic() - at))


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def camera_row(case: str, config: Config, seconds: float) -> dict[str, Any]:
    """Run the service with the cameras of `config`; return its row. Latencies do not include the first seconds."""
    seen: list[tuple[float, Recognition]] = []
    weigher, over = Weigher(), threading.Event()
    threads: list[threading.Thread] = []

    def listen(address: str) -> None:
        with Subscriber(address) as subscriber:
            while not over.is_set():
                parts = subscriber.receive(0.2)
                if parts is not None and isinstance(message := decode_published(parts), Recognition):
                    seen.append((time.monotonic(), message))

    def weigh() -> None:
        over.wait(_SETTLE_S)
        weigher.begin()
        over.wait(seconds - _SETTLE_S - 0.5)
        weigher.end()

    def on_ready(ready: Ready) -> None:
        for target, arguments in ((listen, (ready.address,)), (weigh, ())):
            threads.append(threading.Thread(target=target, args=arguments, daemon=True))
            threads[-1].start()

    summary = run_service(config, seconds, on_ready)
    over.set()
    for thread in threads:
        thread.join()
    begun = seen[0][0] if seen else 0.0
    whole = [message for at, message in seen if message.state != "warming" and at - begun > _SETTLE_S]
    return {
        "case": case,
        "cameras": len(config.cameras),
        "seconds": seconds,
        "windows_per_s": round(len(whole) / max(0.1, seconds - _SETTLE_S), 2),
        "windows_dropped": sum(summary.windows_dropped.values()),
        "dropped_for": " ".join(f"{reason}:{number}" for reason, number in sorted(summary.windows_dropped.items())),
        "frames_dropped": summary.frames_dropped,
        "median_ms": _percentile([message.latency_ms.total for message in whole], 50),
        "p95_ms": _percentile([message.latency_ms.total for message in whole], 95),
        "inference_ms": _percentile([message.latency_ms.inference for message in whole], 50),
        "queue_p95_ms": _percentile([message.latency_ms.queue for message in whole], 95),
        "capture_mb": _median(weigher.memory_mb["capture"]),
        "worker_mb": _median(weigher.memory_mb["worker"]),
        "publisher_mb": _median(weigher.memory_mb["publisher"]),
        "capture_cores": _median(weigher.cores["capture"], 3),
        "worker_cores": _median(weigher.cores["worker"], 3),
        "all_cores": round(sum(sum(cores) for cores in weigher.cores.values()), 2),
    }


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return round(float(np.percentile(values, percent)), 2) if values else None


def _median(values: Sequence[float], digits: int = 1) -> float | None:
    return round(float(np.median(values)), digits) if values else None
