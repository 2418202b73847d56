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

from stream_i3d.histogram import Histogram
from stream_i3d.inference.schedule import DropReason
from stream_i3d.messages import CameraState, CameraStatus, RecognitionState
from stream_i3d.service.monitoring.snapshot import Snapshot, StageSnapshot, liveness_problems, readiness_problems
from stream_i3d.stage import CameraFigures, SinkFigures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "stream_i3d_"

Kind = Literal["counter", "gauge", "histogram"]
Value = float | Histogram | None
Row = tuple[tuple[str, ...], Value]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name without the prefix, kind, labels, its help text, and its values in a snapshot.

    A value of None is left out: it is not known, and 0 would be wrong.
    """

    name: str
    kind: Kind
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
        """Yield every metric, also one without values: its help and kind are in every answer."""
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


def _of_service(name: str, kind: Kind, help_: str, value: Callable[[Snapshot], Value]) -> Metric:
    return Metric(name, kind, (), help_, lambda snapshot: [((), value(snapshot))])


def _of_cameras(name: str, kind: Kind, help_: str, value: Callable[[CameraFigures], Value]) -> Metric:
    return Metric(name, kind, ("camera",), help_, lambda s: [((one.name,), value(one.figures)) for one in s.cameras])


def _of_statuses(name: str, kind: Kind, help_: str, value: Callable[[CameraStatus], Value]) -> Metric:
    def rows(snapshot: Snapshot) -> Iterator[Row]:
        for camera in snapshot.cameras:
            if camera.status is not None:
                yield (camera.name,), value(camera.status)

    return Metric(name, kind, ("camera",), help_, rows)


def _of_stages(name: str, kind: Kind, help_: str, value: Callable[[StageSnapshot], Value]) -> Metric:
    return Metric(name, kind, ("stage",), help_, lambda s: [((one.name,), value(one)) for one in s.stages])


def _of_sinks(name: str, kind: Kind, help_: str, value: Callable[[SinkFigures], Value]) -> Metric:
    return Metric(name, kind, ("sink",), help_, lambda s: [((one.name,), value(one)) for one in s.sinks])


def _counts(
    name: str, label: str, help_: str, known: tuple[str, ...], counts: Callable[[CameraFigures], dict[str, int]]
) -> Metric:
    """Yield the counts of all known reasons, also 0, since an alert cannot see a missing series, and of others."""

    def rows(snapshot: Snapshot) -> Iterator[Row]:
        for camera in snapshot.cameras:
            counted = counts(camera.figures)
            for word in (*known, *sorted(counted.keys() - set(known))):
                yield (camera.name, word), counted.get(word, 0)

    return Metric(name, "counter", ("camera", label), help_, rows)


def _states(snapshot: Snapshot) -> Iterator[Row]:
    for camera in snapshot.cameras:
        for state in get_args(CameraState):
            if camera.status is not None:
                yield (camera.name, state), float(camera.status.state == state)


def _model(snapshot: Snapshot) -> list[Row]:
    model = snapshot.model
    return [] if model is None else [((model.name, model.checkpoint, snapshot.engine), 1.0)]


def _check(snapshot: Snapshot) -> list[Row]:
    check = snapshot.check
    return [] if check is None else [((check.backend, check.precision, check.device), check.difference)]


def _rejected_engines(snapshot: Snapshot) -> list[Row]:
    rejected = [] if snapshot.check is None else snapshot.check.rejected
    return [((way.backend, way.precision, way.device), 1.0) for way in rejected]


_RESTARTS = "Times a process was started again because it crashed or fell silent."
_TOTAL = "From the capture of a window's newest frame to its publishing."

METRICS = (
    Metric("build_info", "gauge", ("version", "python"), "What runs; always 1.",
           lambda snapshot: [((snapshot.version, snapshot.python), 1.0)]),
    Metric("model_info", "gauge", ("model", "checkpoint", "engine"), "The network; 1, once it is loaded.", _model),
    Metric("engine_check_difference", "gauge", ("backend", "precision", "device"),
           "Largest difference of a probability from fp32, in the engine's check when it was loaded.", _check),
    Metric("engine_rejected", "gauge", ("backend", "precision", "device"),
           "1 for a way to run the network that failed the check and is not used.", _rejected_engines),
    _of_service("start_time_seconds", "gauge", "When the service started, since 1970.", lambda s: s.started_at),
    _of_service("healthy", "gauge", "1 while /healthz says 200.", lambda s: float(not liveness_problems(s))),
    _of_service("ready", "gauge", "1 while /readyz says 200.", lambda s: float(not readiness_problems(s))),
    _of_service("supervisor_loop_age_seconds", "gauge", "Since the supervisor's loop last turned.",
                lambda s: s.loop_age_s),
    _of_service("messages_published_total", "counter", "Messages that went out on the PUB socket.",
                lambda s: s.published),
    Metric("messages_rejected_total", "counter", ("stage",), "Messages on private channels that were none of ours.",
           lambda s: [((name,), count) for name, count in sorted(s.rejected_messages.items())]),
    _of_service("subscriptions_refused_total", "counter",
                "Subscriptions and connections on the PUB socket that were beyond its limits.",
                lambda s: s.subscriptions_refused),
    Metric("camera_state", "gauge", ("camera", "state"), "1 for the state that the camera is in.", _states),
    _of_statuses("camera_paused", "gauge", "1 while somebody has paused the camera.", lambda s: float(s.paused)),
    _of_statuses("camera_fps", "gauge", "New pictures a second that the camera delivers.", lambda s: s.fps),
    _of_cameras("camera_frame_age_seconds", "gauge", "Since the camera's last new picture.", lambda f: f.frame_age_s),
    _of_cameras("camera_stride_frames", "gauge", "Sampled frames from one window to the next, as it is now.",
                lambda f: f.stride),
    _of_cameras("camera_waiting", "gauge", "1 while the camera waits for its turn: the machine cannot keep up.",
                lambda f: None if f.waiting is None else float(f.waiting)),
    _of_service("overloaded", "gauge", "1 while cameras are recognised less often than was asked for.",
                lambda s: float(bool(s.overloads))),
    _of_statuses("camera_reconnects_total", "counter", "Times the camera was opened again.", lambda s: s.reconnects),
    _of_statuses("camera_delay_seconds", "gauge", "Seconds for which pictures are held back, as they come in bursts.",
                 lambda s: s.delay_s),
    _of_statuses("camera_previews_dropped_total", "counter", "Previews not made for want of time.",
                 lambda s: s.previews_dropped),
    _of_cameras("frames_total", "counter", "Sampled frames that reached a worker.", lambda f: f.frames),
    _of_cameras("frames_dropped_total", "counter", "Sampled frames that did not.", lambda f: f.frames_dropped),
    _of_cameras("windows_total", "counter", "Windows run through the network.", lambda f: f.windows),
    _of_cameras("windows_skipped_total", "counter", "Windows spared the network for want of motion.",
                lambda f: f.skipped),
    _counts("windows_dropped_total", "reason", "Due windows that were not recognised.", get_args(DropReason),
            lambda f: f.windows_dropped),
    _counts("predictions_total", "state", "Predictions published.", get_args(RecognitionState),
            lambda f: f.predictions),
    _counts("events_total", "event", "Starts and ends of actions published.", ("start", "end"), lambda f: f.events),
    _of_cameras("queue_latency_seconds", "histogram", "From the capture of a window's newest frame to the network.",
                lambda f: f.queue),
    _of_cameras("inference_latency_seconds", "histogram", "A window's time in the network, with its batch.",
                lambda f: f.inference),
    _of_cameras("total_latency_seconds", "histogram", _TOTAL, lambda f: f.total),
    _of_sinks("sink_queued_messages", "gauge", "Messages that wait to be written or delivered.", lambda s: s.queued),
    _of_sinks("sink_written_total", "counter", "Messages that the medium has taken; of the recorder, clips.",
              lambda s: s.written),
    _of_sinks("sink_dropped_total", "counter", "Messages lost: the queue was full, or the medium failed.",
              lambda s: s.dropped),
    _of_sinks("sink_refused_total", "counter", "Messages that the other side refused for good.", lambda s: s.refused),
    _of_sinks("sink_failing", "gauge", "1 while the sink fails.", lambda s: float(s.failing)),
    _of_stages("stage_up", "gauge", "1 while the process does its work.", lambda s: float(s.state == "running")),
    _of_stages("stage_restarts_total", "counter", _RESTARTS, lambda s: s.restarts),
    _of_stages("stage_planned_restarts_total", "counter", "Times it was started again for the memory it held.",
               lambda s: s.planned_restarts),
    _of_stages("stage_heartbeat_age_seconds", "gauge", "Since the process's loop last turned.",
               lambda s: s.heartbeat_age_s),
    _of_stages("stage_resident_memory_bytes", "gauge", "Memory that the process holds.", lambda s: s.rss_bytes),
    _of_stages("stage_open_files", "gauge", "Files, sockets and pipes that the process has open.",
               lambda s: s.open_files),
)  # fmt: skip
"""All metrics, in the order of the answer and of docs/monitoring.md."""


def metrics_table() -> str:
    """Return `METRICS` as the table of docs/monitoring.md."""
    lines = ["| Metric | Kind | Labels | |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{PREFIX}{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"
