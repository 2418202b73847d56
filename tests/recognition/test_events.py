from __future__ import annotations

from collections.abc import Sequence
from itertools import count, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.config import EventsConfig
from stream_i3d.messages import ActionEvent
from stream_i3d.recognition.events import EventDetector, merge_segments
from tests.samples import recognition, window

CONFIG = EventsConfig(on_threshold=0.6, off_threshold=0.4, min_on_s=0.5, min_off_s=0.5)
AT_ONCE = EventsConfig(on_threshold=0.6, off_threshold=0.4, min_on_s=0, min_off_s=0)


def detector(config: EventsConfig = CONFIG) -> EventDetector:
    numbers = count(1)
    return EventDetector("door", config, lambda start_time: f"{next(numbers)}@{start_time:g}")


def fed(
    windows: Sequence[tuple[float, str | None, float]], config: EventsConfig = CONFIG, own: float | None = None
) -> list[tuple[str, str, float]]:
    """(event, label, its time) for (time, label, confidence) windows; a label that does not lead has probability 0."""
    detecting, events = detector(config), []
    for time, label, confidence in windows:
        running = detecting.running
        mine = confidence if running is not None and label == running.label else (own or 0.0)
        events += detecting.update(label, confidence, mine, time)
    return [
        (event.event, event.label, event.end_time if event.event == "end" else event.start_time) for event in events
    ]


# --- starting


def test_an_action_starts_once_it_was_confident_long_enough_and_counts_from_then():
    windows = [(0.0, "wave", 0.5), (0.25, "wave", 0.6), (0.5, "wave", 0.7), (0.75, "wave", 0.7), (1.0, "wave", 0.7)]
    assert fed(windows) == [("start", "wave", 0.25)]
    assert fed(windows[:3]) == []


def test_confidence_just_under_the_upper_threshold_starts_nothing():
    assert fed([(index / 4, "wave", 0.5999) for index in range(40)]) == []
    assert fed([(index / 4, "wave", 0.6) for index in range(40)]) == [("start", "wave", 0.0)]


def test_confidence_that_falls_before_the_minimum_time_starts_the_count_again():
    windows = [(0.0, "wave", 0.9), (0.25, "wave", 0.5), (0.5, "wave", 0.9), (0.75, "wave", 0.9), (1.0, "wave", 0.9)]
    assert fed(windows) == [("start", "wave", 0.5)]


def test_another_label_between_starts_the_count_again():
    windows = [(0.0, "wave", 0.9), (0.25, "clap", 0.9), (0.5, "wave", 0.9), (0.75, "wave", 0.9)]
    assert fed(windows) == []


def test_idle_between_starts_the_count_again():
    assert fed([(0.0, "wave", 0.9), (0.25, None, 0.9), (0.5, "wave", 0.9), (0.75, "wave", 0.9)]) == []


def test_without_a_minimum_time_one_window_is_enough():
    assert fed([(3.0, "wave", 0.6)], AT_ONCE) == [("start", "wave", 3.0)]


def test_a_running_action_is_not_started_again():
    assert len(fed([(index / 4, "wave", 0.9) for index in range(40)])) == 1


# --- ending

RUNNING = [(0.0, "wave", 0.9), (0.5, "wave", 0.9)]


def test_confidence_between_the_thresholds_keeps_an_action_running():
    assert fed([*RUNNING, *((1 + index / 4, "wave", 0.4) for index in range(40))]) == [("start", "wave", 0.0)]


def test_an_action_ends_once_it_was_unsure_long_enough_and_at_the_time_it_fell():
    windows = [*RUNNING, (1.0, "wave", 0.39), (1.25, "wave", 0.3), (1.5, "wave", 0.3)]
    assert fed(windows) == [("start", "wave", 0.0), ("end", "wave", 1.0)]
    assert fed(windows[:-1]) == [("start", "wave", 0.0)]


def test_an_action_that_recovers_in_time_goes_on_and_its_next_fall_counts_from_then():
    windows = [
        *RUNNING,
        (1.0, "wave", 0.3),
        (1.25, "wave", 0.4),
        (1.5, "wave", 0.3),
        (1.75, "wave", 0.3),
        (2.0, "wave", 0.3),
    ]
    assert fed(windows) == [("start", "wave", 0.0), ("end", "wave", 1.5)]


def test_idle_ends_an_action_however_probable_its_label_still_is():
    windows = [*RUNNING, (1.0, None, 0.9), (1.25, None, 0.9), (1.5, None, 0.9)]
    assert fed(windows, own=0.9) == [("start", "wave", 0.0), ("end", "wave", 1.0)]


def test_another_label_that_leads_does_not_end_an_action_that_is_still_likely():
    windows = [*RUNNING, *((1 + index / 4, "clap", 0.5) for index in range(20))]
    assert fed(windows, own=0.45) == [("start", "wave", 0.0)]
    assert fed(windows, own=0.35) == [("start", "wave", 0.0), ("end", "wave", 1.0)]


