from __future__ import annotations

from typing import Any

from stream_i3d.messages import ActionEvent, CameraStatus
from stream_i3d.publish.worker_presence import (
    NOT_ANSWERING,
    REMOVED,
    SILENT_S,
    STARTING_AGAIN,
    OpenEvents,
    WorkerPresence,
)
from stream_i3d.transport.relay_wire import Greeting
from stream_i3d.transport.wire import Published
from tests.samples import event, recognition, status, window
from tests.transport.test_relay_wire import greeting


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


ALIVE = greeting()


class Rig:
    """A presence, and processes that live or not."""

    def __init__(self, *running: ActionEvent) -> None:
        self.presence = WorkerPresence(interval_s=5.0, running=running)
        self.dead: set[int] = set()

    def greet(self, now: float = 0.0, **more: Any) -> list[Published]:
        return self.presence.take_greeting(greeting(**more), now)

    def said(self, message: Published, now: float = 0.0, of: Greeting = ALIVE) -> None:
        self.presence.take_message(of, message, now)

    def due(self, now: float) -> list[Published]:
        return self.presence.due(now, lambda pid: pid not in self.dead)


def told(messages: list[Published]) -> list[tuple[str, str]]:
    """Camera and what is said of it."""
    return [
        (one.camera, one.event if isinstance(one, ActionEvent) else f"{one.state}: {one.detail}")
        for one in messages
        if isinstance(one, ActionEvent | CameraStatus)
    ]


def test_nothing_is_said_for_a_worker_that_is_there() -> None:
    rig = Rig()
    assert rig.greet() == []
    rig.said(status())
    rig.said(event())
    assert rig.due(1.0) == [] and rig.due(SILENT_S) == []
    assert rig.presence.away == 0


def test_a_worker_that_was_killed_has_its_actions_ended_and_its_cameras_stalled_at_every_interval() -> None:
    rig = Rig()
    rig.greet()
    rig.said(status(last_frame_age_s=0.5, reconnects=3), now=1.0)
    rig.said(event(), now=1.0)
    rig.dead.add(7)
    said = rig.due(3.0)
    assert told(said) == [
        ("door", "end"),
        ("door", f"stalled: {STARTING_AGAIN}"),
        ("hall", f"stalled: {STARTING_AGAIN}"),
    ]
    door = said[1]
    assert isinstance(door, CameraStatus)
    assert (door.last_frame_age_s, door.fps, door.reconnects) == (2.5, 0.0, 3)
    assert rig.presence.away == 1
    assert rig.due(7.9) == []
    assert [one.camera for one in rig.due(8.0)] == ["door", "hall"]


def test_once_it_is_there_again_nothing_more_is_said() -> None:
    rig = Rig()
    rig.greet()
    rig.dead.add(7)
    assert rig.due(1.0)
    assert rig.greet(2.0, pid=8, life=2) == []
    assert rig.due(10.0) == []
    assert rig.presence.away == 0


def test_an_action_of_the_life_before_is_ended_by_the_greeting_where_its_end_was_not_noticed() -> None:
    rig = Rig()
    rig.greet()
    rig.said(event())
    assert told(rig.greet(2.0, pid=8, life=2)) == [("door", "end")]


def test_a_worker_that_lives_and_is_silent_is_away_until_it_is_heard() -> None:
    rig = Rig()
    rig.greet()
    rig.said(status())
    assert told(rig.due(SILENT_S + 0.1))[0] == ("door", f"stalled: {NOT_ANSWERING}")
    rig.said(recognition(), now=SILENT_S + 1)
    assert rig.due(SILENT_S + 2) == []


def test_one_that_has_left_is_not_away() -> None:
    rig = Rig()
    rig.greet()
    rig.greet(1.0, leaving=True)
    rig.dead.add(7)
    assert rig.due(100.0) == []


def test_a_camera_that_has_stopped_stays_so_without_its_worker() -> None:
    rig = Rig()
    rig.greet()
    rig.said(status(state="stopped", detail="the end"))
    rig.dead.add(7)
    assert told(rig.due(1.0)) == [("door", "stopped: the end"), ("hall", f"stalled: {STARTING_AGAIN}")]


def test_a_camera_that_is_removed_is_said_to_be_where_its_worker_did_not() -> None:
    rig = Rig()
    rig.greet()
    rig.said(status())
    rig.said(event())
    rig.said(status(camera="hall", state="stopped", detail="removed"))
    assert told(rig.greet(2.0, cameras=[])) == [("door", "end"), ("door", f"stopped: {REMOVED}")]
    rig.dead.add(7)
    assert rig.due(10.0) == []


def test_a_camera_that_another_worker_has_now_is_not_removed() -> None:
    rig = Rig()
    rig.greet()
    rig.said(status())
    rig.greet(1.0, worker="second", pid=9, life=2, cameras=["door"])
    assert rig.greet(2.0, cameras=["hall"]) == []


def test_an_action_whose_worker_was_killed_together_with_the_publisher_is_ended() -> None:
    rig = Rig(event(end_time=5.0), event(camera="yard", id="yard-1"))
    assert rig.greet() == []  # it has more to say, maybe of this action
    assert told(rig.greet(running=[])) == [("door", "end")]
    assert rig.greet(running=[]) == []


def test_an_action_that_went_on_while_the_publisher_was_away_is_ended_with_its_worker() -> None:
    for rig in (Rig(event()), Rig()):
        assert rig.greet(running=[event()]) == []
        rig.dead.add(7)
        assert told(rig.due(1.0))[0] == ("door", "end")
