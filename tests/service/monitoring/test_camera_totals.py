from __future__ import annotations

from stream_i3d.histogram import Histogram
from stream_i3d.service.monitoring.camera_totals import CameraTotals
from stream_i3d.stage import CameraFigures, Summary

NOW = 1000.0


def said(**frames: int) -> Summary:
    """A worker's summary with so many frames of each camera, and all else in proportion."""
    cameras = {}
    for name, count in frames.items():
        total = Histogram()
        total.observe(count)
        cameras[name] = CameraFigures(
            frames=count, windows=count, windows_dropped={"gap": count}, total=total, frame_age_s=float(count)
        )
    return Summary(cameras=cameras)


def test_the_newest_word_of_a_process_replaces_the_one_before() -> None:
    totals = CameraTotals()
    totals.take("worker", 1, said(door=10), NOW)
    totals.take("worker", 1, said(door=25), NOW)
    assert totals.of("door", NOW).frames == 25


def test_counts_go_on_when_a_worker_was_started_again() -> None:
    totals = CameraTotals()
    totals.take("worker", 1, said(door=10), NOW)
    totals.take("worker", 2, said(door=0), NOW)
    totals.take("worker", 2, said(door=4), NOW)
    totals.take("worker", 3, said(door=1), NOW)
    figures = totals.of("door", NOW)
    assert (figures.frames, figures.windows, figures.windows_dropped) == (15, 15, {"gap": 15})
    assert sum(figures.total.counts) == 3 and figures.total.sum_s == 15
    assert figures.frame_age_s == 1  # as it is now


def test_a_camera_that_was_removed_takes_its_counts_with_it() -> None:
    totals = CameraTotals()
    totals.take("worker", 1, said(door=10, hall=20), NOW)
    totals.take("worker", 2, said(door=1, hall=1), NOW)
    totals.take("worker", 2, said(door=2), NOW)
    assert totals.of("hall", NOW) == CameraFigures()
    totals.take("worker", 2, said(door=2, hall=3), NOW)
    assert (totals.of("door", NOW).frames, totals.of("hall", NOW).frames) == (12, 3)


def test_several_workers_add_up() -> None:
    totals = CameraTotals()
    totals.take("worker 0", 1, said(door=10), NOW)
    totals.take("worker 1", 2, said(hall=20), NOW)
    totals.take("worker 1", 3, said(hall=2), NOW)
    assert (totals.of("door", NOW).frames, totals.of("hall", NOW).frames) == (10, 22)
    assert totals.of("nobody", NOW) == CameraFigures()


def test_the_age_of_a_frame_grows_while_its_own_worker_is_silent_whatever_others_say() -> None:
    totals = CameraTotals()
    totals.take("worker 1", 1, said(door=10), NOW)
    for second in range(30):
        totals.take("worker 2", 2, said(hall=1), NOW + second)
    assert totals.of("door", NOW + 1.5).frame_age_s == 10.0  # its next word is under way
    assert totals.of("door", NOW + 30).frame_age_s == 38.0
    assert totals.of("hall", NOW + 30).frame_age_s == 1.0
