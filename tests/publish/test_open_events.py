from __future__ import annotations

from stream_i3d.publish.open_events import OpenEvents
from tests.samples import event, recognition, window


def test_an_action_that_runs_is_ended_where_it_was_last_seen() -> None:
    events = OpenEvents()
    events.event(event(start_time=2.0, peak_confidence=0.5))
    events.recognition(recognition(window=window(3.0), confidence=0.9))
    events.recognition(recognition(window=window(4.0), confidence=0.6))
    events.recognition(recognition(window=window(9.0), label="another", confidence=1.0))
    [ended] = events.end(["door"])
    assert (ended.event, ended.start_time, ended.end_time, ended.peak_confidence) == ("end", 2.0, 4.0, 0.9)
    assert ended.id == event().id
    assert events.end(["door"]) == []


def test_one_that_was_not_seen_again_ends_where_it_started() -> None:
    events = OpenEvents()
    events.event(event(start_time=2.0))
    assert events.end(["door"])[0].end_time == 2.0


def test_what_has_ended_is_not_ended_again_and_other_cameras_go_on() -> None:
    events = OpenEvents()
    events.event(event())
    events.event(event(event="end", end_time=3.0))
    events.event(event(camera="hall", id="hall-1"))
    assert events.end(["door"]) == []
    assert [ended.camera for ended in events.end(["door", "hall"])] == ["hall"]


def test_the_end_of_an_earlier_action_that_comes_late_ends_nothing_else() -> None:
    events = OpenEvents()
    events.event(event(id="new"))
    events.event(event(id="old", event="end", end_time=3.0))
    assert [ended.id for ended in events.end(["door"])] == ["new"]


def test_what_its_worker_knows_nothing_of_is_ended_and_what_it_knows_is_noted() -> None:
    events = OpenEvents([event(end_time=3.0), event(camera="hall", id="hall-1"), event(camera="yard", id="yard-1")])
    ended = events.compare(["door", "hall", "gate"], [event(camera="hall", id="hall-1"), event(camera="gate", id="g")])
    assert [(one.camera, one.event, one.end_time) for one in ended] == [("door", "end", 3.0)]
    assert [one.id for one in events.end(["door", "hall", "gate", "yard"])] == ["hall-1", "g", "yard-1"]
