from __future__ import annotations

import pytest
from stream_i3d_gui.state.timeline import SPAN_S, Timeline

from stream_i3d.messages import Latency
from tests.samples import event, recognition, window

LATENCY = Latency(queue=0, inference=0, total=100)


def taken(timeline: Timeline, now: float, label: str | None = "waving", confidence: float = 0.8) -> None:
    """Take a prediction whose newest frame was captured 0.1 s before `now`, at stream time 1000 + now."""
    timeline.take_recognition(
        recognition(
            label=label,
            state="action" if label else "idle",
            confidence=confidence,
            window=window(1000 + now - 0.1),
            latency_ms=LATENCY,
        ),
        now,
    )


def test_equal_labels_in_a_row_are_one_span_with_the_highest_confidence():
    timeline = Timeline()
    for now, confidence in ((10.0, 0.6), (10.5, 0.9), (11.0, 0.7)):
        taken(timeline, now, confidence=confidence)
    (span,) = timeline.spans(11.0)
    assert (span.label, span.start, span.peak) == ("waving", pytest.approx(9.9), 0.9)
    assert span.end == pytest.approx(11.0)


def test_another_label_or_idleness_ends_a_span_where_it_begins():
    timeline = Timeline()
    taken(timeline, 10.0)
    taken(timeline, 10.5, "left")
    taken(timeline, 11.0, None)
    taken(timeline, 11.5, "left")
    spans = [(span.label, round(span.start, 3), round(span.end, 3)) for span in timeline.spans(11.5)]
    assert spans == [("waving", 9.9, 10.4), ("left", 10.4, 10.9), ("left", 11.4, 11.5)]


def test_a_hole_ends_a_span_and_is_not_painted_over():
    timeline = Timeline()
    taken(timeline, 10.0)
    taken(timeline, 10.5)
    taken(timeline, 30.0)
    first, second = timeline.spans(30.0)
    assert first.end == pytest.approx(10.4)
    assert second.start == pytest.approx(29.9)
    assert timeline.at(20.0, 30.0) is None


def test_what_is_older_than_two_minutes_is_gone():
    timeline = Timeline()
    taken(timeline, 10.0)
    timeline.take_event(event(id="a", start_time=1009.0, end_time=1010.0, event="end"), 10.0)
    taken(timeline, 10.0 + SPAN_S + 1)
    assert [point.time for point in timeline.points(131.0)] == [pytest.approx(130.9)]
    assert timeline.events(131.0) == []


def test_an_event_stands_where_its_stream_time_was_on_our_clock():
    timeline = Timeline()
    taken(timeline, 10.0)
    timeline.take_event(event(id="a", start_time=1009.5), 10.2)
    (mark,) = timeline.events(10.2)
    assert (mark.start, mark.end) == (pytest.approx(9.5), None)
    timeline.take_event(event(id="a", event="end", start_time=1009.5, end_time=1011.0), 11.5)
    (mark,) = timeline.events(12.0)
    assert (mark.start, mark.end) == (pytest.approx(9.5), pytest.approx(11.0))


def test_an_event_before_any_prediction_still_lies_within_the_strip():
    timeline = Timeline()
    timeline.take_event(event(id="a", event="end", start_time=5.0, end_time=8.0), 100.0)
    (mark,) = timeline.events(100.0)
    assert (mark.start, mark.end) == (100.0, 100.0)


def test_an_event_whose_end_was_missed_ends_where_the_next_one_starts():
    timeline = Timeline()
    timeline.take_event(event(id="1", start_time=1000.0), 10.0)
    timeline.take_event(event(id="2", start_time=1005.0), 15.0)
    assert [(mark.id, mark.end) for mark in timeline.events(15.0)] == [("1", 15.0), ("2", None)]
    assert [mark.id for mark in timeline.events(200.0)] == ["2"]


def test_a_lost_camera_closes_what_runs():
    timeline = Timeline()
    taken(timeline, 10.0)
    timeline.take_event(event(id="a", start_time=1009.5), 10.2)
    timeline.lost(12.0)
    assert timeline.events(13.0)[0].end == 12.0


def test_the_point_under_the_pointer_is_the_prediction_that_held_then():
    timeline = Timeline()
    taken(timeline, 10.0, "left")
    taken(timeline, 11.0, "right")
    found = timeline.at(10.5, 11.0)
    assert found is not None and found.label == "left"
    assert timeline.at(5.0, 11.0) is None
    assert timeline.at(12.0, 11.0) is None


def test_predictions_that_arrive_in_a_burst_keep_their_order():
    timeline = Timeline()
    taken(timeline, 10.0, "left")
    taken(timeline, 10.0, "right")
    times = [point.time for point in timeline.points(10.0)]
    assert times == sorted(set(times)) and len(times) == 2