def test_without_a_minimum_time_one_unsure_window_ends_it():
    assert fed([(0.0, "wave", 0.9), (1.0, "wave", 0.3)], AT_ONCE) == [("start", "wave", 0.0), ("end", "wave", 1.0)]


# --- from one label to another


def test_an_action_ends_where_another_one_starts():
    windows = [*RUNNING, (1.0, "clap", 0.6), (1.25, "clap", 0.6), (1.5, "clap", 0.6), (1.75, "clap", 0.6)]
    assert fed(windows, own=0.4) == [("start", "wave", 0.0), ("end", "wave", 1.0), ("start", "clap", 1.0)]


def test_a_flicker_of_another_label_changes_nothing():
    windows = [*RUNNING, (0.75, "clap", 0.9), (1.0, "wave", 0.9), (1.25, "clap", 0.9), (1.5, "wave", 0.9)]
    assert fed(windows, own=0.1) == [("start", "wave", 0.0)]


def test_the_same_action_may_come_again():
    windows = [(0.0, "wave", 0.9), (1.0, None, 0.0), (2.0, "wave", 0.9)]
    assert [kind for kind, _, _ in fed(windows, AT_ONCE)] == ["start", "end", "start"]


# --- what an event says


def test_start_and_end_of_an_action_share_their_identity_and_no_others():
    detecting = detector(AT_ONCE)
    events = detecting.update("wave", 0.9, 0, 1.0) + detecting.update("clap", 0.9, 0, 2.0) + detecting.finish(3.0)
    assert [(event.event, event.id) for event in events] == [
        ("start", "1@1"),
        ("end", "1@1"),
        ("start", "2@2"),
        ("end", "2@2"),
    ]
    assert {event.camera for event in events} == {"door"}
    assert [(event.start_time, event.end_time) for event in events] == [(1, None), (1, 2), (2, None), (2, 3)]


def test_the_peak_counts_the_time_before_the_start_was_known():
    detecting = detector()
    detecting.update("wave", 0.65, 0, 0.0)
    detecting.update("wave", 0.95, 0, 0.25)
    (start,) = detecting.update("wave", 0.7, 0, 0.5)
    assert start.peak_confidence == 0.95
    (end,) = detecting.finish(1.0)
    assert end.peak_confidence == 0.95


def test_the_peak_grows_while_the_action_runs_and_is_of_its_own_label():
    detecting = detector(AT_ONCE)
    detecting.update("wave", 0.7, 0, 0.0)
    detecting.update("wave", 0.8, 0.8, 0.25)
    detecting.update("wave", 0.75, 0.75, 0.5)
    detecting.update("clap", 0.59, 0.41, 0.75)
    (end,) = detecting.finish(1.0)
    assert (end.label, end.peak_confidence) == ("wave", 0.8)


def test_the_peak_of_a_candidate_is_not_that_of_the_one_before():
    detecting = detector()
    detecting.update("wave", 0.99, 0, 0.0)
    detecting.update("clap", 0.61, 0, 0.25)
    detecting.update("clap", 0.62, 0, 0.5)
    (start,) = detecting.update("clap", 0.6, 0, 0.75)
    assert (start.label, start.peak_confidence) == ("clap", 0.62)


# --- cut streams


def test_finishing_ends_what_runs_and_says_nothing_where_nothing_runs():
    detecting = detector(AT_ONCE)
    assert detecting.finish(0.5) == []
    detecting.update("wave", 0.9, 0, 1.0)
    (end,) = detecting.finish(4.0)
    assert (end.event, end.end_time) == ("end", 4.0)
    assert detecting.running is None
    assert detecting.finish(5.0) == []


def test_an_action_never_ends_before_it_started():
    detecting = detector(AT_ONCE)
    detecting.update("wave", 0.9, 0, 10.0)
    (end,) = detecting.finish(3.0)
    assert end.end_time == 10.0


def test_a_reset_ends_what_runs_and_forgets_what_was_about_to_start():
    detecting = detector()
    for time in (0.0, 0.5):
        detecting.update("wave", 0.9, 0.9, time)
    detecting.update("clap", 0.9, 0.5, 0.75)
    (end,) = detecting.reset(1.0)
    assert (end.label, end.end_time) == ("wave", 1.0)
    assert detecting.update("clap", 0.9, 0, 1.25) == []
    assert detecting.update("clap", 0.9, 0, 1.5) == []
    (start,) = detecting.update("clap", 0.9, 0, 1.75)
    assert start.start_time == 1.25


def test_a_reset_forgets_since_when_an_action_was_unsure():
    detecting = detector(EventsConfig(on_threshold=0.6, off_threshold=0.4, min_on_s=0, min_off_s=0.5))
    detecting.update("wave", 0.9, 0, 0.0)
    detecting.update("wave", 0.3, 0.3, 0.25)
    detecting.reset(0.25)
    detecting.update("wave", 0.9, 0, 0.5)
    assert detecting.update("wave", 0.3, 0.3, 0.75) == []
    assert detecting.update("wave", 0.3, 0.3, 1.0) == []


