from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from stream_i3d.capture.loop import CaptureJob
from stream_i3d.capture.process import capture_main
from stream_i3d.config import (
    CameraConfig,
    CaptureConfig,
    Config,
    ControlConfig,
    ModelConfig,
    PublishConfig,
    SecurityConfig,
    WindowConfig,
    convert,
)
from stream_i3d.errors import CheckpointError, ConfigError, LabelsError
from stream_i3d.inference.worker.drain import WorkerJob
from stream_i3d.inference.worker.process import worker_main
from stream_i3d.publish.process import publisher_main
from stream_i3d.service import plan as plan_module
from stream_i3d.service.plan import MAX_CAMERAS, Plan


def config_of(*sources: str | tuple[str, str], **more: Any) -> Config:
    """A configuration of cameras: each a source, or a source and a name."""
    cameras = [
        CameraConfig(source=one) if isinstance(one, str) else CameraConfig(source=one[0], name=one[1])
        for one in sources
    ]
    return Config(cameras=cameras, **more)


@pytest.fixture
def tiny(tiny_checkpoint: Path) -> ModelConfig:
    return ModelConfig(checkpoint=str(tiny_checkpoint))


def test_the_plan_is_a_publisher_a_worker_and_a_capture_process_per_camera(tiny: ModelConfig, tmp_path: Path) -> None:
    plan = Plan(config_of(("0", "door"), ("1", "hall"), model=tiny), tmp_path).rows
    assert [row.name for row in plan] == ["publisher", "worker", "capture door", "capture hall"]
    assert [row.main for row in plan] == [publisher_main, worker_main, capture_main, capture_main]
    assert [row.role for row in plan] == ["publisher", "worker", "capture", "capture"]
    assert [row.shutdown_order for row in plan] == [2, 1, 0, 0]  # so that the last word of each is published


def test_worker_and_publisher_agree_on_their_channel_and_the_publisher_is_told_no_password(
    tiny: ModelConfig, tmp_path: Path
) -> None:
    plan = Plan(config_of("rtsp://u:s3cret@cam/1", model=tiny), tmp_path).rows
    publisher, worker = plan[0].job, plan[1].job
    assert publisher.channel == worker.relay
    assert "s3cret" not in repr(publisher)


def test_a_publisher_that_is_started_again_is_of_the_same_run_and_of_no_other(
    tiny: ModelConfig, tmp_path: Path
) -> None:
    one, other = (Plan(config_of("0", model=tiny), tmp_path) for _ in range(2))
    runs = [plan.publisher_row.job.run for plan in (one, one, other)]
    assert runs[0] == runs[1] != runs[2]


def test_captures_and_worker_agree_on_names_channels_and_frames(tiny: ModelConfig, tmp_path: Path) -> None:
    plan = Plan(config_of(("0", "door"), ("1", "hall"), model=tiny), tmp_path).rows
    worker, captures = plan[1].job, [row.job for row in plan[2:]]
    assert isinstance(worker, WorkerJob)
    assert all(isinstance(job, CaptureJob) for job in captures)
    assert [(slot.name, slot.channel) for slot in worker.cameras] == [(job.camera, job.channel) for job in captures]
    assert len({slot.channel for slot in worker.cameras}) == 2
    assert {job.preprocessing.crop_size for job in captures} == {worker.setup.preprocessing.crop_size} == {32}


def test_window_settings_reach_the_capture_processes(tiny: ModelConfig, tmp_path: Path) -> None:
    plan = Plan(config_of("0", model=tiny, window=WindowConfig(sample_fps=12.5)), tmp_path).rows
    assert plan[2].job.preprocessing.sample_fps == 12.5


@pytest.mark.parametrize(
    ("source", "fast", "lossless"),
    [
        ("a.mp4", True, True),
        ("a.mp4", False, False),
        ("synthetic://", True, True),
        ("0", True, False),
        ("rtsp://camera/", True, False),
    ],
)
def test_only_what_is_read_at_full_speed_and_is_no_camera_is_held_back(
    tiny: ModelConfig, tmp_path: Path, source: str, fast: bool, lossless: bool
) -> None:
    plan = Plan(config_of(source, model=tiny, capture=CaptureConfig(fast=fast)), tmp_path).rows
    assert [slot.lossless for slot in plan[1].job.cameras] == [lossless]


