"""Valid messages of every kind as the initial corpus of fuzzing, each as its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from msgspec.json import encode

from stream_i3d import messages, stage
from stream_i3d.config import Config
from stream_i3d.transport import control, relay_wire

Parts = Sequence[bytes]

MODEL = messages.ModelName(name="i3d", checkpoint="motion")
STATUS = messages.CameraStatus(
    camera="a", state="live", fps=9.5, last_frame_age_s=0.1, reconnects=0, frames_dropped=0, detail="fine"
)
EVENT = messages.ActionEvent(
    camera="a", id="1", event="end", label="x", start_time=1.0, end_time=2.0, peak_confidence=0.5
)
RECOGNITION = messages.Recognition(
    camera="a", epoch=1, seq=2, state="action", label="x", confidence=0.5, frames_dropped=0, windows_dropped=0,
    top_k=[messages.LabelScore(index=0, label="x", probability=0.5, raw_probability=0.5)],
    window=messages.Window(first_frame=0, last_frame=15, start_time=0.0, end_time=0.6),
    latency_ms=messages.Latency(queue=1.0, inference=2.0, total=3.0), model=MODEL,
)  # fmt: skip


def captured() -> list[Parts]:
    """Return messages of a capture process."""
    header = messages.FrameHeader(camera="a", epoch=1, seq=2, capture_ns=3, wall_time=4.5, shape=(2, 2, 3))
    report = messages.CameraReport(camera="a", state="live", fps=25.0, reconnects=0, detail="")
    return [(encode(header), bytes(12)), (encode(report),)]


def published() -> list[Parts]:
    """Return published messages."""
    topics = {"prediction": RECOGNITION, "event": EVENT, "status": STATUS}
    return [(f"v1/a/{topic}".encode(), encode(message)) for topic, message in topics.items()]


def previews() -> list[Parts]:
    """Return a preview."""
    return [(b"SI3P\x01\0\0\0" + bytes(16) + b"\xff\xd8\xff",)]


def requests() -> list[Parts]:
    """Return every request of the control channel."""
    asked: list[control.Request] = [
        control.SayHello(id=1), control.ListCameras(), control.AddCamera(source="0", name="a"),
        control.RemoveCamera(camera="a"), control.RenameCamera(camera="a", name="b"), control.PauseCamera(camera="a"),
        control.ResumeCamera(camera="a"), control.ChangeSettings(settings={"window.stride": 4}), control.GetSettings(),
        control.ChangeSource(camera="a", source="1"), control.ListStages(),
        control.ChangeView(camera="a", view="whole"),
    ]  # fmt: skip
    return [(control.encode_control(message),) for message in asked]


def replies() -> list[Parts]:
    """Return every reply of the control channel."""
    camera = control.CameraInfo(name="a", source="0", paused=False, preview=None, status=STATUS)
    process = control.StageInfo(
        name="worker", state="running", restarts=1, planned_restarts=0, silent_s=0.1, memory_mb=90.5, pid=7
    )
    answered: list[control.Reply] = [
        control.HelloReply(version="0", pid=1, started_at=0.5, ready=True, model=MODEL, labels=["x"]),
        control.CamerasReply(cameras=[camera]), control.SettingsReply(settings={"window.stride": 4}),
        control.ErrorReply(message="no"), control.StagesReply(stages=[process]),
    ]  # fmt: skip
    return [(control.encode_control(message),) for message in answered]


def stage_words() -> list[Parts]:
    """Return messages between supervisor and stages."""
    slot = stage.CameraSlot(name="a", channel="ipc://x", lossless=False)
    sink = stage.SinkFigures(name="mqtt", queued=1, written=2, dropped=3)
    said: list[msgspec.Struct] = [
        stage.Ready(detail="x", model=MODEL, labels=["x"]), stage.Failed(message="no"),
        stage.SourceNews(memory_limit_mb=500.0, plays_once=True),
        stage.Summary(frames=1, windows_dropped={"gap": 1}, cameras={"a": stage.CameraFigures(frames=1)}),
        stage.CameraNews(status=STATUS), stage.Done(number=1), stage.CaptureOrder(number=1, paused=True),
        stage.WorkerOrder(number=1, cameras=[slot], config=Config()), stage.PublisherSummary(published=1, sinks=[sink]),
        stage.PublisherOrder(number=1, cameras={"a": "ipc://x"}),
    ]  # fmt: skip
    return [(encode(message),) for message in said]


def addresses() -> list[Parts]:
    """Return addresses of cameras and sockets."""
    return [(text,) for text in (b"rtsp://u:p@h:554/s?x=1", b"tcp://[::1]:5556", b"ipc://x", b"synthetic://3", b"0")]


def relayed() -> list[Parts]:
    """Return messages from workers to the publisher."""
    greeting = relay_wire.Greeting(worker="worker", pid=1, life=2, session=3, first=4, next=5, cameras=["a"])
    return [(encode(greeting),), relay_wire.encode_publication(0, RECOGNITION), relay_wire.encode_publication(5, EVENT)]


def relay_answers() -> list[Parts]:
    """Return replies of the publisher."""
    return [(encode(relay_wire.Answer(session=1, known=True, settled=2)),)]


FAMILIES: Sequence[Callable[[], list[Parts]]] = (
    captured,
    published,
    previews,
    requests,
    replies,
    stage_words,
    addresses,
    relayed,
    relay_answers,
)
"""In the order of the readers of _fuzz_targets.py's target `wire`."""
