"""Requests to a desk whose supervisor only takes note; real processes are in tests/test_live_control.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_i3d.config import CameraConfig, Config, ModelConfig
from stream_i3d.errors import ConfigError
from stream_i3d.messages import EngineFacts, ModelName
from stream_i3d.service.control_handler import ControlHandler
from stream_i3d.service.plan import MAX_CAMERAS, Plan, StageRow
from stream_i3d.service.saved_changes import ChangeSaver, StateFile, apply
from stream_i3d.service.stage_health import StageHealth
from stream_i3d.stage import CameraNews, CaptureOrder, Order, Ready, WorkerOrder
from stream_i3d.transport.control import (
    AddCamera,
    CamerasReply,
    ChangeSettings,
    ChangeSource,
    ChangeView,
    ErrorReply,
    GetSettings,
    HelloReply,
    ListCameras,
    ListStages,
    PauseCamera,
    RemoveCamera,
    RenameCamera,
    Reply,
    Request,
    ResumeCamera,
    SayHello,
    SettingsReply,
    StageInfo,
    StagesReply,
    decode_request,
    encode_control,
)
from tests.samples import status


class FakeSupervisor:
    """Notes what it is told to do."""

    def __init__(self) -> None:
        self.added: list[StageRow] = []
        self.retired: list[str] = []
        self.replaced: list[StageRow] = []
        self.orders: list[tuple[str, Order]] = []
        self.ready = True

    def add(self, row: StageRow) -> None:
        self.added.append(row)

    def retire(self, name: str) -> None:
        self.retired.append(name)

    def replace(self, row: StageRow) -> None:
        self.replaced.append(row)

    def health(self) -> list[StageHealth]:
        return [StageHealth("worker", "running", 2, 1, 0.25, 3 * 2**20, 30, 77)]

    def change(self, row: StageRow, order: Callable[[int], Order]) -> None:
        self.orders.append((row.name, order(len(self.orders) + 1)))

    def is_ready(self, name: str) -> bool:
        return self.ready and name in ("worker", "publisher")

    @property
    def worker(self) -> WorkerOrder:
        """What the worker was last told."""
        return [order for _, order in self.orders if isinstance(order, WorkerOrder)][-1]


class Rig:
    """A desk over a plan of two cameras."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.supervisor = FakeSupervisor()
        self.desk = ControlHandler(plan, server=None)  # type: ignore[arg-type]

    def ask(self, request: Request) -> Reply:
        return self.desk.answer(self.supervisor, request)  # type: ignore[arg-type]

    def names(self) -> list[str]:
        reply = self.ask(ListCameras())
        assert isinstance(reply, CamerasReply)
        return [camera.name for camera in reply.cameras]

    def gone(self, camera: str) -> None:
        self.desk.gone(self.supervisor, f"capture {camera}")  # type: ignore[arg-type]

    def refused(self, request: Request) -> str:
        """Return why a request was refused; nothing must have been changed."""
        before = len(self.supervisor.added), len(self.supervisor.retired), len(self.supervisor.orders), self.names()
        reply = self.ask(request)
        assert isinstance(reply, ErrorReply), reply
        after = len(self.supervisor.added), len(self.supervisor.retired), len(self.supervisor.orders), self.names()
        assert before == after
        return reply.message


@pytest.fixture
def rig(tiny_checkpoint: Path, tmp_path: Path) -> Rig:
    cameras = [CameraConfig(source="rtsp://u:s3cret@cam/1", name="door"), CameraConfig(source="1", name="hall")]
    return Rig(Plan(Config(cameras=cameras, model=ModelConfig(checkpoint=str(tiny_checkpoint))), tmp_path))


def test_hello_tells_what_runs_once_the_worker_has_said_it(rig: Rig) -> None:
    rig.supervisor.ready = False
    loading = rig.ask(SayHello())
    assert isinstance(loading, HelloReply)
    assert (loading.ready, loading.model, loading.publish) == (False, None, "")
    model = ModelName(name="i3d", checkpoint="tiny")
    rig.desk.on_message("publisher", Ready(detail="", address="tcp://x"))
    facts = EngineFacts(backend="torch", device="cpu", precision="bf16")
    rig.desk.on_message("worker", Ready(detail="", model=model, labels=["a"], engine="as people read it", facts=facts))
    rig.supervisor.ready = True
    hello = rig.ask(SayHello())
    assert isinstance(hello, HelloReply)
    assert (hello.ready, hello.model, hello.labels, hello.publish) == (True, model, ["a"], "tcp://x")
    assert (hello.device, hello.precision, hello.pid) == ("cpu", "bf16", loading.pid)
    assert hello.facts == facts


