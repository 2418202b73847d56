"""A worker in a thread: serve() with a fake engine behind real channels, sockets and files."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from stream_i3d.config import (
    Config,
    EventsConfig,
    IdleConfig,
    ModelConfig,
    PublishConfig,
    SmoothingConfig,
    WindowConfig,
    change_settings,
)
from stream_i3d.inference.engine import LoadedModel
from stream_i3d.inference.setup import ModelSetup
from stream_i3d.inference.worker import process
from stream_i3d.inference.worker.drain import WorkerJob
from stream_i3d.inference.worker.process import serve
from stream_i3d.messages import CameraStatus
from stream_i3d.preprocess import Preprocessing
from stream_i3d.publish.process import PublisherJob, run_publisher
from stream_i3d.stage import CameraNews, CameraSlot, Done, Ready, WorkerOrder
from stream_i3d.transport.frames import FrameSender
from tests.inference.fakes import FakeEngine
from tests.samples import frame, report
from tests.stages import WAIT_S, FakeStage

CLIP_LEN, STRIDE = 8, 4


class Service:
    """A worker in a thread, and the test's end of its channels."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, engine: FakeEngine, **given: Any) -> None:
        names: Sequence[str] = given.pop("cameras", ("door",))
        lossless: bool = given.pop("lossless", False)
        publish = {"address": f"ipc://{folder}/pub", "jsonl": str(folder / "out.jsonl"), "top_k": 3}
        config: dict[str, Any] = {
            "window": WindowConfig(stride=STRIDE, adaptive=False),
            "smoothing": SmoothingConfig(method="none"),
            "idle": IdleConfig(min_confidence=0, min_motion=0),
            "events": EventsConfig(min_on_s=0, min_off_s=0),
            "publish": PublishConfig(**{**publish, **given.pop("publish", {})}),
            **given,
        }
        self.engine = engine
        self.stage = FakeStage()
        self.output = folder / "out.jsonl"
        self.error: BaseException | None = None
        slots = [
            CameraSlot(name=name, channel=f"ipc://{folder}/f{index}", lossless=lossless)
            for index, name in enumerate(names)
        ]
        model = ModelConfig(checkpoint="fake.safetensors")
        small = Preprocessing(clip_len=CLIP_LEN, short_side=32, crop_size=32)
        setup = ModelSetup(path="/w/fake.safetensors", spec=None, config=model, preprocessing=small, labels=None)
        relay = f"ipc://{folder}/relay"
        self.job = WorkerJob(cameras=slots, relay=relay, setup=setup, config=Config(**config))
        self.publisher = FakeStage("publisher")
        self._publishing = threading.Thread(
            target=run_publisher, args=(self.publisher, PublisherJob(channel=relay, config=self.job.config, run="run"))
        )
        self.load: Callable[[ModelSetup], LoadedModel] = lambda setup: engine.model
        self._arrived: dict[str, int] = {}
        self._changed = threading.Condition()
        self._watch_arrivals(monkeypatch)
        self._thread = threading.Thread(target=self._run, name="worker under test")
        self.senders: dict[str, FrameSender] = {}

    def start(self) -> Service:
        """MakeService the publisher and the worker, and connect a sender to each of its channels."""
        self._publishing.start()
        self._thread.start()
        self.stage.wait_until(lambda: any(isinstance(message, Ready) for message in self.stage.said))
        for slot in self.job.cameras:
            self.senders[slot.name] = FrameSender(slot.channel)
            assert self.senders[slot.name].connected(WAIT_S)
        return self

    def order(self, *cameras: CameraSlot, **changes: Any) -> None:
        """Order these cameras, and settings by their dotted keys; wait until it is done."""
        number = sum(isinstance(message, Done) for message in self.stage.said) + 1
        self.config = change_settings(getattr(self, "config", self.job.config), changes)
        self.stage.orders.put(WorkerOrder(number=number, cameras=list(cameras), config=self.config))
        self.stage.wait_until(lambda: Done(number=number) in self.stage.said)
        for slot in cameras:
            if slot.name not in self.senders and slot.failure is None:
                self.senders[slot.name] = FrameSender(slot.channel)
                assert self.senders[slot.name].connected(WAIT_S)

    def slot(self, name: str, **more: Any) -> CameraSlot:
        """A camera beside those of the start."""
        return CameraSlot(name=name, channel=f"ipc://{self.output.parent}/more-{name}", lossless=True, **more)

    def status(self, camera: str, state: str) -> CameraStatus:
        """Wait until the camera's newest published status is of this state; return it."""

        def newest() -> CameraStatus | None:
            said = [message.status for message in self.publisher.said if isinstance(message, CameraNews)]
            return [None, *(status for status in said if status.camera == camera)][-1]

        self.publisher.wait_until(lambda: (status := newest()) is not None and status.state == state)
        status = newest()
        assert status is not None
        return status

    def send(self, first: int, last: int, camera: str = "door", **more: Any) -> None:
        """Send frames first..last; every one must find room."""
        for seq in range(first, last + 1):
            assert self.senders[camera].send(frame(seq, camera=camera, **more), WAIT_S)

    def report(self, camera: str = "door", **more: Any) -> None:
        assert self.senders[camera].report(report(camera=camera, **more), WAIT_S)

    def arrived(self, messages: int, camera: str = "door") -> None:
        """Wait until the worker has taken in, or rejected, so many messages of a camera's channel."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._arrived.get(camera, 0) >= messages, WAIT_S)

    def settled(self, messages: int, camera: str = "door") -> None:
        """Wait until so many messages have arrived and a whole turn of the worker's loop has passed since."""
        self.arrived(messages, camera)
        assert self.goes_on(2)

    def goes_on(self, turns: int = 3) -> bool:
        """Wait for so many more turns of the loop, each of which it shows by a heartbeat; return whether they came."""
        before = self.stage.beats
        return self.stage.comes_true(lambda: self.stage.beats >= before + turns)

    def end(self) -> list[dict[str, Any]]:
        """Say on every channel that no frame will follow; wait for the worker's end; return what it wrote."""
        for camera in self.senders:
            self.report(camera, state="stopped", fps=0.0, detail="the end", final=True)
        return self.join()

    def join(self) -> list[dict[str, Any]]:
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        self._end_publisher()
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    def close(self) -> None:
        self.stage.stopping.set()
        if self._thread.is_alive():
            self._thread.join(WAIT_S)
        self._end_publisher()
        for sender in self.senders.values():
            sender.close()

    @property
    def address(self) -> str:
        """Where it publishes."""
        self.publisher.wait_until(lambda: bool(self.publisher.said))
        ready = self.publisher.said[0]
        assert isinstance(ready, Ready)
        return ready.address

    def _end_publisher(self) -> None:
        self.publisher.stopping.set()
        if self._publishing.ident is not None:
            self._publishing.join(WAIT_S)
            assert not self._publishing.is_alive()

    def _run(self) -> None:
        try:
            serve(self.stage, self.job, self.load)
        except BaseException as error:
            self.error = error

    def _watch_arrivals(self, monkeypatch: pytest.MonkeyPatch) -> None:
        service = self

        class WatchedCamera(process.Camera):
            def accept(self, message: Any) -> bool:
                try:
                    return super().accept(message)
                finally:
                    with service._changed:
                        service._arrived[self.slot.name] = service._arrived.get(self.slot.name, 0) + 1
                        service._changed.notify_all()

        monkeypatch.setattr(process, "Camera", WatchedCamera)


MakeService = Callable[..., Service]


def of_kind(lines: list[dict[str, Any]], kind: str, camera: str = "door") -> list[dict[str, Any]]:
    return [line for line in lines if line["schema"] == f"stream-i3d/{kind}/1" and line["camera"] == camera]


def windows_of(lines: list[dict[str, Any]], camera: str = "door") -> list[int]:
    return [line["seq"] for line in of_kind(lines, "prediction", camera) if line["state"] != "warming"]
