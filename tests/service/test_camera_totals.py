from __future__ import annotations

from stream_i3d.histogram import Histogram
from stream_i3d.service.camera_totals import CameraTotals
from stream_i3d.stage import CameraFigures, Summary


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
    totals.take("worker", 1, said(door=10))
    totals.take("worker", 1, said(door=25))
    assert totals.of("door").frames == 25


def test_counts_go_on_when_a_worker_was_started_again() -> None:
    totals = CameraTotals()
    totals.take("worker", 1, said(door=10))
    totals.take("worker", 2, said(door=0))
    totals.take("worker", 2, said(door=4))
    totals.take("worker", 3, said(door=1))
    figures = totals.of("door")
    assert (figures.frames, figures.windows, figures.windows_dropped) == (15, 15, {"gap": 15})
    assert sum(figures.total.counts) == 3 and figures.total.sum_s == 15
    assert figures.frame_age_s == 1  # as it is now


def test_a_camera_that_was_removed_takes_its_counts_with_it() -> None:
    totals = CameraTotals()
    totals.take("worker", 1, said(door=10, hall=20))
    totals.take("worker", 2, said(door=1, hall=1))
    totals.take("worker", 2, said(door=2))
    assert totals.of("hall") == CameraFigures()
    totals.take("worker", 2, said(door=2, hall=3))
    assert (totals.of("door").frames, totals.of("hall").frames) == (12, 3)


def test_several_workers_add_up() -> None:
    totals = CameraTotals()
    totals.take("worker 0", 1, said(door=10))
    totals.take("worker 1", 2, said(hall=20))
    totals.take("worker 1", 3, said(hall=2))
    assert (totals.of("door").frames, totals.of("hall").frames) == (10, 22)
    assert totals.of("nobody") == CameraFigures()
