"""A service for the window's tests: real sockets in a thread, and nothing behind them."""

from __future__ import annotations

import queue
import threading
import time
from pathlib import Path
from typing import Any, Self

from stream_i3d.messages import ModelName
from stream_i3d.transport.control import (
    AddCamera,
    CameraInfo,
    CamerasReply,
    ChangeSettings,
    ErrorReply,
    GetSettings,
    HelloReply,
    ListCameras,
    PauseCamera,
    RemoveCamera,
    RenameCamera,
    Reply,
    Request,
    ResumeCamera,
    SayHello,
    SettingsReply,
)
from stream_i3d.transport.control_sockets import ControlServer
from stream_i3d.transport.keys import ServerKeys
from stream_i3d.transport.preview import PreviewPublisher
from stream_i3d.transport.sockets import Publisher
from stream_i3d.transport.wire import Preview, Published, encode_published
from tests.samples import status

SETTINGS: dict[str, Any] = {
    "idle.min_confidence": 0.3,
    "idle.min_motion": 2.0,
    "idle.skip_inference": False,
    "smoothing.method": "ema",
    "smoothing.time_constant_s": 0.5,
    "smoothing.last": 5,
    "window.stride": 8,
    "publish.top_k": 5,
}


class FakeService:
    """Answers like a service; `publish` and `preview` send, `asked` has every request but the regular ones."""

    def __init__(self, folder: Path, cameras: tuple[str, ...] = ("door",), keys: ServerKeys | None = None) -> None:
        self.control = f"ipc://{folder / 'control'}"
        self.settings = dict(SETTINGS)
        self.asked: list[Request] = []
        self.watched: dict[str, bool] = {}
        self._folder = folder
        self._keys = keys
        self._names = dict.fromkeys(cameras, False)
        self._outgoing: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._runs = 0
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to answer, as another run of the service."""
        self._runs += 1
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """Be gone."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join()
            self._thread = None

    def publish(self, message: Published) -> None:
        """Send a message to all subscribers."""
        self._outgoing.put(("message", message))

    def raw(self, *parts: bytes) -> None:
        """Send bytes to all subscribers."""
        self._outgoing.put(("raw", parts))

    def preview(self, camera: str, jpeg: bytes, capture_ns: int | None = None) -> None:
        """Send a picture."""
        self._outgoing.put((camera, Preview(jpeg, time.monotonic_ns() if capture_ns is None else capture_ns, 0)))

    def _run(self) -> None:
        self._previews: dict[str, PreviewPublisher] = {}
        with (
            ControlServer(self.control, self._keys) as control,
            Publisher(f"ipc://{self._folder / f'publish-{self._runs}'}", self._keys) as publisher,
        ):
            self._publish = publisher.address
            while not self._stopping.is_set():
                control.serve(0.01, self._answer)
                for camera, socket in self._previews.items():
                    self.watched[camera] = socket.watched()
                while not self._outgoing.empty():
                    kind, what = self._outgoing.get_nowait()
                    if kind == "message":
                        publisher.send(encode_published(what))
                    elif kind == "raw":
                        publisher.send(what)
                    elif kind in self._previews:
                        self._previews[kind].send(what)
            for socket in self._previews.values():
                socket.close()

    def _answer(self, request: Request) -> Reply:
        if not isinstance(request, SayHello | ListCameras | GetSettings):
            self.asked.append(request)
        if isinstance(request, SayHello):
            return self._hello()
        if isinstance(request, GetSettings):
            return SettingsReply(settings=self.settings)
        if isinstance(request, ChangeSettings):
            if request.settings.get("window.stride") == 128:
                return ErrorReply(message="window.stride: too large for this camera")
            self.settings.update(request.settings)
            return SettingsReply(settings=self.settings)
        self._change(request)
        return CamerasReply(cameras=[self._info(name) for name in self._names])

    def _change(self, request: Request) -> None:
        if isinstance(request, AddCamera):
            self._names[request.name or "new"] = False
        elif isinstance(request, RemoveCamera):
            del self._names[request.camera]
        elif isinstance(request, RenameCamera):
            self._names = {request.name if name == request.camera else name: p for name, p in self._names.items()}
        elif isinstance(request, PauseCamera | ResumeCamera):
            self._names[request.camera] = isinstance(request, PauseCamera)

    def _info(self, name: str) -> CameraInfo:
        if name not in self._previews:
            self._previews[name] = PreviewPublisher(
                f"ipc://{self._folder / f'preview-{name}-{self._runs}'}", self._keys
            )
        return CameraInfo(
            name=name,
            source="synthetic://",
            paused=self._names[name],
            preview=self._previews[name].address,
            status=status(camera=name),
        )

    def _hello(self) -> HelloReply:
        return HelloReply(
            version="0.1.0",
            pid=1000 + self._runs,
            started_at=float(self._runs),
            ready=True,
            publish=self._publish,
            model=ModelName(name="i3d", checkpoint="motion"),
            labels=["waving", "left", "right"],
            engine="torch",
            device="cpu",
            precision="bf16",
        )
