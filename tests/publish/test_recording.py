from __future__ import annotations

from stream_i3d.messages import Latency
from stream_i3d.publish.recording import Clocks, Recording
from tests.samples import event, recognition, window


def test_times_of_events_come_onto_the_clock_of_pictures_by_the_predictions() -> None:
    clocks = Clocks()
    assert clocks.of("door", 1e9 + 5, now=100.0, wall_now=1e9 + 7) == 98.0
    said = recognition(window=window(end=12.0), latency_ms=Latency(queue=0, inference=0, total=500))
    clocks.take(said, now=1000.0)  # a file's own time: what ended at 12.0 was captured at 999.5
    assert clocks.of("door", 10.0, now=1234.0, wall_now=1e9) == 997.5
    assert clocks.of("yard", 1e9, now=100.0, wall_now=1e9) == 100.0


def test_no_event_is_of_the_future() -> None:
    assert Clocks().of("door", 1e15, now=100.0, wall_now=1e9) == 100.0


def test_a_clip_ends_after_its_event_and_never_after_its_greatest_length() -> None:
    recording = Recording(event(), "a.mp4", start=100.0, end=160.0)
    assert not recording.is_over(newest=159.0, now=159.5)
    recording.ends_at(120.0)
    recording.ends_at(150.0)  # said twice
    assert recording.end == 120.0
    assert not recording.is_over(newest=119.9, now=120.5)
    assert recording.is_over(newest=120.1, now=120.2)
    assert recording.is_over(newest=110.0, now=121.1)  # the camera is lost: no later picture comes
    recording.ends_at(50.0)
    assert recording.end == 100.0