def test_a_capture_process_may_be_silent_for_as_long_as_its_time_limits_take(tiny: ModelConfig, tmp_path: Path) -> None:
    capture = CaptureConfig(open_timeout_s=30.0, read_timeout_s=20.0)
    row = Plan(config_of("0", model=tiny, capture=capture), tmp_path).rows[2]
    assert min(row.silent_limit_s, row.startup_limit_s) > 50


def test_processes_end_within_five_seconds(tiny: ModelConfig, tmp_path: Path) -> None:
    plan = Plan(config_of("0", "1", model=tiny), tmp_path).rows
    graces = {order: max(row.grace_s for row in plan if row.shutdown_order == order) for order in (0, 1, 2)}
    assert sum(graces.values()) < 5.0


def test_a_plan_can_be_sent_to_other_processes(tiny: ModelConfig, tmp_path: Path) -> None:
    for row in Plan(config_of("0", model=tiny), tmp_path).rows:
        assert pickle.loads(pickle.dumps((row.main, row.job))) == (row.main, row.job)


def test_another_worker_may_be_put_in_place(tiny: ModelConfig, tmp_path: Path) -> None:
    def slow(stage: Any, job: Any) -> None: ...

    assert Plan(config_of("0", model=tiny), tmp_path, slow).rows[1].main is slow


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:5556", "tcp://*:5556", "tcp://192.168.1.5:5556", "tcp://[::]:5556"])
def test_a_bind_beyond_this_machine_is_refused(tiny: ModelConfig, tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="refusing to bind"):
        Plan(config_of("0", model=tiny, publish=PublishConfig(address=address)), tmp_path)


def test_an_address_that_is_none_is_told(tiny: ModelConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="allowed is tcp://HOST:PORT"):
        Plan(config_of("0", model=tiny, publish=PublishConfig(address="5556")), tmp_path)


def test_what_is_wrong_with_the_model_is_told_before_anything_starts(tiny_checkpoint: Path, tmp_path: Path) -> None:
    missing = ModelConfig(checkpoint=str(tmp_path / "none.safetensors"))
    with pytest.raises(CheckpointError, match="does not exist"):
        Plan(config_of("0", model=missing), tmp_path)
    labels = ModelConfig(checkpoint=str(tiny_checkpoint), labels="ucf101")
    with pytest.raises(LabelsError, match="101 labels do not fit a network of 10 classes"):
        Plan(config_of("0", model=labels), tmp_path)


# --- as it changes


@pytest.fixture
def plan(tiny: ModelConfig, tmp_path: Path) -> Plan:
    return Plan(config_of(("0", "door"), ("1", "hall"), model=tiny), tmp_path)


def test_a_camera_that_is_added_is_the_workers_too_and_has_channels_of_its_own(plan: Plan) -> None:
    plan.remove("door")
    plan.add("synthetic://?seed=1")
    assert [slot.name for slot in plan.worker_rows[0].job.cameras] == ["hall", "synthetic"]
    jobs = [row.job for row in plan.rows[2:]]
    assert len({job.channel for job in jobs} | {job.preview_channel for job in jobs}) == 4
    assert [slot.channel for slot in plan.worker_rows[0].job.cameras] == [job.channel for job in jobs]


def test_a_channel_is_never_given_to_a_second_camera(plan: Plan) -> None:
    seen = {camera.job.channel for camera in plan.cameras.values()}
    for _ in range(3):
        camera = plan.add("0", "again")
        assert camera.job.channel not in seen
        seen.add(camera.job.channel)
        plan.remove("again")


def keyed_plan(model: ModelConfig, folder: Path, publish: str, *sources: str) -> Plan:
    return Plan(
        config_of(
            *sources,
            model=model,
            publish=PublishConfig(address=publish),
            control=ControlConfig(stay=True),
            security=SecurityConfig(key="service.key_secret", clients="clients"),
        ),
        folder,
    )


