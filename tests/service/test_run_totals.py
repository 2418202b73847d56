from __future__ import annotations

from stream_i3d.service.run_totals import RunTotals
from stream_i3d.stage import CameraFigures, PublisherSummary, SinkFigures, Summary


def sinks(dropped: int) -> list[SinkFigures]:
    return [SinkFigures(name="jsonl", queued=0, written=5, dropped=dropped)]


def test_the_newest_words_of_a_process_replace_those_before() -> None:
    figures = RunTotals()
    figures.take("worker", 1, Summary(frames=10, seconds=1.0))
    figures.take("worker", 1, Summary(frames=25, seconds=2.0, latency_p50_ms=8.0))
    assert figures.total() == Summary(frames=25, seconds=2.0, latency_p50_ms=8.0)


def test_a_process_that_was_started_again_adds_to_those_before() -> None:
    figures = RunTotals()
    for pid in (1, 2, 3):
        summary = Summary(frames=10, windows=2, seconds=5.0, windows_dropped={"stale": pid}, latency_p95_ms=9.0 - pid)
        figures.take("worker", pid, summary)
    total = figures.total()
    assert (total.frames, total.windows, total.seconds, total.windows_dropped) == (30, 6, 15.0, {"stale": 6})
    assert total.latency_p95_ms == 6.0


def test_workers_beside_each_other_add_up_over_the_same_time() -> None:
    figures = RunTotals()
    figures.take("worker 1", 1, Summary(frames=10, windows=1, seconds=5.0, latency_p50_ms=10.0, latency_p95_ms=20.0))
    figures.take("worker 2", 2, Summary(frames=10, windows=3, seconds=6.0, latency_p50_ms=20.0, latency_p95_ms=30.0))
    total = figures.total()
    assert (total.frames, total.seconds, total.latency_p50_ms, total.latency_p95_ms) == (20, 6.0, 17.5, 30.0)


def test_what_sinks_have_dropped_and_what_the_publisher_rejected_count_too() -> None:
    figures = RunTotals()
    figures.take("worker", 1, Summary(sink_dropped=1, rejected_messages=1))
    figures.take("publisher", 2, PublisherSummary(sinks=sinks(2), rejected_messages=10))
    figures.take("publisher", 2, PublisherSummary(sinks=sinks(4), rejected_messages=20))
    figures.take("publisher", 3, PublisherSummary(sinks=sinks(8), rejected_messages=40))
    assert (figures.total().sink_dropped, figures.total().rejected_messages) == (13, 61)


def test_a_run_in_which_nothing_was_said_has_none() -> None:
    assert RunTotals().total() == Summary()


def test_several_workers_have_ended_when_all_that_have_cameras_say_so() -> None:
    figures = RunTotals()
    names, some = ["worker 1", "worker 2", "worker 3"], {"door": CameraFigures()}
    figures.take("worker 1", 1, Summary(cameras=some, ended=True))
    figures.take("worker 2", 2, Summary())
    assert not figures.all_ended(names)  # one has not said anything yet
    figures.take("worker 3", 3, Summary(cameras=some))
    assert not figures.all_ended(names)
    figures.take("worker 3", 3, Summary(cameras=some, ended=True))
    assert figures.all_ended(names)
    assert not figures.all_ended(["worker 2"])  # without any camera others may be added