def test_cameras_are_listed_with_what_is_known_and_without_passwords(rig: Rig) -> None:
    rig.desk.on_message("capture door", Ready(detail="", address="ipc:///p/preview-0"))
    rig.desk.on_message("publisher", CameraNews(status=status(camera="hall")))
    reply = rig.ask(ListCameras())
    assert isinstance(reply, CamerasReply)
    door, hall = reply.cameras
    assert (door.name, door.source, door.preview, door.status) == (
        "door",
        "rtsp://***@cam/1",
        "ipc:///p/preview-0",
        None,
    )
    assert (hall.preview, hall.status, hall.paused) == (None, status(camera="hall"), False)
    assert b"s3cret" not in encode_control(reply)


def test_a_camera_that_is_added_is_started_and_told_to_the_worker(rig: Rig) -> None:
    reply = rig.ask(AddCamera(source="synthetic://"))
    assert isinstance(reply, CamerasReply)
    assert (reply.camera, [camera.name for camera in reply.cameras]) == ("synthetic", ["door", "hall", "synthetic"])
    [row] = rig.supervisor.added
    assert (row.name, row.essential) == ("capture synthetic", False)
    assert [slot.channel for slot in rig.supervisor.worker.cameras][-1] == row.job.channel


def test_a_removed_camera_is_retired_first_and_leaves_the_worker_when_it_is_gone(rig: Rig) -> None:
    rig.ask(RemoveCamera(camera="door"))
    assert (rig.supervisor.retired, rig.supervisor.orders, rig.names()) == (["capture door"], [], ["hall"])
    assert "is being removed" in rig.refused(RemoveCamera(camera="door"))
    assert "try again" in rig.refused(AddCamera(source="0", name="door"))
    rig.gone("door")
    assert [slot.name for slot in rig.supervisor.worker.cameras] == ["hall"]
    assert rig.ask(AddCamera(source="0", name="door")) != ErrorReply(message="")
    assert rig.names() == ["hall", "door"]


def test_a_renamed_camera_is_the_same_source_under_another_name_and_still_paused(rig: Rig) -> None:
    rig.ask(PauseCamera(camera="door"))
    reply = rig.ask(RenameCamera(camera="door", name="gate"))
    assert isinstance(reply, CamerasReply)
    assert (reply.camera, rig.names()) == ("gate", ["hall", "gate"])
    [row] = rig.supervisor.added
    assert (row.job.camera, row.job.source, row.job.paused) == ("gate", "rtsp://u:s3cret@cam/1", True)
    assert rig.supervisor.retired == ["capture door"]
    assert "already" in rig.refused(RenameCamera(camera="gate", name="hall"))


def test_pausing_and_resuming_are_ordered_and_kept_for_a_restart(rig: Rig) -> None:
    reply = rig.ask(PauseCamera(camera="hall"))
    assert isinstance(reply, CamerasReply) and [camera.paused for camera in reply.cameras] == [False, True]
    rig.ask(ResumeCamera(camera="hall"))
    assert [order for _, order in rig.supervisor.orders] == [
        CaptureOrder(number=1, paused=True, view="centre"),
        CaptureOrder(number=2, paused=False, view="centre"),
    ]
    assert not rig.plan.cameras["hall"].job.paused


def test_a_cameras_view_is_ordered_and_kept_for_a_restart(rig: Rig) -> None:
    reply = rig.ask(ChangeView(camera="hall", view="whole"))
    assert isinstance(reply, CamerasReply) and [camera.view for camera in reply.cameras] == ["centre", "whole"]
    assert [order for _, order in rig.supervisor.orders] == [CaptureOrder(number=1, paused=False, view="whole")]
    assert rig.plan.cameras["hall"].job.preprocessing.view == "whole"
    rig.ask(RenameCamera(camera="hall", name="yard"))
    assert rig.plan.cameras["yard"].job.preprocessing.view == "whole"
    rig.ask(ChangeSource(camera="yard", source="3"))
    assert rig.plan.cameras["yard"].job.preprocessing.view == "whole"
    rig.ask(ChangeView(camera="yard"))
    assert rig.plan.cameras["yard"].job.preprocessing.view == "centre"
    assert "no camera 'nowhere'" in rig.refused(ChangeView(camera="nowhere", view="whole"))