# --- whatever comes

_WINDOWS = st.lists(
    st.tuples(st.sampled_from(["wave", "clap", None]), st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1)),
    max_size=60,
)


def pairs_of(windows: list, config: EventsConfig) -> list[tuple[ActionEvent, ActionEvent]]:
    detecting, events, time = detector(config), [], 0.0
    for label, confidence, other, step in windows:
        time += step
        running = detecting.running
        own = confidence if running is not None and label == running.label else other
        events += detecting.update(label, confidence, own, time)
    events += detecting.finish(time)
    assert [event.event for event in events] == ["start", "end"] * (len(events) // 2)
    return list(zip(events[::2], events[1::2], strict=True))


@settings(deadline=None, max_examples=200)
@given(_WINDOWS, st.floats(0, 1.5), st.floats(0, 1.5))
def test_every_start_has_its_end_and_times_make_sense(windows, min_on_s, min_off_s):
    config = EventsConfig(on_threshold=0.6, off_threshold=0.4, min_on_s=min_on_s, min_off_s=min_off_s)
    pairs = pairs_of(windows, config)
    for start, end in pairs:
        assert (start.id, start.label, start.start_time, start.end_time) == (end.id, end.label, end.start_time, None)
        assert end.end_time is not None and end.end_time >= start.start_time
        assert end.peak_confidence >= start.peak_confidence >= 0.6
    assert len({start.id for start, _ in pairs}) == len(pairs)
    assert all(end.end_time <= start.start_time for (_, end), (start, _) in pairwise(pairs))


def test_actions_of_a_camera_do_not_overlap():
    detecting = detector(EventsConfig(on_threshold=0.6, off_threshold=0.4, min_on_s=2, min_off_s=0.5))
    detecting.update("wave", 0.9, 0, 0.0)
    detecting.update("wave", 0.9, 0, 2.0)
    events = []
    for time, own in [(3.0, 0.4), (3.5, 0.4), (4.0, 0.1), (4.5, 0.1), (5.0, 0.0)]:
        events += detecting.update("clap", 0.6, own, time)
    end, start = events
    assert (end.label, end.end_time, start.label) == ("wave", 4.0, "clap")
    assert start.start_time >= end.end_time


# --- segments of a video


def predicted(*windows: tuple[float, str | None, float]) -> list:
    return [
        recognition(window=window(end), state="idle" if label is None else "action", label=label, confidence=confidence)
        for end, label, confidence in windows
    ]


def test_neighbouring_windows_with_one_label_are_one_segment():
    (segment,) = merge_segments("a.mp4", predicted((0.6, "wave", 0.5), (1.0, "wave", 1.0), (1.4, "wave", 0.75)))
    assert (segment.video, segment.label, segment.windows) == ("a.mp4", "wave", 3)
    assert (segment.start_time, segment.end_time) == (0.0, 1.4)
    assert (segment.mean_confidence, segment.peak_confidence) == (0.75, 1.0)


def test_the_next_segment_starts_where_the_last_one_ends():
    first, second = merge_segments("a.mp4", predicted((0.6, "wave", 0.5), (1.0, "wave", 0.5), (1.4, "clap", 0.5)))
    assert (first.end_time, second.start_time, second.end_time) == (1.0, 1.0, 1.4)


def test_windows_without_a_label_make_no_segment_but_take_their_time():
    segments = list(
        merge_segments("a.mp4", predicted((0.6, None, 0.1), (1.0, "wave", 0.5), (1.4, None, 0.1), (1.8, "wave", 0.5)))
    )
    assert [(segment.label, segment.start_time, segment.end_time) for segment in segments] == [
        ("wave", 0.6, 1.0),
        ("wave", 1.4, 1.8),
    ]


def test_no_windows_or_none_with_a_label_make_no_segment():
    assert list(merge_segments("a.mp4", [])) == []
    assert list(merge_segments("a.mp4", predicted((0.6, None, 0.1)))) == []


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(["wave", "clap", None]), st.floats(0, 1)), max_size=30))
def test_segments_do_not_overlap_and_account_for_every_labelled_window(windows):
    given_windows = predicted(*((0.6 + index * 0.32, label, score) for index, (label, score) in enumerate(windows)))
    segments = list(merge_segments("a.mp4", given_windows))
    assert sum(segment.windows for segment in segments) == sum(label is not None for label, _ in windows)
    assert all(before.end_time <= after.start_time for before, after in pairwise(segments))
    assert all(segment.start_time < segment.end_time for segment in segments)
    assert all(0 <= segment.mean_confidence <= segment.peak_confidence + 1e-9 for segment in segments)
