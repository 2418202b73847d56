"""The window's link to a service: takes what the reader brings into the board, and asks for what people want.

Lives in the GUI thread. Knows no widget; `start` starts a service of our own, `connect_to` uses one that runs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol

from PyQt6.QtCore import QObject, QSize, QTimer, pyqtSignal

from stream_i3d.config import Config
from stream_i3d.errors import StreamI3DError
from stream_i3d.transport.control import (
    AddCamera,
    CameraInfo,
    CamerasReply,
    ChangeSettings,
    ErrorReply,
    HelloReply,
    PauseCamera,
    RemoveCamera,
    RenameCamera,
    Request,
    ResumeCamera,
    SettingsReply,
)
from stream_i3d.transport.keys import ClientKeys

from .mailbox import Delivery
from .reader import Reader
from .state.board import Board
from .state.service import ServiceWatch

State = Literal["none", "starting", "searching", "loading", "up", "lost", "failed"]
_TICK_MS = 250


class Launched(Protocol):
    """A service of our own (`stream_i3d.service.launch.launch`)."""

    @property
    def control(self) -> str:
        """Where it takes requests."""

    def poll(self) -> int | None:
        """Its exit code once it has ended."""

    def failure(self) -> str:
        """Its last message if it failed."""

    def close(self) -> None:
        """End it."""


class Session(QObject):
    """Signals:
    changed: Messages were taken in.
    cameras_changed: Cameras came, went, or were paused.
    camera_renamed: Old name, new name.
    pictures_came: Newest picture by camera.
    event_seen: An event started or ended.
    settings_known: The service's settings are these.
    state_changed: Another state of the service.
    notice: A line for people, and whether it is bad news.
    """

    changed = pyqtSignal()
    cameras_changed = pyqtSignal()
    camera_renamed = pyqtSignal(str, str)
    pictures_came = pyqtSignal(dict)
    event_seen = pyqtSignal(object)
    settings_known = pyqtSignal(dict)
    state_changed = pyqtSignal(str)
    notice = pyqtSignal(str, bool)

    def __init__(
        self,
        launch: Callable[[Config], Launched],
        parent: QObject | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(parent)
        self.board = Board()
        self.watch = ServiceWatch("")
        self.hello: HelloReply | None = None
        self.settings: dict[str, Any] = {}
        self.cameras: dict[str, CameraInfo] = {}
        self.failure = ""
        self.clock = clock
        self._launch = launch
        self._launched: Launched | None = None
        self._reader: Reader | None = None
        self._state: State = "none"
        self._endings: list[threading.Thread] = []
        self._wanted: dict[str, QSize | None] = {}
        self._timer = QTimer(self)
        self._timer.setInterval(_TICK_MS)
        self._timer.timeout.connect(self.tick)
        self._timer.start()

    @property
    def state(self) -> State:
        """How the service is."""
        return self._state

    @property
    def own(self) -> bool:
        """Whether the service was started by this window."""
        return self._launched is not None

    @property
    def can_ask(self) -> bool:
        """Whether there is a service that would answer."""
        return self._state in ("up", "loading")

    def start(self, config: Config) -> None:
        """Start a service of our own in place of what there was; trouble is said, never raised."""
        self.close()
        try:
            launched = self._launch(config)
        except StreamI3DError as error:
            self._fail(str(error))
            return
        self._launched = launched
        self._open(launched.control, "starting")

    def connect_to(self, control: str, keys: ClientKeys | None = None) -> None:
        """Use the service that takes requests at `control`, with `keys` where it wants them."""
        self.close()
        self._open(control, "searching", keys)

    def _open(self, control: str, state: State, keys: ClientKeys | None = None) -> None:
        self.failure = ""
        self.hello = None
        self.cameras = {}
        self.watch = ServiceWatch(control)
        reader = Reader(control, keys=keys)
        reader.arrived.connect(self._take)
        reader.failed.connect(self._fail)
        reader.refused.connect(self._refused)
        self._reader = reader
        reader.start()
        self._enter(state)

    def close(self) -> None:
        """Let go of the service; one of our own is ended."""
        if self._reader is not None:
            self._reader.stop()
            self._reader = None
        if self._launched is not None:
            # Ending takes a second or two, for which the window must not stand still; it is waited for at the end.
            thread = threading.Thread(target=self._launched.close, name="service-end")
            thread.start()
            self._endings = [one for one in self._endings if one.is_alive()] + [thread]
            self._launched = None
        for name in list(self.board.cameras):
            self.board.removed(name)
        self.cameras = {}
        self.cameras_changed.emit()
        self._enter("none")

    def end(self) -> None:
        """Let go of the service, and wait until one of our own has ended."""
        self._timer.stop()
        self.close()
        for thread in self._endings:
            thread.join()

    def ask(self, request: Request) -> None:
        """Ask the service for something."""
        if self._reader is None or not self.can_ask:
            self.notice.emit(self.tr("There is no service that could do this now"), True)
            return
        self._reader.ask(request)

    def add_camera(self, source: str, name: str | None) -> None:
        """Add a camera to the service."""
        self.ask(AddCamera(source=source, name=name))

    def remove_camera(self, camera: str) -> None:
        """Take a camera out of the service."""
        self.ask(RemoveCamera(camera=camera))

    def rename_camera(self, camera: str, name: str) -> None:
        """Give a camera another name."""
        self.ask(RenameCamera(camera=camera, name=name))

    def pause_camera(self, camera: str, pause: bool) -> None:
        """Pause or resume a camera."""
        self.ask(PauseCamera(camera=camera) if pause else ResumeCamera(camera=camera))

    def change_settings(self, settings: dict[str, Any]) -> None:
        """Change settings of the service."""
        self.ask(ChangeSettings(settings=settings))

    def show_previews(self, wanted: dict[str, QSize | None]) -> None:
        """Say whose previews are wanted, and how large; those of others are not even encoded."""
        self._wanted = wanted
        self._follow()

    def _follow(self) -> None:
        if self._reader is not None:
            known = {name: self.cameras[name].preview for name in self._wanted if name in self.cameras}
            self._reader.follow({name: at for name, at in known.items() if at is not None}, self._wanted)

    def _take(self) -> None:
        if self._reader is not None:
            self.take(self._reader.mailbox.take())

    def take(self, delivery: Delivery) -> None:
        """Take in what the reader brought."""
        self.board.malformed = delivery.malformed
        self.board.lost_messages += delivery.lost
        before = list(self.board.cameras)
        for message, now in delivery.messages:
            self.watch.heard(now)
            event = self.board.take(message, now)
            if event is not None:
                self.event_seen.emit(event)
        for request, reply, now in delivery.answers:
            self._take_answer(request, reply, now)
        for camera, number in delivery.pictures_dropped.items():
            if camera in self.board.cameras:
                self.board.cameras[camera].figures.previews_dropped += number
        if list(self.board.cameras) != before:
            self.cameras_changed.emit()
        if delivery.pictures:
            self.pictures_came.emit(delivery.pictures)
        self.tick()
        if delivery.messages:
            self.changed.emit()

    def _take_answer(self, request: Request, reply: Any, now: float) -> None:
        if isinstance(reply, ErrorReply):
            self.notice.emit(reply.message, True)
            if isinstance(request, ChangeSettings):
                self.settings_known.emit(self.settings)  # the controls show what is, not what was wished
            return
        self.watch.heard(now)
        if isinstance(reply, HelloReply):
            self.hello = reply
            self.board.know_labels(reply.labels)
        elif isinstance(reply, SettingsReply):
            self.settings = dict(reply.settings)
            self.settings_known.emit(self.settings)
        elif isinstance(reply, CamerasReply):
            self._take_cameras(request, reply, now)

    def _take_cameras(self, request: Request, reply: CamerasReply, now: float) -> None:
        before = {name: (info.paused, info.preview) for name, info in self.cameras.items()}
        names = [info.name for info in reply.cameras]
        if isinstance(request, RenameCamera) and request.name in names:
            self.board.renamed(request.camera, request.name)
            self.camera_renamed.emit(request.camera, request.name)
        for name in [name for name in self.board.cameras if name not in names]:
            self.board.removed(name)
        for info in reply.cameras:
            self.board.added(info.name)
            camera = self.board.camera(info.name)
            if camera is None:
                continue
            camera.track.paused = info.paused
            if info.status is not None and (camera.track.status is None or camera.track.without_service):
                camera.track.take_status(info.status, now)
        self.cameras = {info.name: info for info in reply.cameras}
        if before != {name: (info.paused, info.preview) for name, info in self.cameras.items()}:
            self.cameras_changed.emit()
            self._follow()

    def _fail(self, why: str) -> None:
        """The service is gone for good: its last messages are taken in, and nothing more is expected."""
        self.failure = why
        self._enter("failed")
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.stop()
            self.take(reader.mailbox.take())
        self.board.service_lost(why, self.clock())
        self.changed.emit()

    def _refused(self, why: str) -> None:
        self.notice.emit(why, True)

    def tick(self) -> None:
        """Look whether the service still lives."""
        code = None if self._launched is None or self._state == "failed" else self._launched.poll()
        if self._launched is not None and code is not None:
            by_signal = self.tr("it was killed (signal {number})").format(number=-code)
            self._fail(by_signal if code < 0 else self._launched.failure() or self.tr("it has ended"))
            return
        if self._reader is None or self._state in ("none", "failed"):
            return
        found = self.watch.state(self.clock())
        if found == "up":
            self._enter("up" if self.hello is not None and self.hello.ready else "loading")
        elif found == "lost" and self._state != "lost":
            self.board.service_lost(self.tr("the service does not answer"), self.clock())
            self._enter("lost")

    def _enter(self, state: State) -> None:
        if state != self._state:
            self._state = state
            self.state_changed.emit(state)
