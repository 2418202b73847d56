"""What `run` says at its end, in one line. Pure."""

from __future__ import annotations

from stream_i3d.stage import Summary


def describe(summary: Summary) -> str:
    """Return a run's figures for people: frames, windows, fps, latency, drops by reason."""
    fps = summary.frames / summary.seconds if summary.seconds else 0.0
    latency = "none"
    if summary.latency_p50_ms is not None and summary.latency_p95_ms is not None:
        latency = f"p50 {summary.latency_p50_ms:.1f} ms, p95 {summary.latency_p95_ms:.1f} ms"
    reasons = ", ".join(
        f"{number} {reason.replace('_', ' ')}" for reason, number in sorted(summary.windows_dropped.items())
    )
    windows_dropped = sum(summary.windows_dropped.values())
    parts = [
        f"{summary.frames} frames",
        f"{summary.windows} windows",
        f"{fps:.1f} fps",
        f"latency {latency}",
        f"dropped {summary.frames_dropped} frames and {windows_dropped} windows" + (f" ({reasons})" if reasons else ""),
    ]
    if summary.skipped:
        parts.insert(2, f"{summary.skipped} skipped for want of motion")
    if summary.rejected_messages:
        parts.append(f"{summary.rejected_messages} messages rejected")
    if summary.sink_dropped:
        parts.append(f"{summary.sink_dropped} messages not written")
    return "summary: " + ", ".join(parts)