def test_a_view_that_the_network_does_not_take_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    rig = Rig(Plan(Config(cameras=[CameraConfig(source="1", name="door")]), tmp_path))  # of `motion`, on 80 pixels
    line = rig.refused(ChangeView(camera="door", view="whole"))
    assert line.startswith(
        "camera 'door': view whole: it needs frames whose side is a multiple of 32 pixels, and motion"
    )
    assert rig.plan.cameras["door"].job.preprocessing.view == "centre"
    assert rig.supervisor.orders == []
    with pytest.raises(ConfigError, match=r"^camera 'gate': view whole: "):
        Plan(Config(cameras=[CameraConfig(source="1", name="gate", view="whole")]), tmp_path)


def test_with_several_workers_each_is_ordered_its_own_cameras(tiny_checkpoint: Path, tmp_path: Path) -> None:
    model = ModelConfig(checkpoint=str(tiny_checkpoint), devices=["cpu", "cpu"])
    cameras = [CameraConfig(source=str(number), name=f"c{number}") for number in range(2)]
    rig = Rig(Plan(Config(cameras=cameras, model=model), tmp_path))
    rig.ask(AddCamera(source="9", name="new"))
    orders = {name: order for name, order in rig.supervisor.orders if isinstance(order, WorkerOrder)}
    told = {name: [slot.name for slot in order.cameras] for name, order in orders.items()}
    assert told == {"worker 1": ["c0", "new"], "worker 2": ["c1"]}


def test_settings_go_to_the_worker_and_come_back(rig: Rig) -> None:
    reply = rig.ask(ChangeSettings(settings={"window.stride": 3, "idle.min_confidence": 0.9}))
    assert isinstance(reply, SettingsReply) and reply == rig.ask(GetSettings())
    assert (reply.settings["window.stride"], reply.settings["smoothing.method"]) == (3, "ema")
    assert rig.supervisor.worker.config.window.stride == 3
    assert rig.plan.worker_rows[0].job.config.idle.min_confidence == 0.9


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (ChangeSettings(settings={"window.stride": 0}), "window.stride: expected int >= 1, got 0"),
        (ChangeSettings(settings={"x" * 5000: 0}), "cannot be changed at run time"),
        (AddCamera(source="0", name="door"), "already"),
        (AddCamera(source="rstp://u:s3cret@cam/"), "unknown kind (did you mean 'rtsp'?)"),
        (AddCamera(source="a\0b"), "cannot be printed"),
        (AddCamera(source="rtsp://admin:x \0s3cret@cam/"), "'rtsp://***@cam/' has characters that cannot be printed"),
        (AddCamera(source=f"rtsp://admin:s3cret{'x' * 80}\0@cam/"), "'rtsp://***@cam/' has characters"),
        (PauseCamera(camera="dor"), "did you mean 'door'?"),
        (RenameCamera(camera="nobody", name="x"), "no camera 'nobody'"),
    ],
)
def test_a_wrong_request_is_refused_in_one_line_and_changes_nothing(rig: Rig, request_: Request, said: str) -> None:
    message = rig.refused(request_)
    assert said in message
    assert "\n" not in message and len(message) <= 500 and "s3cret" not in message


def test_a_capture_process_that_gave_up_is_told_to_the_worker(rig: Rig) -> None:
    rig.desk.gave_up(rig.supervisor, "capture hall", "no such file")  # type: ignore[arg-type]
    assert [slot.failure for slot in rig.supervisor.worker.cameras] == [None, "no such file"]


def test_the_longest_order_fits_into_a_pipe(rig: Rig) -> None:
    for number in range(MAX_CAMERAS - 2):
        name = f"{number:064d}"
        rig.ask(AddCamera(source=f"/{'x' * 4000}", name=name))
        rig.desk.gave_up(rig.supervisor, f"capture {name}", "no such file " + "x" * 4000)  # type: ignore[arg-type]
    assert len(rig.supervisor.worker.cameras) == MAX_CAMERAS
    assert len(msgspec.json.encode(rig.supervisor.worker)) < 60_000


