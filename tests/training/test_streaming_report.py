from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream_i3d.messages import LabelScore, Recognition, Window
from stream_i3d.training.streaming_report import (
    Span,
    measure_smoothing,
    span_of,
    video_accuracy,
    wrong_events,
)
from tests.samples import event, recognition

# Waving for two seconds, clapping for three, and a video shorter than a window.
WAVE = Span(video=0, label="wave", first=0, last=49, start=0.0, end=1.96)
CLAP = Span(video=1, label="clap", first=50, last=124, start=2.0, end=4.96)
JUMP = Span(video=2, label="jump", first=125, last=129, start=5.0, end=5.16)
SPANS = (WAVE, CLAP, JUMP)


def window(last: int, label: str | None, likeliest: str | None = None) -> Recognition:
    """A window of 16 frames that ends at frame `last`, 25 of them a second."""
    return recognition(
        seq=last,
        window=Window(first_frame=last - 15, last_frame=last, start_time=(last - 15) / 25, end_time=last / 25),
        label=label,
        top_k=[LabelScore(index=0, label=likeliest or str(label), probability=0.8, raw_probability=0.8)],
    )


def stream(*labels: str | None) -> list[Recognition]:
    """Windows that end at frames 15, 23, 31, ..."""
    return [window(15 + 8 * number, label) for number, label in enumerate(labels)]


def reaction(*labels: str | None) -> float | None:
    """Seconds to react to the clapping; five windows end before it."""
    found = measure_smoothing("none", SPANS[:2], stream(*["wave"] * 5, *labels), [])
    assert found.switches == 1
    assert found.never == (found.reaction_median_s is None)
    assert found.reaction_median_s == found.reaction_p90_s
    return found.reaction_median_s


def test_a_window_belongs_to_the_video_that_both_its_ends_lie_in() -> None:
    assert span_of(SPANS, 0, 15) is WAVE
    assert span_of(SPANS, 34, 49) is WAVE
    assert span_of(SPANS, 35, 50) is None
    assert span_of(SPANS, 50, 65) is CLAP
    assert span_of(SPANS, 110, 130) is None
    assert span_of((CLAP,), 0, 60) is None


def test_the_reaction_time_is_from_the_change_to_the_window_with_the_new_label() -> None:
    # The windows after the change end at frames 55, 63, 71, ...; the change is at 2.0 s.
    assert reaction("clap", *["clap"] * 8) == pytest.approx(55 / 25 - 2)
    assert reaction("wave", "wave", *["clap"] * 7) == pytest.approx(71 / 25 - 2)


def test_a_label_that_does_not_last_a_second_does_not_count() -> None:
    assert reaction("clap", "clap", "wave", *["clap"] * 6) == pytest.approx(79 / 25 - 2)
    assert reaction("clap", "clap", "clap", None, *["clap"] * 5) == pytest.approx(87 / 25 - 2)


def test_a_label_that_has_lasted_a_second_counts_whatever_comes_then() -> None:
    assert reaction(*["clap"] * 5, *["wave"] * 4) == pytest.approx(55 / 25 - 2)


def test_a_label_that_lasts_to_the_videos_end_counts() -> None:
    assert reaction(*["wave"] * 8, "clap") == pytest.approx(119 / 25 - 2)


def test_a_label_that_is_never_published_counts_as_never() -> None:
    assert reaction(*["wave"] * 9) is None
    assert reaction(*[None] * 9) is None


def test_a_change_without_a_window_counts_as_never() -> None:
    found = measure_smoothing("none", SPANS, stream(*["wave"] * 5, *["clap"] * 9), [])
    assert (found.switches, found.never) == (2, 0.5)


def test_two_videos_of_a_class_in_a_row_are_no_change() -> None:
    again = Span(video=1, label="wave", first=50, last=124, start=2.0, end=4.96)
    found = measure_smoothing("none", (WAVE, again), stream(*["wave"] * 14), [])
    assert (found.switches, found.never, found.reaction_median_s) == (0, 0.0, None)


def test_only_windows_within_one_video_count_and_the_likeliest_label_does() -> None:
    # Ending at 15 .. 47 in the first video, 55 and 63 across, from 71 on in the second.
    windows = stream("wave", "wave", "clap", "wave", "wave", "jump", "jump", "clap", "wave")
    windows += [window(87, None, likeliest="clap")]
    found = measure_smoothing("none", SPANS, windows, [])
    assert found.window_accuracy == pytest.approx(6 / 8)


def ended(label: str, start: float, end: float) -> Any:
    return event(event="end", label=label, start_time=start, end_time=end)


@pytest.mark.parametrize(
    ("label", "start", "end", "wrong"),
    [
        ("wave", 0.6, 1.8, 0),
        ("wave", 0.6, 2.5, 0),  # late to end, but it was true for a time
        ("clap", 1.0, 1.9, 1),
        ("clap", 1.0, 2.1, 0),
        ("wave", 2.1, 2.4, 1),
        ("run", 0.0, 5.0, 1),
        ("jump", 5.1, 9.0, 0),
        ("wave", 4.97, 4.99, 1),
    ],
)
def test_an_action_is_wrong_if_its_label_was_not_true_at_any_time_of_it(
    label: str, start: float, end: float, wrong: int
) -> None:
    begun = event(label=label, start_time=start)
    assert wrong_events(SPANS, [begun, ended(label, start, end)]) == wrong


def test_wrong_actions_are_counted_by_the_minute() -> None:
    events = [event(), ended("run", 0.5, 1.0), event(), ended("wave", 1.0, 1.5)]
    found = measure_smoothing("none", SPANS, stream("wave"), events)
    assert found.events == 2
    assert found.wrong_events_per_minute == pytest.approx(60 / 5.16)


def test_a_video_is_right_by_the_mean_of_its_windows() -> None:
    probabilities = np.array([[0.4, 0.6], [0.9, 0.1], [0.7, 0.3], [0.4, 0.6]], np.float32)
    owners = [WAVE, WAVE, CLAP, CLAP]
    assert video_accuracy(SPANS, owners, probabilities, ("wave", "clap")) == 0.5
    assert video_accuracy(SPANS, owners[:2], probabilities[:2], ("wave", "clap")) == 1.0
