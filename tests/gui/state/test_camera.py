from __future__ import annotations

import pytest
from stream_i3d_gui.state.camera import CameraTrack

from stream_i3d.messages import LabelScore, Latency
from tests.samples import recognition, status

TWO = [
    LabelScore(index=3, label="waving", probability=0.8, raw_probability=0.9),
    LabelScore(index=1, label="left", probability=0.15, raw_probability=0.05),
]


def live(**more: object) -> CameraTrack:
    track = CameraTrack("door")
    track.take_status(status(), 100.0)
    track.take_recognition(recognition(top_k=TWO, latency_ms=Latency(queue=1, inference=20, total=200), **more), 100.0)
    return track


def test_an_action_is_shown_with_its_confidence_its_bars_and_its_age():
    shown = live().shown(100.3)
    assert (shown.kind, shown.headline, shown.confidence) == ("action", "waving", 0.8)
    assert shown.bars == (("waving", 0.8), ("left", 0.15))
    assert shown.window_age == "0.5 s"
    assert shown.state == "live · 25.0 fps"
    assert not shown.dimmed and shown.reason == "" and shown.next_try_s is None


def test_idle_is_said_as_such_and_not_as_a_guess():
    shown = live(state="idle", label=None, confidence=0.2).shown(100.0)
    assert (shown.kind, shown.headline, shown.confidence) == ("idle", "Idle", None)
    assert shown.note == "likeliest: waving, 80 %"


def test_a_skipped_window_says_why():
    track = CameraTrack("door")
    track.take_recognition(recognition(state="idle", label=None, top_k=[], skipped="no motion"), 1.0)
    assert track.shown(1.0).note == "skipped: no motion"


def test_the_first_window_is_waited_for():
    assert CameraTrack("door").shown(0.0).headline == "Waiting for the first window"
    track = CameraTrack("door")
    track.take_recognition(recognition(state="warming", label=None, top_k=[]), 1.0)
    assert track.shown(1.0).kind == "warming"
    assert track.shown(1.0).bars == ()


def test_an_old_prediction_is_not_shown_as_what_is_going_on_now():
    shown = live().shown(104.0)
    assert shown.kind == "waiting"
    assert shown.note == "last seen: waving"
    assert shown.bars == () and shown.confidence is None


@pytest.mark.parametrize(
    ("state", "detail", "now", "reason", "wait"),
    [
        ("reconnecting", "cannot open rtsp://***@x; next try in 8 s", 103.0, "cannot open rtsp://***@x", 5),
        ("connecting", "no such device; next try in 2 s", 109.0, "no such device", 0),
        ("connecting", "opening", 100.0, "opening", None),
        ("stalled", "no new frame for over 5 s", 100.0, "no new frame for over 5 s", None),
        ("stopped", "the end", 100.0, "the end", None),
    ],
)
def test_a_camera_in_trouble_is_dimmed_with_the_reason_and_the_seconds_to_the_next_try(
    state, detail, now, reason, wait
):
    track = live()
    problem, _, rest = detail.partition("; next try in ")
    retry = float(rest.split()[0]) if rest else None
    track.take_status(status(state=state, detail=detail, fps=0.0, problem=problem, retry_in_s=retry), 100.0)
    shown = track.shown(now)
    assert shown.dimmed
    assert (shown.reason, shown.next_try_s) == (reason, wait)
    assert shown.kind == "waiting"


def test_a_camera_too_slow_to_recognise_is_dimmed_and_one_merely_slow_is_not():
    track = live()
    problem = "delivers 2.0 fps, too slow to recognise (at least 3.1)"
    track.take_status(status(detail=f"640x480; {problem}", problem=problem, too_slow=True), 100.0)
    assert track.shown(100.0).dimmed and track.shown(100.0).reason.startswith("delivers 2.0 fps")
    slow = "640x480; delivers 15 fps, fewer than the model's 25: pictures are repeated"
    track.take_status(status(detail=slow, problem=slow.partition("; ")[2]), 100.0)
    assert not track.shown(100.0).dimmed
    assert track.shown(100.0).reason == slow.partition("; ")[2]


def test_a_camera_that_waits_for_its_turn_says_so_and_shows_no_earlier_action_as_current():
    track = live()
    track.take_status(status(overloaded=True, waiting_since=1.7e9), 100.0)
    shown = track.shown(100.3)
    assert (shown.kind, shown.headline) == ("waiting", "Waiting for its turn: the machine cannot keep up")
    assert shown.note == "last seen: waving" and shown.confidence is None and not shown.dimmed
    new = CameraTrack("hall")
    new.take_status(status(overloaded=True, waiting_since=1.7e9), 100.0)
    assert new.shown(100.0).headline == "Waiting for its turn: the machine cannot keep up"
    track.take_status(status(overloaded=True), 101.0)
    assert track.shown(101.0).kind == "action"


def test_a_lost_service_dims_the_picture_until_it_speaks_again():
    track = live()
    track.service_lost("the service does not answer")
    shown = track.shown(100.0)
    assert shown.dimmed and shown.state == "no service" and shown.reason == "the service does not answer"
    track.take_status(status(), 101.0)
    assert not track.shown(101.0).dimmed


def test_a_paused_camera_says_so():
    track = live()
    track.paused = True
    assert track.shown(100.0).state == "paused"
    assert track.shown(100.0).dimmed


def test_labels_that_are_not_to_be_shown_are_not():
    shown = live().shown(100.0, hidden=frozenset({"waving"}))
    assert shown.kind == "idle" and "waving" not in shown.spoken
    assert shown.bars == (("left", 0.15),)
    assert live().shown(100.0, top_k=1).bars == (("waving", 0.8),)


def test_a_screen_reader_hears_all_of_it():
    track = live()
    assert track.shown(100.0).spoken == "Camera door, live · 25.0 fps. waving, 80 % sure"
    track.take_status(
        status(state="reconnecting", detail="cut; next try in 8 s", problem="cut", retry_in_s=8, fps=0), 100.0
    )
    spoken = track.shown(101.0).spoken
    assert spoken == "Camera door, lost, reconnecting: cut, next try in 7 s. No current recognition"


def test_an_older_service_that_sends_no_fields_is_shown_by_its_sentence():
    track = live()
    track.take_status(status(state="reconnecting", detail="cut; next try in 8 s", fps=0.0), 100.0)
    shown = track.shown(101.0)
    assert (shown.dimmed, shown.reason, shown.next_try_s) == (True, "cut; next try in 8 s", None)
