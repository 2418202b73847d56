from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stream_i3d.histogram import BOUNDS_S, Histogram
from stream_i3d.service.monitoring.metrics import METRICS, PREFIX, metrics_table, render_metrics
from stream_i3d.service.monitoring.snapshot import CameraSnapshot, Snapshot
from stream_i3d.stage import CameraFigures, EngineCheck, RejectedEngine
from tests.samples import status
from tests.service.monitoring.snapshots import camera, snapshot, stage

DOCS = Path(__file__).parents[3] / "docs" / "monitoring.md"


def samples(known: Snapshot) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What Prometheus would read, by name and labels."""
    families = text_string_to_metric_families(render_metrics(known).decode())
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def value(known: Snapshot, name: str, **labels: str) -> float | None:
    return samples(known).get((PREFIX + name, frozenset(labels.items())))


def test_figures_stand_under_their_names_and_labels() -> None:
    known = snapshot(cameras=[camera(frames=250, frames_dropped=4, events={"start": 2}, stride=12)])
    assert value(known, "frames_total", camera="door") == 250
    assert value(known, "frames_dropped_total", camera="door") == 4
    assert value(known, "events_total", camera="door", event="start") == 2
    assert value(known, "events_total", camera="door", event="end") == 0
    assert value(known, "camera_reconnects_total", camera="door") == 3
    assert value(known, "camera_stride_frames", camera="door") == 12
    assert value(known, "camera_frame_age_seconds", camera="door") == 0.04
    assert value(known, "sink_dropped_total", sink="mqtt") == 3
    assert value(known, "sink_queued_messages", sink="mqtt") == 1
    assert value(known, "stage_resident_memory_bytes", stage="capture door") == 100_000_000
    assert value(known, "messages_rejected_total", stage="publisher") == 1
    assert value(known, "build_info", version="0.1.0", python="3.11.2") == 1
    assert (value(known, "healthy"), value(known, "ready")) == (1, 1)


def test_one_state_of_a_camera_is_1_and_the_others_0() -> None:
    stalled = CameraSnapshot(name="door", status=status(state="stalled"))
    states = {
        state: value(snapshot(cameras=[stalled]), "camera_state", camera="door", state=state)
        for state in ("connecting", "live", "stalled", "reconnecting", "stopped")
    }
    assert states == {"connecting": 0, "live": 0, "stalled": 1, "reconnecting": 0, "stopped": 0}


def test_reasons_are_there_before_anything_was_dropped_and_new_ones_appear() -> None:
    known = snapshot(cameras=[camera(windows_dropped={"gap": 5, "unheard-of": 1})])
    assert value(known, "windows_dropped_total", camera="door", reason="gap") == 5
    assert value(known, "windows_dropped_total", camera="door", reason="stale") == 0
    assert value(known, "windows_dropped_total", camera="door", reason="unheard-of") == 1


def test_histograms_are_cumulative_and_in_seconds() -> None:
    total = Histogram()
    for seconds in (0.02, 0.4, 60.0):
        total.observe(seconds)
    known = snapshot(cameras=[CameraSnapshot(name="door", figures=CameraFigures(total=total))])
    buckets = {
        float(dict(labels)["le"]): count
        for (name, labels), count in samples(known).items()
        if name == PREFIX + "total_latency_seconds_bucket"
    }
    assert sorted(buckets) == [*BOUNDS_S, float("inf")]
    assert (buckets[0.01], buckets[0.02], buckets[0.5], buckets[10.0], buckets[float("inf")]) == (0, 1, 2, 2, 3)
    assert value(known, "total_latency_seconds_count", camera="door") == 3
    assert value(known, "total_latency_seconds_sum", camera="door") == pytest.approx(60.42)


def test_what_is_not_known_is_left_out_and_what_is_gone_disappears() -> None:
    known = snapshot(cameras=[CameraSnapshot(name="door")], stages=[stage(heartbeat_age_s=None, rss_bytes=None)])
    assert value(known, "camera_frame_age_seconds", camera="door") is None
    assert value(known, "camera_fps", camera="door") is None
    assert value(known, "stage_heartbeat_age_seconds", stage="worker") is None
    assert not any(("camera", "door") in labels for _, labels in samples(snapshot(cameras=[])))


def test_every_metric_has_its_name_by_the_rules() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.help.endswith(".")
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_the_table_in_the_documentation_is_that_of_the_code() -> None:
    assert metrics_table() in DOCS.read_text(encoding="utf-8")


def test_every_metric_named_in_the_documentation_exists() -> None:
    named = set(re.findall(rf"{PREFIX}[a-z_]+", DOCS.read_text(encoding="utf-8")))
    known = {PREFIX + metric.name for metric in METRICS}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in named} <= known


promtool = pytest.mark.skipif(
    shutil.which("promtool") is None and os.environ.get("CI") != "true",
    reason="promtool is needed: scripts/system-deps test",
)


@promtool
@pytest.mark.system
@pytest.mark.parametrize(
    "known", [snapshot(), snapshot(cameras=[], sinks=[], stages=[], model=None)], ids=["full", "bare"]
)
def test_prometheus_own_tool_has_nothing_to_say_against_it(known: Snapshot) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=render_metrics(known), capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_engines_check_and_what_failed_it_are_shown() -> None:
    rejected = [RejectedEngine(backend="openvino", precision="bf16", device="cpu", finite=False)]
    check = EngineCheck(
        backend="torch",
        precision="fp32",
        device="cpu",
        compared=True,
        difference=2e-6,
        tolerance=0.01,
        rejected=rejected,
    )
    known = snapshot(check=check)
    assert value(known, "engine_check_difference", backend="torch", precision="fp32", device="cpu") == 2e-6
    assert value(known, "engine_rejected", backend="openvino", precision="bf16", device="cpu") == 1
    assert value(snapshot(), "engine_check_difference", backend="torch", precision="fp32", device="cpu") is None
    assert value(known, "windows_dropped_total", camera="door", reason="not_finite") == 0
