from __future__ import annotations

from stream_i3d.inference.worker.camera_meter import CameraMeter
from stream_i3d.messages import Latency
from tests.samples import event, recognition


def test_what_was_published_is_counted_by_kind_and_what_ran_has_latencies() -> None:
    meter = CameraMeter()
    meter.count(recognition(state="warming", label=None))
    meter.count(recognition(state="idle", label=None, skipped="no motion"))
    meter.count(recognition(latency_ms=Latency(queue=4, inference=40, total=400)))
    meter.count_event(event())
    meter.count_event(event(event="end", end_time=3.0))
    meter.count_event(event())
    figures = meter.figures(100, 3, {"gap": 2}, 0.04)
    assert (figures.frames, figures.frames_dropped, figures.windows_dropped) == (100, 3, {"gap": 2})
    assert (figures.windows, figures.skipped, figures.frame_age_s) == (1, 1, 0.04)
    assert figures.predictions == {"warming": 1, "idle": 1, "action": 1}
    assert figures.events == {"start": 2, "end": 1}
    sums = [round(one.sum_s, 6) for one in (figures.queue, figures.inference, figures.total)]
    assert sums == [0.004, 0.04, 0.4]


def test_figures_given_out_do_not_change_afterwards() -> None:
    meter = CameraMeter()
    meter.count(recognition())
    figures = meter.figures(0, 0, {}, None)
    meter.count(recognition())
    assert sum(figures.total.counts) == 1 and figures.predictions == {"action": 1}
