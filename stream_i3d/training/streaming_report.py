"""Measures of a live stream of known videos: accuracy, reaction time and wrong events. Pure.

Inputs are the recognitions of the live path and the true label over time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stream_i3d.config import ModeName
from stream_i3d.messages import ActionEvent, Recognition

HOLD_S = 1.0
"""A label counts as reached if it is published and then stays for this many seconds, or until its video ends."""


@dataclass(frozen=True, slots=True)
class Span:
    """The part of the stream that is one video.

    Attributes:
        video: Index in the list of videos.
        label: Name of its class.
        first: Number of its first sampled frame in the stream.
        last: Number of its last frame.
        start: Stream time of its first frame, in seconds.
        end: Stream time of its last frame, in seconds.
    """

    video: int
    label: str
    first: int
    last: int
    start: float
    end: float


class SmoothingResult(Struct, frozen=True, kw_only=True):
    """Measures of one smoothing method.

    Attributes:
        smoothing: Its name, such as "ema 1 s".
        window_accuracy: Share of right labels, after smoothing, of the windows that are wholly in one video.
        switches: Changes of the true label.
        reaction_median_s: Stream time from a change to the end of the first window that publishes the new label and
            after which, for `HOLD_S` or until the video ends, every window does, without computing time; the median
            over changes. None if that never happened.
        reaction_p90_s: The 90th percentile of the same.
        never: Share of changes for which that never happened during the video.
        events: Actions that started.
        wrong_events_per_minute: Actions whose label was not true at any time between their start and end.
    """

    smoothing: str
    window_accuracy: float
    switches: int
    reaction_median_s: float | None
    reaction_p90_s: float | None
    never: float
    events: int
    wrong_events_per_minute: float


class StreamingReport(Struct, frozen=True, kw_only=True):
    """Measures of the live path on a set of videos, played one after another as the stream of one camera.

    Attributes:
        mode: "window" or "streaming"; in streaming mode a window is the span of frames that a prediction depends on.
        videos: Number of videos played.
        seconds: Duration of the stream in stream time.
        stride: Sampled frames from one window to the next.
        windows: Number of windows with a prediction.
        whole_windows: Windows that are wholly in one video; the true label is known only for these.
        window_accuracy: Share of them that are right, without smoothing.
        judged_videos: Videos with at least one such window.
        video_accuracy: Share of these videos that are right by the mean of their windows' probabilities.
        offline_window_accuracy: Like window_accuracy, for the same frames read and run as in an evaluation.
        offline_video_accuracy: Like video_accuracy, likewise.
        largest_difference: Largest difference between a live and an offline probability; only rounding in fp32.
        smoothings: Measures of each smoothing method.
        skipped: Videos that could not be read.
    """

    mode: ModeName = "window"
    videos: int
    seconds: float
    stride: int
    windows: int
    whole_windows: int
    window_accuracy: float
    judged_videos: int
    video_accuracy: float
    offline_window_accuracy: float
    offline_video_accuracy: float
    largest_difference: float
    smoothings: list[SmoothingResult]
    skipped: list[str] = []


def span_of(spans: Sequence[Span], first: int, last: int) -> Span | None:
    """Return the video that contains both a window's first and last frame; None if they are in different videos."""
    place = bisect_right(spans, first, key=lambda span: span.first) - 1
    return spans[place] if place >= 0 and last <= spans[place].last else None


def accuracy(right: Sequence[bool]) -> float:
    """Return the share of True; 0 for an empty sequence."""
    return sum(right) / len(right) if right else 0.0


def video_accuracy(
    spans: Sequence[Span], owners: Sequence[Span], probabilities: NDArray[np.float32], labels: Sequence[str]
) -> float:
    """Return the share of videos that are right by their windows' mean probabilities.

    Args:
        spans: Spans of all videos; videos without a window are not counted.
        owners: The video of each window.
        probabilities: (windows, classes).
        labels: The classes.
    """
    right = []
    places: dict[int, list[int]] = {span.first: [] for span in spans}
    for row, owner in enumerate(owners):
        places[owner.first].append(row)
    for span in spans:
        if rows := places[span.first]:
            right.append(labels[int(probabilities[rows].mean(axis=0).argmax())] == span.label)
    return accuracy(right)


def measure_smoothing(
    name: str,
    spans: Sequence[Span],
    recognitions: Sequence[Recognition],
    events: Sequence[ActionEvent],
) -> SmoothingResult:
    """Measure one smoothing method.

    Args:
        name: Name of the method.
        spans: Spans of the videos, in order.
        recognitions: Recognition of every window, in order.
        events: Starts and ends of actions.
    """
    right = [
        one.top_k[0].label == span.label
        for one in recognitions
        if (span := span_of(spans, one.window.first_frame, one.window.last_frame)) is not None
    ]
    switches = [after for before, after in pairwise(spans) if before.label != after.label]
    ends = [one.seq for one in recognitions]
    reactions = [
        _reaction(span, recognitions[bisect_right(ends, span.first - 1) : bisect_right(ends, span.last)])
        for span in switches
    ]
    noticed = [reaction for reaction in reactions if reaction is not None]
    minutes = (spans[-1].end - spans[0].start) / 60
    wrong = wrong_events(spans, events)
    return SmoothingResult(
        smoothing=name,
        window_accuracy=accuracy(right),
        switches=len(switches),
        reaction_median_s=float(np.median(noticed)) if noticed else None,
        reaction_p90_s=float(np.percentile(noticed, 90)) if noticed else None,
        never=(len(switches) - len(noticed)) / len(switches) if switches else 0.0,
        events=sum(event.event == "start" for event in events),
        wrong_events_per_minute=wrong / minutes if minutes > 0 else 0.0,
    )


def _reaction(span: Span, recognitions: Sequence[Recognition]) -> float | None:
    """Return the seconds until a video's label is published and holds; None if it never does.

    `recognitions` are those of the windows that ended during the video.
    """
    since: float | None = None
    for one in recognitions:
        time = one.window.end_time
        if one.label != span.label:
            since = None
        elif since is None:
            since = time
        if since is not None and time - since >= HOLD_S:
            break
    return None if since is None else since - span.start


def wrong_events(spans: Sequence[Span], events: Sequence[ActionEvent]) -> int:
    """Return the number of actions whose label was not true at any time between their start and end."""
    wrong = 0
    for event in events:
        if event.event != "end" or event.end_time is None:
            continue
        start = bisect_right(spans, event.start_time, key=lambda span: span.start) - 1
        stop = bisect_right(spans, event.end_time, key=lambda span: span.start)
        wrong += all(span.label != event.label for span in spans[max(0, start) : stop])
    return wrong