def test_with_keys_previews_are_on_the_host_and_the_ports_after_the_published_ones(
    tiny: ModelConfig, tmp_path: Path
) -> None:
    plan = keyed_plan(tiny, tmp_path, "tcp://*:5556", "0", "1")
    jobs = [camera.job for camera in plan.cameras.values()]
    assert [job.preview_channel for job in jobs] == ["tcp://*:5558", "tcp://*:5559"]
    assert all(job.security == plan.config.security for job in jobs)
    assert all(job.channel.startswith("ipc://") for job in jobs)  # frames never leave the machine


def test_a_published_address_without_a_port_leaves_that_of_the_previews_to_the_system_too(
    tiny: ModelConfig, tmp_path: Path
) -> None:
    plan = keyed_plan(tiny, tmp_path, "tcp://127.0.0.1:*", "0", "1")
    assert [camera.job.preview_channel for camera in plan.cameras.values()] == ["tcp://127.0.0.1:*"] * 2


def test_with_keys_but_no_tcp_previews_are_private_as_without(tiny: ModelConfig, tmp_path: Path) -> None:
    plan = keyed_plan(tiny, tmp_path, f"ipc://{tmp_path / 'publish'}", "0")
    assert plan.cameras["webcam0"].job.preview_channel == f"ipc://{tmp_path / 'preview-0'}"


def test_ports_of_previews_stay_within_the_most_of_cameras_and_are_used_again_late(
    tiny: ModelConfig, tmp_path: Path
) -> None:
    plan = keyed_plan(tiny, tmp_path, "tcp://*:5556", "0")
    given = []
    for _ in range(MAX_CAMERAS):
        given.append(plan.add("1", "comes").job.preview_channel)
        plan.remove("comes")
    assert given[:-1] == [f"tcp://*:{5559 + number}" for number in range(MAX_CAMERAS - 1)]
    assert given[-1] == "tcp://*:5559"  # 5558 is the first camera's


def test_every_camera_has_a_port_for_its_previews_however_many_there_are(tiny: ModelConfig, tmp_path: Path) -> None:
    plan = keyed_plan(tiny, tmp_path, "tcp://*:5556", *["synthetic://"] * (MAX_CAMERAS + 2))
    assert len({camera.job.preview_channel for camera in plan.cameras.values()}) == MAX_CAMERAS + 2


def test_an_address_off_this_machine_needs_keys(tiny: ModelConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"refusing to bind tcp://0\.0\.0\.0:5556 without keys"):
        Plan(config_of("0", model=tiny, publish=PublishConfig(address="tcp://0.0.0.0:5556")), tmp_path)


def test_added_cameras_are_named_after_their_source_and_uniquely(plan: Plan) -> None:
    assert [plan.add("synthetic://").slot.name for _ in range(2)] == ["synthetic", "synthetic-2"]
    with pytest.raises(ConfigError, match="there is a camera named 'door' already"):
        plan.add("2", "door")


def test_a_wrong_source_changes_nothing(plan: Plan) -> None:
    with pytest.raises(ConfigError, match="unknown kind"):
        plan.add("rstp://x/")
    assert list(plan.cameras) == ["door", "hall"]


def test_there_is_a_most_of_cameras(plan: Plan) -> None:
    for _ in range(MAX_CAMERAS - 2):
        plan.add("synthetic://")
    with pytest.raises(ConfigError, match="the most that one service takes"):
        plan.add("synthetic://")


def test_a_camera_that_is_not_there_is_told_with_the_likeliest(plan: Plan) -> None:
    with pytest.raises(ConfigError, match=r"no camera 'dor' \(did you mean 'door'\?\); there are: door, hall"):
        plan.camera("dor")


def test_settings_that_change_are_those_a_restarted_worker_gets(plan: Plan) -> None:
    plan.change_settings({"window.stride": 3})
    assert plan.worker_rows[0].job.config.window.stride == 3


