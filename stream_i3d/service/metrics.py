"""The service's figures as Prometheus' text format, by one table of metrics. Pure: a snapshot in, bytes out.

No registry of the process: each answer is made of one snapshot, so its figures fit together, and what is gone is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from stream_i3d.buffer import DropReason
from stream_i3d.histogram import Histogram
from stream_i3d.messages import CameraState, RecognitionState
from stream_i3d.service.liveness import whats_dead, whats_missing
from stream_i3d.service.snapshot import CameraSnapshot, Snapshot, StageSnapshot
from stream_i3d.stage import CameraFigures, SinkFigures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "stream_i3d_"

Value = float | Histogram | None
Row = tuple[tuple[str, ...], Value]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name without the prefix, kind, labels, what it says, and its values in a snapshot.

    A value of None is left out: it is not known, and nought would be a lie.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    rows: Callable[[Snapshot], Iterable[Row]]


def render_metrics(snapshot: Snapshot) -> bytes:
    """Return all metrics as Prometheus reads them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(snapshot))
    return bytes(generate_latest(registry))


_KINDS: dict[str, Any] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


class _Collector(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Family]:
        """Yield every metric, also one without values: its help and kind are said from the first answer on."""
        for metric in METRICS:
            yield _family(metric, self._snapshot)


def _family(metric: Metric, snapshot: Snapshot) -> Any:
    family: Any = _KINDS[metric.kind](PREFIX + metric.name, metric.help, labels=metric.labels)
    for labels, value in metric.rows(snapshot):
        if isinstance(value, Histogram):
            buckets = [("+Inf" if bound == float("inf") else str(bound), float(n)) for bound, n in value.cumulative()]
            family.add_metric(labels, buckets, value.sum_s)
        elif value is not None:
            family.add_metric(labels, value)
    return family


def _one(value: Callable[[Snapshot], Value]) -> Callable[[Snapshot], Iterable[Row]]:
    return lambda snapshot: [((), value(snapshot))]


def _of_cameras(value: Callable[[CameraFigures], Value]) -> Callable[[Snapshot], Iterable[Row]]:
    return lambda snapshot: [((camera.name,), value(camera.figures)) for camera in snapshot.cameras]


def _by(words: Iterable[str], counts: Callable[[CameraFigures], dict[str, int]]) -> Callable[[Snapshot], Iterable[Row]]:
    """Give the counts of all known words, 0 too, since an alert cannot see what is not there yet, and of others."""
    known = tuple(words)

    def rows(snapshot: Snapshot) -> Iterator[Row]:
        for camera in snapshot.cameras:
            counted = counts(camera.figures)
            for word in (*known, *sorted(counted.keys() - set(known))):
                yield (camera.name, word), counted.get(word, 0)

    return rows


def _of_statuses(value: Callable[[CameraSnapshot], Value]) -> Callable[[Snapshot], Iterable[Row]]:
    return lambda snapshot: [((camera.name,), value(camera)) for camera in snapshot.cameras if camera.status]


def _states(snapshot: Snapshot) -> Iterator[Row]:
    for camera in snapshot.cameras:
        for state in get_args(CameraState):
            if camera.status is not None:
                yield (camera.name, state), float(camera.status.state == state)


def _of_stages(value: Callable[[StageSnapshot], Value]) -> Callable[[Snapshot], Iterable[Row]]:
    return lambda snapshot: [((stage.name,), value(stage)) for stage in snapshot.stages]


def _of_sinks(value: Callable[[SinkFigures], Value]) -> Callable[[Snapshot], Iterable[Row]]:
    return lambda snapshot: [((sink.name,), value(sink)) for sink in snapshot.sinks]


def _model(snapshot: Snapshot) -> list[Row]:
    model = snapshot.model
    return [] if model is None else [((model.name, model.checkpoint, snapshot.engine), 1.0)]


_CAMERA, _STAGE, _SINK = ("camera",), ("stage",), ("sink",)
_RESTARTS = "Times a process was started again because it crashed or fell silent."
_TOTAL = "From the capture of a window's newest frame to its publishing."

