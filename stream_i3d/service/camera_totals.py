"""Each camera's figures over all workers and all their restarts, so that a restart does not look like a loss. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from stream_i3d.histogram import Histogram
from stream_i3d.stage import CameraFigures, Summary


class CameraTotals:
    """Keeps, for each worker and camera, the newest figures and those of the worker's earlier processes.

    A camera that a worker has no longer, is forgotten with all its counts: one that comes later by its name is another.
    """

    def __init__(self) -> None:
        self._pids: dict[str, int] = {}
        self._now: dict[str, dict[str, CameraFigures]] = {}
        self._before: dict[str, dict[str, CameraFigures]] = {}

    def take(self, worker: str, pid: int, summary: Summary) -> None:
        """Take in what the process `pid` of the stage `worker` says; it counts from its start."""
        before = self._before.setdefault(worker, {})
        if self._pids.get(worker, pid) != pid:
            for name, figures in self._now[worker].items():
                before[name] = added([before[name], figures]) if name in before else figures
        self._pids[worker], self._now[worker] = pid, dict(summary.cameras)
        for name in before.keys() - summary.cameras.keys():
            del before[name]

    def of(self, camera: str) -> CameraFigures:
        """Return all that was counted for a camera."""
        parts = []
        for worker, now in self._now.items():
            if camera in now:
                parts += [one for one in (self._before[worker].get(camera), now[camera]) if one is not None]
        return added(parts)


def added(parts: Iterable[CameraFigures]) -> CameraFigures:
    """Return counts added up; what is as of now (age, stride) is the last one's."""
    every = list(parts)
    if not every:
        return CameraFigures()
    return CameraFigures(
        frames=sum(one.frames for one in every),
        frames_dropped=sum(one.frames_dropped for one in every),
        windows=sum(one.windows for one in every),
        windows_dropped=_counts(one.windows_dropped for one in every),
        skipped=sum(one.skipped for one in every),
        predictions=_counts(one.predictions for one in every),
        events=_counts(one.events for one in every),
        queue=_sum(one.queue for one in every),
        inference=_sum(one.inference for one in every),
        total=_sum(one.total for one in every),
        frame_age_s=every[-1].frame_age_s,
        stride=every[-1].stride,
    )


def _counts(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


def _sum(parts: Iterable[Histogram]) -> Histogram:
    total = Histogram()
    for part in parts:
        total = total.plus(part)
    return total