def test_pauses_and_failures_are_kept_for_a_restart(plan: Plan) -> None:
    plan.pause("door", True)
    plan.give_up("hall", "no such file")
    assert [row.job.paused for row in plan.rows[2:]] == [True, False]
    assert [slot.failure for slot in plan.worker_rows[0].job.cameras] == [None, "no such file"]


def test_only_cameras_of_the_start_may_end_the_run_and_none_where_it_stays(tiny: ModelConfig, tmp_path: Path) -> None:
    plan = Plan(config_of("0", model=tiny), tmp_path)
    assert [plan.cameras["webcam0"].row.essential, plan.add("1").row.essential] == [True, False]
    staying = Plan(config_of("0", model=tiny, control=ControlConfig(stay=True)), tmp_path)
    assert not staying.cameras["webcam0"].row.essential


def test_where_it_stays_it_may_start_without_a_camera(tiny: ModelConfig, tmp_path: Path) -> None:
    assert [row.name for row in Plan(config_of(model=tiny, control=ControlConfig(stay=True)), tmp_path).rows] == [
        "publisher",
        "worker",
    ]


# --- several devices


def of_devices(model: ModelConfig, folder: Path, devices: list[str], *sources: str, stay: bool = False) -> Plan:
    on_devices = structs.replace(model, devices=devices)
    return Plan(config_of(*sources, model=on_devices, control=ControlConfig(stay=stay)), folder)


def test_there_is_a_worker_on_each_device_and_they_share_the_cameras(tiny: ModelConfig, tmp_path: Path) -> None:
    plan = of_devices(tiny, tmp_path, ["cuda:0", "cuda:1"], "0", "1", "2")
    jobs = {row.name: row.job for row in plan.worker_rows}
    assert [(name, job.setup.config.device) for name, job in jobs.items()] == [
        ("worker 1", "cuda:0"),
        ("worker 2", "cuda:1"),
    ]
    assert [[slot.name for slot in job.cameras] for job in jobs.values()] == [["webcam0", "webcam2"], ["webcam1"]]
    assert [(job.linger, job.setup.config.threads) for job in jobs.values()] == [(True, 0)] * 2
    assert len({job.relay for job in jobs.values()}) == 1


def test_an_added_camera_goes_to_the_worker_with_the_fewest(tiny: ModelConfig, tmp_path: Path) -> None:
    plan = of_devices(tiny, tmp_path, ["cpu", "cpu"], "0", "1", "2", "3")
    plan.remove("webcam1")
    plan.remove("webcam3")
    assert plan.add("4").worker == plan.add("5").worker == "worker 2"
    assert plan.add("6").worker == "worker 1"


def test_workers_on_the_cpu_divide_its_cores(
    tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "allowed_cores", lambda: 9)
    plan = of_devices(tiny, tmp_path, ["cpu", "cpu", "cuda:0"], "0", "1", "2")
    assert [row.job.setup.config.threads for row in plan.worker_rows] == [4, 4, 0]


def test_a_worker_that_would_have_no_camera_is_left_out_unless_others_may_come(
    tiny: ModelConfig, tmp_path: Path
) -> None:
    assert [row.name for row in of_devices(tiny, tmp_path, ["cpu", "cpu"], "0").worker_rows] == ["worker"]
    assert len(of_devices(tiny, tmp_path, ["cpu", "cpu"], "0", stay=True).worker_rows) == 2


def test_device_and_devices_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="device and devices exclude each other"):
        convert({"model": {"device": "cpu", "devices": ["cpu", "cpu"]}})


def test_the_publisher_has_a_limit_of_memory_and_what_recorders_keep_comes_on_top(
    tiny: ModelConfig, tmp_path: Path
) -> None:
    def limit(**more: Any) -> float | None:
        return Plan(config_of("0", model=tiny, **more), tmp_path).publisher_row.memory_limit_mb

    assert limit() == 500.0
    assert limit(publish=PublishConfig(max_memory_mb=None)) is None
    recorder = convert({"sinks": [{"type": "recorder", "folder": str(tmp_path), "ring_mb": 10}]}).sinks
    assert limit(sinks=recorder, publish=PublishConfig(max_memory_mb=100.0)) == 100.0 + 10 * MAX_CAMERAS
