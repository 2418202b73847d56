"""Each camera's figures over all workers and all their restarts, so that a restart does not look like a loss. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec import structs

from stream_i3d.histogram import Histogram
from stream_i3d.stage import CameraFigures, Summary

_AGE_SLACK_S = 2.0
"""A worker tells the age of a frame once a second; what comes on top of that is added to the age."""


class CameraTotals:
    """Keeps, for each worker and camera, the newest figures and those of the worker's earlier processes.

    A camera that a worker has no longer, is forgotten with all its counts: one that comes later by its name is another.
    """

    def __init__(self) -> None:
        self._pids: dict[str, int] = {}
        self._told_at: dict[str, float] = {}
        self._now: dict[str, dict[str, CameraFigures]] = {}
        self._before: dict[str, dict[str, CameraFigures]] = {}

    def take(self, worker: str, pid: int, summary: Summary, now: float) -> None:
        """Take in what the process `pid` of the stage `worker` says; it counts from its start."""
        before = self._before.setdefault(worker, {})
        if self._pids.get(worker, pid) != pid:
            for name, figures in self._now[worker].items():
                before[name] = added([before[name], figures]) if name in before else figures
        self._pids[worker], self._now[worker], self._told_at[worker] = pid, dict(summary.cameras), now
        for name in before.keys() - summary.cameras.keys():
            del before[name]

    def of(self, camera: str, now: float) -> CameraFigures:
        """Return all that was counted for a camera; a frame is older where its worker has not spoken for long."""
        parts = []
        for worker, newest in self._now.items():
            if camera in newest:
                late_s = max(0.0, now - self._told_at[worker] - _AGE_SLACK_S)
                parts += [one for one in (self._before[worker].get(camera),) if one is not None]
                parts.append(_aged(newest[camera], late_s))
        return added(parts)


def _aged(figures: CameraFigures, seconds: float) -> CameraFigures:
    age = figures.frame_age_s
    return figures if age is None else structs.replace(figures, frame_age_s=round(age + seconds, 3))


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
        waiting=every[-1].waiting,
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
