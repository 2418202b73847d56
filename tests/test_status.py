from __future__ import annotations

import pytest

from stream_i3d.status import CameraHealth
from tests.samples import report


def health(stall_timeout_s: float = 5.0, interval_s: float = 5.0) -> CameraHealth:
    return CameraHealth("door", stall_timeout_s, interval_s)


def live(now: float = 100.0, **more: object) -> CameraHealth:
    camera = health(**more)  # type: ignore[arg-type]
    camera.report(report(state="live", fps=24.987, reconnects=2, detail="640x480"))
    camera.frame(now)
    return camera


def test_a_camera_of_which_nothing_was_heard_is_connecting():
    status = health().status(100.0, 0)
    assert (status.camera, status.state, status.fps, status.last_frame_age_s) == ("door", "connecting", 0, None)


def test_what_the_capture_process_says_is_passed_on():
    status = live().status(100.25, 7)
    assert (status.state, status.fps, status.reconnects, status.detail) == ("live", 24.99, 2, "640x480")
    assert (status.last_frame_age_s, status.frames_dropped) == (0.25, 7)


def test_a_live_camera_without_new_frames_is_stalled_and_says_for_how_long():
    camera = live(100.0, stall_timeout_s=5.0)
    assert camera.status(105.0, 0).state == "live"
    status = camera.status(105.5, 0)
    assert (status.state, status.fps, status.last_frame_age_s) == ("stalled", 0, 5.5)
    assert "5 s" in status.detail


def test_a_new_frame_ends_the_stall():
    camera = live(100.0)
    assert camera.status(120.0, 0).state == "stalled"
    camera.frame(120.0)
    assert camera.status(120.0, 0).state == "live"


def test_a_live_camera_that_sent_no_frame_yet_is_not_called_stalled():
    camera = health()
    camera.report(report(state="live"))
    assert camera.status(1e6, 0).state == "live"


@pytest.mark.parametrize("state", ["connecting", "reconnecting", "stopped"])
def test_only_a_live_camera_can_stall(state):
    camera = live(100.0)
    camera.report(report(state=state, detail="no route to host"))
    status = camera.status(1000.0, 0)
    assert (status.state, status.detail, status.last_frame_age_s) == (state, "no route to host", 900)


def test_a_clock_read_a_little_early_gives_no_negative_age():
    assert live(100.0).status(99.9, 0).last_frame_age_s == 0


def test_a_status_is_due_at_once_and_then_at_every_interval():
    camera = live(100.0, interval_s=5.0, stall_timeout_s=1000.0)
    due = [now for now in range(100, 116) if camera.due(float(now), 0) is not None]
    assert due == [100, 105, 110, 115]


def test_a_status_is_due_at_every_change_of_state():
    camera = live(100.0)
    assert camera.due(100.0, 0) is not None
    camera.report(report(state="reconnecting", detail="refused"))
    changed = camera.due(100.1, 0)
    assert changed is not None and changed.state == "reconnecting"
    assert camera.due(100.2, 0) is None


def test_a_stall_is_due_when_it_is_noticed_without_a_word_of_the_camera():
    camera = live(100.0, stall_timeout_s=2.0)
    camera.due(101.9, 0)
    assert camera.due(102.0, 0) is None
    stalled = camera.due(102.1, 0)
    assert stalled is not None and stalled.state == "stalled"


def test_a_status_in_between_puts_the_next_one_off():
    camera = live(100.0, interval_s=5.0)
    camera.due(100.0, 0)
    camera.report(report(state="reconnecting"))
    camera.due(103.0, 0)
    assert camera.due(107.9, 0) is None
    assert camera.due(108.0, 0) is not None


def test_a_detail_that_counts_down_does_not_make_a_status_due():
    camera = health()
    for left in range(4, 0, -1):
        camera.report(report(state="reconnecting", detail=f"next try in {left} s"))
        due = camera.due(100.0 + 4 - left, 0)
        assert (due is not None) == (left == 4)


def test_counted_losses_are_those_of_the_moment():
    camera = live(100.0, interval_s=1.0)
    counted = [camera.due(100.0 + second, second * 3) for second in range(3)]
    assert [status.frames_dropped for status in counted if status] == [0, 3, 6]


def test_a_camera_is_finished_once_its_process_says_so():
    camera = live()
    assert not camera.finished
    camera.report(report(state="stopped", final=True))
    assert camera.finished


def test_a_status_is_due_once_the_rate_is_known():
    camera = health(interval_s=5.0)
    camera.report(report(state="live", fps=0.0))
    camera.frame(100.0)
    assert camera.due(100.0, 0) is not None
    assert camera.due(100.1, 0) is None
    camera.report(report(state="live", fps=25.0))
    status = camera.due(100.2, 0)
    assert status is not None and status.fps == 25.0
    assert camera.due(100.3, 0) is None


def test_pauses_and_dropped_previews_are_passed_on():
    camera = health()
    camera.report(report(state="stopped", detail="paused", paused=True, previews_dropped=4))
    status = camera.status(100.0, 0)
    assert (status.state, status.paused, status.previews_dropped) == ("stopped", True, 4)


def test_what_is_wrong_and_the_next_attempt_are_fields():
    camera = health()
    camera.report(report(state="reconnecting", detail="cut; next try in 4 s", problem="cut", retry_in_s=4))
    status = camera.status(100.0, 0)
    assert (status.problem, status.retry_in_s, status.too_slow) == ("cut", 4, False)
    stalled = live(100.0, stall_timeout_s=5.0).status(110.0, 0)
    assert (stalled.problem, stalled.retry_in_s) == ("no new frame for over 5 s", None)
