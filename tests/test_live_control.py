"""A running service that is watched and controlled, in real processes: previews, cameras and settings that change."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from stream_i3d.config import CameraConfig, Config, IdleConfig, ModelConfig
from stream_i3d.messages import CameraStatus, Recognition
from stream_i3d.service.launch import LaunchedService, launch
from stream_i3d.transport.control import (
    AddCamera,
    CameraInfo,
    CamerasReply,
    ChangeSettings,
    GetSettings,
    HelloReply,
    ListCameras,
    PauseCamera,
    RemoveCamera,
    ResumeCamera,
    SayHello,
    SettingsReply,
)
from stream_i3d.transport.control_sockets import ControlClient
from stream_i3d.transport.preview import PreviewReceivers
from stream_i3d.transport.sockets import Subscriber, wait_for_any
from stream_i3d.transport.wire import Preview, Published, decode_published
from tests.test_end_to_end import ROOT, SCENE

WAIT_S = 110.0
"""A limit for a busy machine; what is waited for comes within seconds on a free one."""


class Live:
    """A service with a client of each of its channels."""

    def __init__(self, service: LaunchedService) -> None:
        self.service = service
        self.hello = service.wait_ready(WAIT_S)
        self.client = ControlClient(service.control)
        self.previews = PreviewReceivers()
        self._subscriber = Subscriber(service.publish)

    def messages(self) -> Iterator[Published]:
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until and self.service.poll() is None:
            if (parts := self._subscriber.receive(0.2)) is not None:
                yield decode_published(parts)
        raise AssertionError(f"not seen within {WAIT_S} s; exit code {self.service.poll()}")

    def windows(self, camera: str, count: int) -> list[int]:
        """Return the newest frame of each of the camera's next windows."""
        seen = (
            message.window.last_frame
            for message in self.messages()
            if isinstance(message, Recognition) and message.camera == camera and message.state != "warming"
        )
        return [last for last, _ in zip(seen, range(count), strict=False)]

    def status(self, camera: str, wanted: Callable[[CameraStatus], bool]) -> CameraStatus:
        """Return the camera's first published status that is wanted."""
        return next(
            message
            for message in self.messages()
            if isinstance(message, CameraStatus) and message.camera == camera and wanted(message)
        )

    def cameras(self) -> dict[str, CameraInfo]:
        reply = self.client.request(ListCameras(), WAIT_S)
        assert isinstance(reply, CamerasReply)
        return {camera.name: camera for camera in reply.cameras}

    def change(self, **settings: object) -> None:
        reply = self.client.request(ChangeSettings(settings=settings), WAIT_S)
        assert isinstance(reply, SettingsReply)

    def next_preview(self) -> Preview:
        assert wait_for_any([self.previews], WAIT_S)
        [(_, preview)] = self.previews.receive()
        return preview

    def forget(self) -> None:
        """Let go of what has been published so far."""
        while self._subscriber.receive(0) is not None:
            pass

    def worker(self) -> psutil.Process:
        children = psutil.Process(self.hello.pid).children()
        return max(children, key=lambda child: child.memory_info().rss)

    def capture(self) -> psutil.Process:
        """The capture process of the only camera: the one with OpenCV and without what runs networks."""
        [found] = [
            child
            for child in psutil.Process(self.hello.pid).children()
            if (loaded := {Path(region.path).name[:8] for region in child.memory_maps()}) & {"cv2.abi3"}
            and not loaded & {"libtorch", "libopenv"}
        ]
        return found

    def close(self) -> None:
        self.client.close()
        self.previews.close()
        self._subscriber.close()


@pytest.fixture(scope="module")
def live(tiny_checkpoint: Path) -> Iterator[Live]:
    config = Config(
        cameras=[CameraConfig(source=SCENE, name="door")],
        model=ModelConfig(checkpoint=str(tiny_checkpoint)),
        idle=IdleConfig(min_confidence=0, min_motion=0),
    )
    with launch(config) as service:
        running = Live(service)
        yield running
        running.close()


