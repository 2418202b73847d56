"""The control channel's messages: requests to a running service, and its replies. Pure.

JSON, one request and one reply at a time; `id` comes back as it was sent. Every byte that comes in is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from stream_i3d.messages import CameraName, CameraStatus, Count, EngineFacts, ModelName, ViewName
from stream_i3d.stage import EngineCheck
from stream_i3d.transport.wire import decode_json

MAX_REQUEST_BYTES = 64 * 1024
MAX_REPLY_BYTES = 1024 * 1024

Schema = Literal["stream-i3d/control/1"]
Source = Annotated[str, Meta(min_length=1, max_length=4096)]


class ControlMessage(Struct, frozen=True, kw_only=True):
    """Base of requests and replies; `id` of a reply is that of its request."""

    schema: Schema = "stream-i3d/control/1"
    id: Count = 0


class SayHello(ControlMessage, frozen=True, kw_only=True, tag_field="request", tag="hello"):
    """Ask what runs there; answered with HelloReply."""


class ListCameras(ControlMessage, frozen=True, kw_only=True, tag_field="request", tag="cameras"):
    """Ask for all cameras; answered, as are the seven requests that follow, with CamerasReply."""


class AddCamera(ControlMessage, frozen=True, kw_only=True, tag_field="request", tag="add"):
    """Add a camera; without a name it is named after its source."""

    source: Source
    name: CameraName | None = None


class RemoveCamera(ControlMessage, frozen=True, kw_only=True, tag_field="request", tag="remove"):
    """End a camera; the state in its last status is "stopped"."""

    camera: CameraName


class RenameCamera(ControlMessage, frozen=True, kw_only=True, tag_field="request", tag="rename"):
    """End a camera under its old name and start it under another."""

    camera: CameraName
    name: CameraName


class ChangeSource(ControlMessage, frozen=True, kw_only=True, tag_field="request", tag="source"):
    """Change the source of a camera, whose name stays; a paused camera stays paused."""

    camera: CameraName
    source: Source


class ChangeView(ControlMessage, frozen=True, kw_only=True, tag_field="request", tag="view"):
    """Change what the network sees of a camera's picture; null is as `window.view` says."""

    camera: CameraName
    view: ViewName | None = None


class PauseCamera(ControlMessage, frozen=True, kw_only=True, tag_field="request", tag="pause"):
    """Leave a camera (a file holds on) until it is resumed."""

    camera: CameraName


class ResumeCamera(ControlMessage, frozen=True, kw_only=True, tag_field="request", tag="resume"):
    """Go on with a paused camera."""

    camera: CameraName


class ChangeSettings(ControlMessage, frozen=True, kw_only=True, tag_field="request", tag="set"):
    """Change some of `config.LIVE_SETTINGS`, all or none of those given; answered with SettingsReply."""

    settings: dict[str, Any]


class GetSettings(ControlMessage, frozen=True, kw_only=True, tag_field="request", tag="get"):
    """Ask for the settings; answered with SettingsReply."""


class ListStages(ControlMessage, frozen=True, kw_only=True, tag_field="request", tag="stages"):
    """Ask for the state of the service's processes; answered with StagesReply."""


class HelloReply(ControlMessage, frozen=True, kw_only=True, tag_field="reply", tag="hello"):
    """What runs there.

    Attributes:
        version: Of stream-i3d.
        pid: Process id of the supervisor; with `started_at` it tells one run of the service from the next.
        started_at: Seconds since 1970.
        ready: Whether the network is loaded and its predictions are published.
        publish: Address of the PUB socket; "" until first ready.
        model: The network; None until first ready, as are `labels` (empty) and `engine`, `device`, `precision` ("").
        engine: What runs the network, for people.
        facts: The same as fields; None until first ready.
        device: `facts.device`; "" until first ready.
        precision: `facts.precision`; "" until first ready.
        check: How the engine compares with float32, and what failed that before it.
    """

    version: str
    pid: Count
    started_at: float
    ready: bool
    publish: str = ""
    model: ModelName | None = None
    labels: list[str] = []
    engine: str = ""
    device: str = ""
    precision: str = ""
    facts: EngineFacts | None = None
    check: EngineCheck | None = None


class CameraInfo(Struct, frozen=True, kw_only=True):
    """One camera as the service knows it.

    Attributes:
        source: What was given, without passwords.
        preview: Address of its previews; None where there are none, or not yet.
        status: What was last published of it; None before the first.
        view: What the network is to see of its picture.
    """

    name: CameraName
    source: str
    paused: bool
    preview: str | None
    status: CameraStatus | None
    view: ViewName = "centre"


class CamerasReply(ControlMessage, frozen=True, kw_only=True, tag_field="reply", tag="cameras"):
    """All cameras as they are now; `camera` is the name of the one that the request was about."""

    cameras: list[CameraInfo]
    camera: CameraName | None = None


class StageInfo(Struct, frozen=True, kw_only=True):
    """One process of the service.

    Attributes:
        state: "waiting" for its (next) start, "starting", "running", "ending", "finished", "failed" or "gone".
        restarts: Times it was started again because it crashed or fell silent.
        planned_restarts: Times it was started again in order, for the memory it held.
        silent_s: Seconds since it last showed that it lives; None while it does not run, as are `memory_mb` and `pid`.
    """

    name: str
    state: str
    restarts: Count
    planned_restarts: Count
    silent_s: float | None
    memory_mb: float | None
    pid: int | None


class StagesReply(ControlMessage, frozen=True, kw_only=True, tag_field="reply", tag="stages"):
    """All processes but the one that answers."""

    stages: list[StageInfo]


class SettingsReply(ControlMessage, frozen=True, kw_only=True, tag_field="reply", tag="settings"):
    """All settings as they are now, by their names in the YAML file ("window.stride")."""

    settings: dict[str, bool | int | float | str]


class ErrorReply(ControlMessage, frozen=True, kw_only=True, tag_field="reply", tag="error"):
    """The request was refused, and nothing was changed; `message` is one line with the reason."""

    message: str


Request = (
    SayHello | ListCameras | AddCamera | RemoveCamera | RenameCamera | ChangeSource | ChangeView | PauseCamera
    | ResumeCamera | ChangeSettings | GetSettings | ListStages
)  # fmt: skip
Reply = HelloReply | CamerasReply | SettingsReply | StagesReply | ErrorReply

_encoder = msgspec.json.Encoder()
_decode_request: Callable[[bytes | memoryview], Request] = msgspec.json.Decoder(Request).decode
_decode_reply: Callable[[bytes | memoryview], Reply] = msgspec.json.Decoder(Reply).decode


def encode_control(message: Request | Reply) -> bytes:
    """Return the JSON of a request or a reply."""
    return _encoder.encode(message)


def decode_request(body: bytes) -> Request:
    """Decode what came to the service.

    Raises:
        WireError: It is no request of ours.
    """
    return decode_json(_decode_request, body, MAX_REQUEST_BYTES, "a request", "stream-i3d/control/1")


def decode_reply(body: bytes) -> Reply:
    """Decode what the service answered.

    Raises:
        WireError: It is no reply of ours.
    """
    return decode_json(_decode_reply, body, MAX_REPLY_BYTES, "a reply", "stream-i3d/control/1")
