"""A service made of sockets alone, for the window's benchmark and its screenshots: no camera, no network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from stream_i3d.config import Config, PublishConfig, live_settings
from stream_i3d.messages import (
    ActionEvent,
    CameraStatus,
    LabelScore,
    Latency,
    ModelName,
    Recognition,
    Window,
)
from stream_i3d.scenes import LABELS, SceneRenderer
from stream_i3d.transport.control import (
    CameraInfo,
    CamerasReply,
    GetSettings,
    HelloReply,
    Reply,
    Request,
    SayHello,
    SettingsReply,
)
from stream_i3d.transport.control_sockets import ControlServer
from stream_i3d.transport.preview import PreviewPublisher
from stream_i3d.transport.sockets import Publisher
from stream_i3d.transport.wire import Preview, encode_published

_PICTURES = 60
_PREDICT_EVERY_S = 0.32


class GuiService:
    """Cameras "door", "yard", ... that show made scenes; every label lasts a few seconds."""

    NAMES = ("front-door", "yard", "workshop", "loading-bay", "hall", "stairs")

    def __init__(
        self, folder: Path, cameras: int, size: tuple[int, int], fps: float, lost: dict[str, str] | None = None
    ) -> None:
        """Args: `lost`: cameras that are reconnecting, and the status line that says why."""
        self._folder = folder
        self._cameras = self.NAMES[:cameras]
        self._fps = fps
        self._lost = lost or {}
        self._pictures = {name: _pictures(seed, size) for seed, name in enumerate(self._cameras)}
        self._seq = 0
        self._running: dict[str, tuple[str, str, float]] = {}

    def run(self, stop: Callable[[], bool]) -> None:
        """Serve until told to stop."""
        folder = self._folder
        with (
            ControlServer(f"ipc://{folder}/control") as control,
            Publisher(f"ipc://{folder}/publish") as publisher,
        ):
            self._publish = publisher.address
            self._previews = {name: PreviewPublisher(f"ipc://{folder}/preview-{name}") for name in self._cameras}
            self._started = self._next = self._next_words = self._next_status = time.monotonic()
            while not stop():
                control.serve(max(0.0, min(0.01, self._next - time.monotonic())), self._answer)
                now = time.monotonic()
                if now >= self._next:
                    self._next = max(self._next + 1 / self._fps, now - 0.1)
                    self._send_pictures()
                if now >= self._next_words:
                    self._next_words = now + _PREDICT_EVERY_S
                    self._send_words(publisher, now)
            for socket in self._previews.values():
                socket.close()

    def _send_pictures(self) -> None:
        self._seq += 1
        for name, socket in self._previews.items():
            if socket.watched() and not (name in self._lost and self._seq > _PICTURES):
                picture = self._pictures[name][self._seq % _PICTURES]
                socket.send(Preview(picture, time.monotonic_ns(), self._seq))

    def _send_words(self, publisher: Publisher, now: float) -> None:
        due, self._next_status = now >= self._next_status, max(self._next_status, now)
        for number, name in enumerate(self._cameras):
            gone = name in self._lost and self._seq > _PICTURES
            if due or gone:
                publisher.send(encode_published(self._status(name, gone, now)))
            if gone:
                continue
            recognition = self._recognition(name, number, now)
            publisher.send(encode_published(recognition))
            for event in self._events(name, recognition):
                publisher.send(encode_published(event))
        if due:
            self._next_status = now + 2.0

    def _status(self, name: str, gone: bool, now: float) -> CameraStatus:
        left = max(1, 8 - int(now - self._started) % 8)
        return CameraStatus(
            camera=name,
            state="reconnecting" if gone else "live",
            fps=0.0 if gone else self._fps,
            last_frame_age_s=None,
            reconnects=2 if gone else 0,
            frames_dropped=0,
            detail=f"{self._lost[name]}; next try in {left} s" if gone else "made scene",
            problem=self._lost[name] if gone else "",
            retry_in_s=left if gone else None,
        )

    def _recognition(self, name: str, number: int, now: float) -> Recognition:
        step = int((now - self._started + 100 * number) / 6)
        order = sorted(range(len(LABELS)), key=lambda index: (index * 7 + step * 3 + number) % 11)
        sure = 0.55 + 0.4 * abs(math.sin(now / 2 + number))
        shares = [sure] + [(1 - sure) * 0.55 * 0.5**rank for rank in range(len(LABELS) - 1)]
        idle = step % 4 == 3
        return Recognition(
            camera=name,
            epoch=1,
            seq=self._seq,
            window=Window(
                first_frame=self._seq, last_frame=self._seq + 15, start_time=time.time() - 0.7, end_time=time.time()
            ),
            state="idle" if idle else "action",
            label=None if idle else LABELS[order[0]],
            confidence=sure * (0.3 if idle else 1.0),
            top_k=[
                LabelScore(index=index, label=LABELS[index], probability=share * scale, raw_probability=share)
                for index, share in zip(order, shares, strict=True)
                for scale in (0.3 if idle else 1.0,)
            ],
            latency_ms=Latency(queue=2.0, inference=84 + 6 * math.sin(now), total=96 + 8 * math.sin(now)),
            frames_dropped=0,
            windows_dropped=0,
            model=ModelName(name="i3d", checkpoint="motion"),
        )

    def _events(self, name: str, seen: Recognition) -> list[ActionEvent]:
        known = self._running.get(name)
        events = []
        if known is not None and known[1] != seen.label:
            del self._running[name]
            events.append(self._event(name, *known, seen))
        if seen.label is not None and name not in self._running:
            self._running[name] = (f"{name}-{self._seq}", seen.label, time.time())
            events.append(self._event(name, *self._running[name], None))
        return events

    def _event(self, name: str, identity: str, label: str, start: float, end: Recognition | None) -> ActionEvent:
        return ActionEvent(
            camera=name,
            id=identity,
            event="start" if end is None else "end",
            label=label,
            start_time=start,
            end_time=None if end is None else max(start, time.time()),
            peak_confidence=0.93,
        )

    def _answer(self, request: Request) -> Reply:
        if isinstance(request, SayHello):
            return HelloReply(
                version="0.1.0",
                pid=1,
                started_at=1.0,
                ready=True,
                publish=self._publish,
                model=ModelName(name="i3d", checkpoint="motion"),
                labels=list(LABELS),
                engine="torch, channels last",
                device="cpu",
                precision="bf16",
            )
        if isinstance(request, GetSettings):
            return SettingsReply(settings=live_settings(Config(publish=PublishConfig(top_k=10))))
        infos = [
            CameraInfo(name=name, source="made", paused=False, preview=self._previews[name].address, status=None)
            for name in self._cameras
        ]
        return CamerasReply(cameras=infos)


def _pictures(seed: int, size: tuple[int, int]) -> list[bytes]:
    """Return JPEGs of two seconds of a scene; drawn small and enlarged, since drawing takes long."""
    renderer = SceneRenderer(seed + 3, (size[0] // 2, size[1] // 2))
    encoded = []
    for number in range(_PICTURES):
        small = np.asarray(renderer.render(number / 30))
        picture = cv2.cvtColor(cv2.resize(small, size, interpolation=cv2.INTER_CUBIC), cv2.COLOR_RGB2BGR)
        ok, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
        assert ok
        encoded.append(data.tobytes())
    return encoded
