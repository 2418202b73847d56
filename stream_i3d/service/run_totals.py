"""The figures of a whole run, added up over its workers and over their restarts. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import structs

from stream_i3d.stage import PublisherSummary, Summary


class RunTotals:
    """Keeps the newest summary of every process; one that was started again counts from 0."""

    def __init__(self) -> None:
        self._workers: dict[str, Summary] = {}  # without what is in `_current`
        self._current: dict[str, tuple[int, Summary]] = {}
        self._publisher_before = Summary()
        self._publisher: tuple[int, PublisherSummary] = 0, PublisherSummary()

    def take(self, name: str, pid: int, summary: Summary | PublisherSummary) -> None:
        """Take in what the process `pid` of the stage `name` says; it replaces what that process said before."""
        if isinstance(summary, PublisherSummary):
            if pid != self._publisher[0]:
                self._publisher_before = _joined([self._publisher_before, _as_summary(self._publisher[1])])
            self._publisher = pid, summary
            return
        if name in self._current and self._current[name][0] != pid:
            self._workers[name] = self._of(name)
        self._current[name] = pid, summary

    def total(self) -> Summary:
        """Return all counts added up; latencies are those of each worker's newest process."""
        publisher = [self._publisher_before, _as_summary(self._publisher[1])]
        workers = [self._of(name) for name in self._current]
        return _joined([*workers, *publisher], seconds=max((one.seconds for one in workers), default=0.0))

    def all_ended(self, names: Sequence[str]) -> bool:
        """Tell whether the cameras of all these workers have ended, by their newest summaries, if any."""
        newest = [self._current[name][1] for name in names if name in self._current]
        if len(newest) < len(names):
            return False
        return any(one.ended for one in newest) and all(one.ended or not one.cameras for one in newest)

    def _of(self, name: str) -> Summary:
        """Return a worker's figures over its restarts."""
        before, current = self._workers.get(name, Summary()), self._current[name][1]
        counted = structs.replace(
            before, latency_p50_ms=None, latency_p95_ms=None, inference_p50_ms=None, overhead_p95_ms=None
        )
        return _joined([counted, current], seconds=before.seconds + current.seconds)


def _as_summary(publisher: PublisherSummary) -> Summary:
    return Summary(
        rejected_messages=publisher.rejected_messages, sink_dropped=sum(sink.dropped for sink in publisher.sinks)
    )


def _joined(every: Sequence[Summary], seconds: float = 0.0) -> Summary:
    """Return counts added up, and of latencies what can be said: a mean of medians, the largest percentile."""
    dropped: Counter[str] = Counter()
    for one in every:
        dropped.update(one.windows_dropped)
    return Summary(
        frames=sum(one.frames for one in every),
        windows=sum(one.windows for one in every),
        skipped=sum(one.skipped for one in every),
        seconds=seconds,
        latency_p50_ms=_mean((one.latency_p50_ms, one.windows) for one in every),
        latency_p95_ms=_largest(one.latency_p95_ms for one in every),
        inference_p50_ms=_mean((one.inference_p50_ms, one.windows) for one in every),
        overhead_p95_ms=_largest(one.overhead_p95_ms for one in every),
        frames_dropped=sum(one.frames_dropped for one in every),
        windows_dropped=dict(dropped),
        rejected_messages=sum(one.rejected_messages for one in every),
        sink_dropped=sum(one.sink_dropped for one in every),
    )


def _mean(pairs: Iterable[tuple[float | None, int]]) -> float | None:
    """Return the mean, each counted by its windows: near the median of all where workers are alike."""
    known = [(value, max(1, windows)) for value, windows in pairs if value is not None]
    if not known:
        return None
    return round(sum(value * weight for value, weight in known) / sum(weight for _, weight in known), 3)


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
