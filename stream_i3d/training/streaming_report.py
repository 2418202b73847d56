"""What a live stream of known videos says about a network and its smoothing: accuracy, seconds to react, wrong events.

Pure: windows as the live path judged them, and the truth over time, in; numbers out.
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
"""A label counts as reached once it is published and then stays for this long, or until its video ends."""


@dataclass(frozen=True, slots=True)
class Span:
    """When one video was on.

    Attributes:
        video: Its place in the list of videos.
        label: Its class's name.
        first: Number of its first sampled frame in the stream.
        last: Of its last one.
        start: Stream time of its first frame, in seconds.
        end: Of its last one.
    """

    video: int
    label: str
    first: int
    last: int
    start: float
    end: float


class SmoothingResult(Struct, frozen=True, kw_only=True):
    """What one way of smoothing makes of the stream.

    Attributes:
        smoothing: Its name, such as "ema 1 s".
        window_accuracy: Share of the windows that lie wholly in one video whose likeliest label, smoothed, is right.
        switches: How often the truth changed.
        reaction_median_s: Stream time from a change to the end of the first window that publishes the new label and
            after which, for `HOLD_S` or until the video ends, every window does; computing time is not in it. None
            where that never happened.
        reaction_p90_s: Nine of ten changes that were noticed were so within this time.
        never: Share of the changes of which that never happened while their video was on.
        events: Actions that started.
        wrong_events_per_minute: Actions whose label was not the truth at any time of theirs.
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
    """What the live path makes of a set of videos, played one after another as one camera's stream.

    Attributes:
        mode: "window", or "streaming": windows are then all that a prediction depends on.
        videos: How many were played.
        seconds: How long that took on the stream's own clock.
        stride: Sampled frames from one window to the next.
        windows: Windows that were judged.
        whole_windows: Those that lie wholly in one video: only of these the truth is known.
        window_accuracy: Share of these that are right, unsmoothed.
        judged_videos: Videos with at least one such window.
        video_accuracy: Share of these videos that are right by the mean of their windows' probabilities.
        offline_window_accuracy: As window_accuracy, of the same frames decoded and run as evaluation does it.
        offline_video_accuracy: As video_accuracy, likewise.
        largest_difference: Between a probability live and offline; rounding only, in fp32.
        smoothings: Each way of smoothing.
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
    """Return the video that a window's first and last frame both lie in; None where it crosses into another."""
    place = bisect_right(spans, first, key=lambda span: span.first) - 1
    return spans[place] if place >= 0 and last <= spans[place].last else None


def accuracy(right: Sequence[bool]) -> float:
    """Return the share that is right; 0 of none."""
    return sum(right) / len(right) if right else 0.0


def video_accuracy(
    spans: Sequence[Span], owners: Sequence[Span], probabilities: NDArray[np.float32], labels: Sequence[str]
) -> float:
    """Return the share of videos that are right by their windows' mean probabilities.

    Args:
        spans: Of all videos; those without a window are left out.
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
    """Return what one way of smoothing makes of the stream.

    Args:
        name: Of the way.
        spans: When each video was on, in order.
        recognitions: What was published of every judged window, in order; the label of highest probability first.
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
    """Return the seconds until a video's label is published and holds; None where it never is.

    `recognitions` are those of the windows that ended while the video was on.
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
    """Return how many actions had a label that was not the truth at any time between their start and their end."""
    wrong = 0
    for event in events:
        if event.event != "end" or event.end_time is None:
            continue
        start = bisect_right(spans, event.start_time, key=lambda span: span.start) - 1
        stop = bisect_right(spans, event.end_time, key=lambda span: span.start)
        wrong += all(span.label != event.label for span in spans[max(0, start) : stop])
    return wrong