METRICS = (
    Metric("build_info", "gauge", ("version", "python"), "What runs; always 1.",
           lambda snapshot: [((snapshot.version, snapshot.python), 1.0)]),
    Metric("model_info", "gauge", ("model", "checkpoint", "engine"), "The network; 1, once it is loaded.", _model),
    Metric("start_time_seconds", "gauge", (), "When the service started, since 1970.", _one(lambda s: s.started_at)),
    Metric("healthy", "gauge", (), "1 while /healthz says 200.", _one(lambda s: float(not whats_dead(s)))),
    Metric("ready", "gauge", (), "1 while /readyz says 200.", _one(lambda s: float(not whats_missing(s)))),
    Metric("supervisor_loop_age_seconds", "gauge", (), "Since the supervisor's loop last turned.",
           _one(lambda s: s.loop_age_s)),
    Metric("messages_published_total", "counter", (), "Messages that went out on the PUB socket.",
           _one(lambda s: s.published)),
    Metric("messages_rejected_total", "counter", _STAGE, "Messages on private channels that were none of ours.",
           lambda s: [((name,), count) for name, count in sorted(s.rejected_messages.items())]),
    Metric("camera_state", "gauge", ("camera", "state"), "1 for the state that the camera is in.", _states),
    Metric("camera_paused", "gauge", _CAMERA, "1 while somebody has paused the camera.",
           _of_statuses(lambda c: float(c.status.paused) if c.status else None)),
    Metric("camera_fps", "gauge", _CAMERA, "New pictures a second that the camera delivers.",
           _of_statuses(lambda c: c.status.fps if c.status else None)),
    Metric("camera_frame_age_seconds", "gauge", _CAMERA, "Since the camera's last new picture.",
           _of_cameras(lambda f: f.frame_age_s)),
    Metric("camera_stride_frames", "gauge", _CAMERA, "Sampled frames from one window to the next, as it is now.",
           _of_cameras(lambda f: f.stride)),
    Metric("camera_reconnects_total", "counter", _CAMERA, "Times the camera was opened again.",
           _of_statuses(lambda c: c.status.reconnects if c.status else None)),
    Metric("camera_previews_dropped_total", "counter", _CAMERA, "Previews not made for want of time.",
           _of_statuses(lambda c: c.status.previews_dropped if c.status else None)),
    Metric("frames_total", "counter", _CAMERA, "Sampled frames that reached a worker.",
           _of_cameras(lambda f: f.frames)),
    Metric("frames_dropped_total", "counter", _CAMERA, "Sampled frames that did not.",
           _of_cameras(lambda f: f.frames_dropped)),
    Metric("windows_total", "counter", _CAMERA, "Windows run through the network.", _of_cameras(lambda f: f.windows)),
    Metric("windows_skipped_total", "counter", _CAMERA, "Windows spared the network for want of motion.",
           _of_cameras(lambda f: f.skipped)),
    Metric("windows_dropped_total", "counter", ("camera", "reason"), "Due windows that were not recognised.",
           _by(get_args(DropReason), lambda f: f.windows_dropped)),
    Metric("predictions_total", "counter", ("camera", "state"), "Predictions published.",
           _by(get_args(RecognitionState), lambda f: f.predictions)),
    Metric("events_total", "counter", ("camera", "event"), "Starts and ends of actions published.",
           _by(("start", "end"), lambda f: f.events)),
    Metric("queue_latency_seconds", "histogram", _CAMERA,
           "From the capture of a window's newest frame to the network.", _of_cameras(lambda f: f.queue)),
    Metric("inference_latency_seconds", "histogram", _CAMERA, "A window's time in the network, with its batch.",
           _of_cameras(lambda f: f.inference)),
    Metric("total_latency_seconds", "histogram", _CAMERA, _TOTAL, _of_cameras(lambda f: f.total)),
    Metric("sink_queued_messages", "gauge", _SINK, "Messages that wait to be written or delivered.",
           _of_sinks(lambda s: s.queued)),
    Metric("sink_written_total", "counter", _SINK, "Messages that the medium has taken; of the recorder, clips.",
           _of_sinks(lambda s: s.written)),
    Metric("sink_dropped_total", "counter", _SINK, "Messages lost: the queue was full, or the medium failed.",
           _of_sinks(lambda s: s.dropped)),
    Metric("sink_refused_total", "counter", _SINK, "Messages that the other side refused for good.",
           _of_sinks(lambda s: s.refused)),
    Metric("sink_failing", "gauge", _SINK, "1 while the sink fails.", _of_sinks(lambda s: float(s.failing))),
    Metric("stage_up", "gauge", _STAGE, "1 while the process does its work.",
           _of_stages(lambda s: float(s.state == "running"))),
    Metric("stage_restarts_total", "counter", _STAGE, _RESTARTS, _of_stages(lambda s: s.restarts)),
    Metric("stage_planned_restarts_total", "counter", _STAGE, "Times it was started again for the memory it held.",
           _of_stages(lambda s: s.planned_restarts)),
    Metric("stage_heartbeat_age_seconds", "gauge", _STAGE, "Since the process's loop last turned.",
           _of_stages(lambda s: s.heartbeat_age_s)),
    Metric("stage_resident_memory_bytes", "gauge", _STAGE, "Memory that the process holds.",
           _of_stages(lambda s: s.rss_bytes)),
    Metric("stage_open_files", "gauge", _STAGE, "Files, sockets and pipes that the process has open.",
           _of_stages(lambda s: s.open_files)),
)  # fmt: skip
"""All there are, in the order of the answer and of docs/monitoring.md."""


def metrics_table() -> str:
    """Return `METRICS` as the table of docs/monitoring.md."""
    lines = ["| Metric | Kind | Labels | |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{PREFIX}{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"
