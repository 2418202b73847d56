"""Turns labels over time into actions with a start and an end: hysteresis live, merged segments offline. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from msgspec import structs

from stream_i3d.config import EventsConfig
from stream_i3d.messages import ActionEvent, Recognition, Segment


class EventDetector:
    """One camera's running action.

    A label becomes an action once its confidence has been at least `on_threshold` for `min_on_s`, counted from then.
    The action ends once its own confidence has been below `off_threshold` for `min_off_s` (the end is when it fell),
    or when another label becomes an action. All times are given by the caller, in seconds.
    """

    def __init__(self, camera: str, config: EventsConfig, new_id: Callable[[float], str]) -> None:
        """Args: `new_id` makes the identity of an action from its start time."""
        self._camera = camera
        self._config = config
        self._new_id = new_id
        self._candidate: tuple[str, float] | None = None  # label, since when it has been at on_threshold
        self._candidate_peak = 0.0
        self._running: ActionEvent | None = None
        self._below_since: float | None = None
        self._last_end: float | None = None

    @property
    def running(self) -> ActionEvent | None:
        """The action that has started and not ended."""
        return self._running

    def update(self, label: str | None, confidence: float, own_confidence: float, time: float) -> list[ActionEvent]:
        """Process the result of one window.

        Args:
            label: The likeliest label, or None when idle.
            confidence: Its smoothed probability.
            own_confidence: Smoothed probability of the running action's label; ignored when none runs.
            time: End of the window, in seconds.
        """
        events = self._maybe_end(label, own_confidence, time)
        started = self._maybe_start(label, confidence, time)
        if started is not None:
            events += self.finish(started.start_time)
            self._running = started
            events.append(started)
        return events

    def finish(self, time: float) -> list[ActionEvent]:
        """End the running action at `time`, if one runs."""
        running, self._running, self._below_since = self._running, None, None
        if running is None:
            return []
        self._last_end = max(time, running.start_time)
        return [structs.replace(running, event="end", end_time=self._last_end)]

    def reset(self, time: float) -> list[ActionEvent]:
        """End the running action and forget its history: the stream was cut, and its clock may start again."""
        self._candidate = None
        ended = self.finish(time)
        self._last_end = None
        return ended

    def _maybe_end(self, label: str | None, own_confidence: float, time: float) -> list[ActionEvent]:
        if self._running is None:
            return []
        own = 0.0 if label is None else own_confidence
        if own >= self._config.off_threshold:
            self._below_since = None
            if own > self._running.peak_confidence:
                self._running = structs.replace(self._running, peak_confidence=own)
            return []
        if self._below_since is None:
            self._below_since = time
        if time - self._below_since < self._config.min_off_s:
            return []
        return self.finish(self._below_since)

    def _maybe_start(self, label: str | None, confidence: float, time: float) -> ActionEvent | None:
        if label is None or confidence < self._config.on_threshold:
            self._candidate = None
            return None
        if self._running is not None and self._running.label == label:
            self._candidate = None
            return None
        if self._candidate is None or self._candidate[0] != label:
            self._candidate, self._candidate_peak = (label, time), confidence
        self._candidate_peak = max(self._candidate_peak, confidence)
        since = self._candidate[1]
        if time - since < self._config.min_on_s:
            return None
        self._candidate = None
        # Where the action before it ended while this label already led, it starts there: actions do not overlap.
        start = since if self._last_end is None else max(since, self._last_end)
        return ActionEvent(
            camera=self._camera,
            id=self._new_id(start),
            event="start",
            label=label,
            start_time=start,
            end_time=None,
            peak_confidence=self._candidate_peak,
        )


def merge_segments(video: str, recognitions: Iterable[Recognition]) -> Iterator[Segment]:
    """Merge neighbouring windows with the same label into segments that do not overlap.

    Each window answers for the stretch since the window before it ended (the first one for all of its own); windows
    without a label (idle, warming) make no segment.
    """
    answered: list[tuple[Recognition, float]] = []
    previous_end: float | None = None
    for recognition in recognitions:
        start = recognition.window.start_time if previous_end is None else previous_end
        answered.append((recognition, start))
        previous_end = recognition.window.end_time
    for label, group in groupby(answered, key=lambda pair: pair[0].label):
        if label is not None:
            yield _segment(video, label, list(group))


def _segment(video: str, label: str, group: Sequence[tuple[Recognition, float]]) -> Segment:
    confidences = [recognition.confidence for recognition, _ in group]
    return Segment(
        video=video,
        label=label,
        start_time=group[0][1],
        end_time=group[-1][0].window.end_time,
        mean_confidence=sum(confidences) / len(confidences),
        peak_confidence=max(confidences),
        windows=len(group),
    )


def is_wall_clock(time: float) -> bool:
    """Return whether an event's time is seconds since 1970, of years that calendars have; else it is a video file's."""
    return 1e9 < time < 2.5e11