def test_previews_come_while_they_are_followed(live: Live) -> None:
    address = live.cameras()["door"].preview
    assert address is not None
    live.previews.follow({"door": address})
    assert wait_for_any([live.previews], WAIT_S)
    [(camera, preview)] = live.previews.receive()
    assert camera == "door"
    assert 0 <= time.monotonic_ns() - preview.capture_ns < WAIT_S * 1e9
    picture = cv2.imdecode(np.frombuffer(preview.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and picture.shape == (120, 160, 3)  # the camera's own aspect, before the model's crop
    live.previews.follow({})


def test_previews_come_back_at_the_same_address_after_the_capture_process_was_killed(live: Live) -> None:
    address = live.cameras()["door"].preview
    assert address is not None
    live.previews.follow({"door": address})
    live.next_preview()
    killed = live.capture()
    killed.kill()
    killed.wait(WAIT_S)
    died_ns = time.monotonic_ns()
    while live.next_preview().capture_ns < died_ns:  # what was under way
        assert time.monotonic_ns() < died_ns + WAIT_S * 1e9, "no preview of its successor"
    assert live.cameras()["door"].preview == address
    live.previews.follow({})


def test_a_stride_that_is_set_is_the_spacing_of_windows_at_once_and_after_the_worker_was_killed(live: Live) -> None:
    assert set(np.diff(live.windows("door", 4)) % 8) == {0}
    live.change(**{"window.stride": 13})
    settled = live.windows("door", 5)[1:]  # one may have been under way
    assert all((last - 15) % 13 == 0 for last in settled)
    killed = live.worker()
    killed.kill()
    killed.wait(WAIT_S)
    live.forget()
    assert all((last - 15) % 13 == 0 for last in live.windows("door", 3))
    reply = live.client.request(GetSettings(), WAIT_S)
    assert isinstance(reply, SettingsReply) and reply.settings["window.stride"] == 13
    hello = live.client.request(SayHello(), WAIT_S)
    assert isinstance(hello, HelloReply) and hello.ready and hello.pid == live.hello.pid


def test_a_camera_comes_pauses_goes_on_and_goes_while_another_runs(live: Live) -> None:
    live.client.request(AddCamera(source=SCENE, name="hall"), WAIT_S)
    assert len(live.windows("hall", 2)) == 2
    live.client.request(PauseCamera(camera="hall"), WAIT_S)
    paused = live.status("hall", lambda status: status.paused)
    assert (paused.state, paused.detail) == ("stopped", "paused")
    live.client.request(ResumeCamera(camera="hall"), WAIT_S)
    live.status("hall", lambda status: status.state == "live")
    live.client.request(RemoveCamera(camera="hall"), WAIT_S)
    last = live.status("hall", lambda status: status.state == "stopped" and status.detail == "removed")
    assert not last.paused
    assert list(live.cameras()) == ["door"]
    assert live.windows("door", 1)


def test_a_camera_that_cannot_be_had_is_said_and_ends_nothing(live: Live) -> None:
    live.client.request(AddCamera(source="/none.mp4", name="lost"), WAIT_S)
    status = live.status("lost", lambda status: status.state == "stopped")
    assert "no such file" in status.detail
    live.client.request(RemoveCamera(camera="lost"), WAIT_S)
    assert live.windows("door", 1)


def test_the_viewer_of_the_documentation_shows_pictures(live: Live) -> None:
    """The code block of docs/subscribing.md as it stands, but for the address and for what needs a screen."""
    [viewer] = re.findall(r"```py\n(.*?)```", (ROOT / "docs" / "subscribing.md").read_text(), re.S)
    without_a_screen = (
        "import cv2\n"
        "shown = []\n"
        "cv2.imshow = lambda title, picture: shown.append(picture.shape)\n"
        "cv2.waitKey = lambda ms: -1 if len(shown) < 3 else 1\n"
    )
    code = without_a_screen + viewer.replace("tcp://127.0.0.1:5557", live.service.control) + "print(shown)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert done.stdout == f"{[(120, 160, 3)] * 3}\n"
