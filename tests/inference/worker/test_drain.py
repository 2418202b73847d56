"""The thread that reads the cameras' channels, with channels of its test's own in place of sockets."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from stream_i3d.inference.worker import drain
from stream_i3d.inference.worker.drain import Camera, Drain
from stream_i3d.recognition.postprocess import PostprocessSettings
from stream_i3d.transport.wire import encode_frame
from tests.inference.fakes import LABELS, FakeEngine
from tests.inference.worker.service import CLIP_LEN, Service
from tests.samples import frame
from tests.waiting import wait_until

Message = tuple[bytes | memoryview, ...]


class FakeReceivers:
    """`FrameReceivers` whose messages wait in lists: what has arrived, and is not read yet, can be seen."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.waiting: dict[int, deque[Message]] = {number: deque() for number in range(len(addresses))}
        self._never = threading.Event()

    def poll(self, timeout_s: float, wanted: Collection[int]) -> list[int]:
        found = [number for number in wanted if self.waiting[number]]
        if not found:
            self._never.wait(timeout_s)
        return found

    def receive(self, number: int) -> list[memoryview] | None:
        return [memoryview(part).cast("B") for part in self.waiting[number].popleft()] if self.waiting[number] else None

    def remove(self, number: int) -> None:
        """What still waits is lost."""

    def close(self) -> None:
        pass


def test_frames_that_were_under_way_to_a_removed_camera_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Service(tmp_path, monkeypatch, FakeEngine(), lossless=True).job
    camera = Camera(job.cameras[0], job, PostprocessSettings.of(job.config, LABELS, job.setup.model_name))
    monkeypatch.setattr(drain, "FrameReceivers", FakeReceivers)
    reading = Drain([camera])
    [messages] = reading._receivers.waiting.values()  # type: ignore[attr-defined]
    messages.extend(encode_frame(frame(seq)) for seq in range(CLIP_LEN + 4))
    with reading:
        wait_until(lambda: camera.held_back)  # its first window waits to be taken, so the other frames must wait too
        assert len(messages) == 4
        reading.remove(camera)
    assert len(messages) == 0
    assert camera.windows.feed.frames == CLIP_LEN + 4
    assert reading.cameras == []
