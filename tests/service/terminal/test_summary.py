from __future__ import annotations

from stream_i3d.service.terminal.summary import describe
from stream_i3d.stage import Summary


def test_a_run_ends_with_its_frames_windows_rate_latency_and_losses() -> None:
    summary = Summary(
        frames=1500,
        windows=186,
        seconds=60.0,
        latency_p50_ms=12.34,
        latency_p95_ms=20.0,
        frames_dropped=7,
        windows_dropped={"stale": 3, "gap": 1},
    )
    assert describe(summary) == (
        "summary: 1500 frames, 186 windows, 25.0 fps, latency p50 12.3 ms, p95 20.0 ms, "
        "dropped 7 frames and 4 windows (1 gap, 3 stale)"
    )


def test_a_run_without_a_window_has_no_latency_and_divides_by_nothing() -> None:
    assert describe(Summary()) == "summary: 0 frames, 0 windows, 0.0 fps, latency none, dropped 0 frames and 0 windows"


def test_what_is_out_of_the_ordinary_is_told_too() -> None:
    line = describe(Summary(frames=1, windows=2, skipped=5, rejected_messages=4, sink_dropped=3))
    assert "2 windows, 5 skipped for want of motion, " in line
    assert line.endswith(", 4 messages rejected, 3 messages not written")


def test_the_summary_is_one_line() -> None:
    assert "\n" not in describe(Summary(windows_dropped={"stale": 1}, skipped=1, rejected_messages=1, sink_dropped=1))