_NAMES = st.sampled_from(["door", "hall", "new", "."])
_VALUES: st.SearchStrategy[Any] = st.none() | st.integers() | st.floats() | st.text(max_size=5) | st.booleans()
_REQUESTS = st.one_of(
    st.builds(AddCamera, source=st.text(min_size=1, max_size=20), name=st.none() | _NAMES),
    st.builds(RemoveCamera, camera=_NAMES),
    st.builds(RenameCamera, camera=_NAMES, name=_NAMES),
    st.builds(PauseCamera, camera=_NAMES),
    st.builds(ChangeSettings, settings=st.dictionaries(st.sampled_from(["window.stride", "publish.top_k"]), _VALUES)),
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(_REQUESTS, max_size=6))
def test_whatever_is_asked_is_answered_and_the_worker_can_be_told(rig: Rig, requests: list[Request]) -> None:
    for request in requests:
        reply = rig.ask(request)
        assert b"s3cret" not in encode_control(reply)
        assert decode_request(encode_control(ListCameras())) == ListCameras()
        for name in list(rig.supervisor.retired):
            rig.gone(name.removeprefix("capture "))
            rig.supervisor.retired.remove(name)
    assert rig.plan.worker_rows[0].job.config.window.stride >= 1
    assert len(set(rig.names())) == len(rig.names())


def test_another_source_is_shown_under_the_same_name_and_place_and_still_paused(rig: Rig) -> None:
    before = rig.plan.camera("door")
    rig.ask(PauseCamera(camera="door"))
    rig.ask(ChangeSource(camera="door", source="rtsp://u:0ther@cam/2"))
    [row] = rig.supervisor.replaced
    assert (row.name, row.job.source, row.job.paused, row.essential) == (
        "capture door",
        "rtsp://u:0ther@cam/2",
        True,
        False,
    )
    assert rig.names() == ["door", "hall"]
    # The worker meets it anew: what was there of the old one, and whether it may be held back, is not the new one's.
    assert row.job.channel != before.slot.channel
    assert rig.supervisor.worker.cameras[0].channel == row.job.channel


@pytest.mark.parametrize("source", ["rtps://cam", "a\nb"])
def test_a_source_that_means_nothing_is_refused_and_the_old_one_stays(rig: Rig, source: str) -> None:
    rig.refused(ChangeSource(camera="door", source=source))
    assert rig.supervisor.replaced == []
    assert rig.plan.camera("door").job.source == "rtsp://u:s3cret@cam/1"


def test_processes_are_listed(rig: Rig) -> None:
    reply = rig.ask(ListStages())
    assert isinstance(reply, StagesReply)
    assert reply.stages == [
        StageInfo(name="worker", state="running", restarts=2, planned_restarts=1, silent_s=0.25, memory_mb=3.0, pid=77)
    ]


def test_what_was_changed_is_kept_and_what_was_only_asked_or_refused_is_not(rig: Rig, tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.json")
    base = rig.desk._wanted()
    rig.desk._saver = ChangeSaver(base, file)
    for request in (SayHello(), ListCameras(), GetSettings(), ListStages(), RemoveCamera(camera="none")):
        rig.ask(request)
    assert not file.path.exists()
    rig.ask(RemoveCamera(camera="hall"))  # it is still ending
    rig.ask(AddCamera(source="synthetic://", name="yard"))
    rig.ask(ChangeSettings(settings={"window.stride": 4}))
    kept = apply(base, file.load())
    assert [camera.name for camera in kept.cameras] == ["door", "yard"]
    assert kept.window.stride == 4
    rig.ask(ChangeSettings(settings={"window.stride": base.window.stride}))
    assert file.load().settings == {}


def test_a_state_file_that_cannot_be_written_is_said_once_and_the_change_is_made(
    rig: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig.desk._saver = ChangeSaver(rig.desk._wanted(), StateFile(tmp_path / "nowhere" / "state.json"))
    for paused in (PauseCamera(camera="door"), ResumeCamera(camera="door")):
        assert isinstance(rig.ask(paused), CamerasReply)
    [record] = caplog.records
    assert "changes are made, but not kept" in record.getMessage()
