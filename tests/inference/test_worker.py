"""serve() in a thread: a fake engine behind real channels, sockets and files."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from msgspec import structs

from stream_i3d.config import (
    CaptureConfig,
    Config,
    ControlConfig,
    EventsConfig,
    IdleConfig,
    ModelConfig,
    PublishConfig,
    SmoothingConfig,
    WindowConfig,
    change_settings,
)
from stream_i3d.errors import CheckpointError
from stream_i3d.inference import drain, worker
from stream_i3d.inference.batch_limit import MAX_BATCH
from stream_i3d.inference.drain import WorkerJob
from stream_i3d.inference.setup import ModelSetup
from stream_i3d.inference.worker import serve
from stream_i3d.messages import CameraStatus, Recognition
from stream_i3d.preprocess import Preprocessing
from stream_i3d.publish.process import PublisherJob, publisher_main
from stream_i3d.stage import CameraNews, CameraSlot, Done, Ready, StageMessage, Summary, WorkerOrder
from stream_i3d.transport.sockets import FrameSender, Subscriber
from stream_i3d.transport.wire import decode_published, encode_frame, encode_report
from tests.inference.fakes import FakeEngine
from tests.samples import frame, number_of, report
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
            target=publisher_main, args=(self.publisher, PublisherJob(channel=relay, config=self.job.config, run="run"))
        )
        self.load: Callable[[ModelSetup], FakeEngine] = lambda setup: engine
        self._arrived: dict[str, int] = {}
        self._changed = threading.Condition()
        self._watch_arrivals(monkeypatch)
        self._thread = threading.Thread(target=self._run, name="worker under test")
        self.senders: dict[str, FrameSender] = {}

    def start(self) -> Service:
        """Start the publisher and the worker, and connect a sender to each of its channels."""
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
        before = self.stage.beats
        self.stage.wait_until(lambda: self.stage.beats >= before + 2)

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
            serve(self.stage, self.job, self.load)  # type: ignore[arg-type]
        except BaseException as error:
            self.error = error

    def _watch_arrivals(self, monkeypatch: pytest.MonkeyPatch) -> None:
        service = self

        class WatchedCamera(worker.Camera):
            def accept(self, message: Any) -> bool:
                try:
                    return super().accept(message)
                finally:
                    with service._changed:
                        service._arrived[self.slot.name] = service._arrived.get(self.slot.name, 0) + 1
                        service._changed.notify_all()

        monkeypatch.setattr(worker, "Camera", WatchedCamera)


Start = Callable[..., Service]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Return a function that makes a service; it is ended with the test."""
    made: list[Service] = []

    def build(engine: FakeEngine | None = None, **given: Any) -> Service:
        made.append(Service(tmp_path, monkeypatch, engine or FakeEngine(), **given))
        return made[-1]

    yield build
    for service in made:
        service.close()


def of_kind(lines: list[dict[str, Any]], kind: str, camera: str = "door") -> list[dict[str, Any]]:
    return [line for line in lines if line["schema"] == f"stream-i3d/{kind}/1" and line["camera"] == camera]


def newest_due(arrived: int) -> int:
    """The number of the newest frame at which a window is due once frames 0..arrived-1 are there."""
    return max(seq for seq in range(arrived) if seq >= CLIP_LEN - 1 and (seq - (CLIP_LEN - 1)) % STRIDE == 0)


def test_a_prediction_is_published_at_every_stride_in_order(make: Start) -> None:
    service = make(lossless=True).start()
    service.send(0, 39)
    predictions = of_kind(service.end(), "prediction")
    assert [(line["state"], line["seq"]) for line in predictions] == [
        ("warming", 3),
        *(("action", seq) for seq in range(7, 40, 4)),
    ]
    assert [line["window"]["first_frame"] for line in predictions[1:]] == list(range(0, 33, 4))
    assert [line["label"] for line in predictions[1:]] == [("wave", "clap", "jump")[seq % 3] for seq in range(7, 40, 4)]
    assert service.engine.newest == list(range(7, 40, 4))


def test_a_clip_is_the_frames_of_its_window(make: Start) -> None:
    service = make(lossless=True).start()
    service.send(0, 199)  # more than the ring holds, so that it wraps
    service.end()
    for [clip] in service.engine.batches:
        numbers = [number_of(picture) for picture in clip]
        assert numbers == list(range(numbers[-1] - 7, numbers[-1] + 1))


def test_subscribers_receive_what_the_wire_promises(make: Start) -> None:
    service = make(lossless=True, publish={"status_interval_s": 0.05})
    service.start()
    with Subscriber(service.address) as subscriber:
        first = subscriber.receive(WAIT_S)  # once a status comes, the subscription stands
        assert first is not None
        assert first[0] == b"v1/door/status"
        assert isinstance(decode_published(first), CameraStatus)
        service.send(0, 19)
        seen: list[Recognition] = []
        while len(seen) < 5:
            parts = subscriber.receive(WAIT_S)
            assert parts is not None
            message = decode_published(parts)
            if isinstance(message, Recognition):
                assert parts[0] == b"v1/door/prediction"
                seen.append(message)
    assert [message.seq for message in seen] == [3, 7, 11, 15, 19]
    assert {message.model.checkpoint for message in seen} == {"fake.safetensors"}


def test_the_engine_is_warmed_up_before_the_worker_says_that_it_is_ready(make: Start) -> None:
    service = make(cameras=("a", "b", "c"))
    warmed_when_ready: list[list[int]] = []
    say = service.stage.say

    def note(message: StageMessage) -> None:
        if isinstance(message, Ready):
            warmed_when_ready.append(list(service.engine.warmed))
        say(message)

    service.stage.say = note  # type: ignore[method-assign]
    service.start()
    service.end()
    assert warmed_when_ready == [[1, 2, 3]]
    ready = service.stage.said[0]
    assert isinstance(ready, Ready)
    assert ready.detail == "i3d (fake.safetensors), a fake"


def test_windows_of_cameras_that_are_due_together_are_one_batch(make: Start) -> None:
    service = make(FakeEngine(gated=True), cameras=("a", "b")).start()
    service.send(0, 7, "a")
    assert service.engine.begun() == [7]
    service.send(8, 11, "a")
    service.send(0, 7, "b")
    service.arrived(12, "a")
    service.arrived(8, "b")
    service.engine.release(2)
    assert service.engine.begun() == [7, 11]  # the oldest first
    lines = service.end()
    assert [line["seq"] for line in of_kind(lines, "prediction", "a") if line["state"] == "action"] == [7, 11]
    assert [line["seq"] for line in of_kind(lines, "prediction", "b") if line["state"] == "action"] == [7]


def test_a_batch_has_a_largest_size(make: Start) -> None:
    names = [f"c{number}" for number in range(MAX_BATCH + 1)]
    service = make(FakeEngine(gated=True), cameras=names).start()
    assert service.engine.warmed == list(range(1, MAX_BATCH + 1))
    service.send(0, 7, "c0")
    service.engine.begun()
    service.send(8, 11, "c0")
    for name in names[1:]:
        service.send(0, 7, name)
        service.arrived(8, name)
    service.arrived(12, "c0")
    service.engine.release(3)
    service.end()
    assert [len(batch) for batch in service.engine.batches] == [1, MAX_BATCH, 1]


def test_a_slow_engine_is_given_the_newest_window_and_the_stale_ones_are_dropped_and_counted(make: Start) -> None:
    service = make(FakeEngine(gated=True)).start()
    service.send(0, 7)
    assert service.engine.begun() == [7]
    sent, judged = 8, 1
    for more in (4, 9, 17, 5, 40, 12, 23):
        service.send(sent, sent + more - 1)
        sent += more
        service.arrived(sent)  # all of it, while the engine is busy
        service.engine.release()
        [newest] = service.engine.begun()
        assert newest == newest_due(sent)
        assert sent - 1 - newest < STRIDE
        judged += 1
    service.engine.release()
    predictions = [line for line in of_kind(service.end(), "prediction") if line["state"] == "action"]
    due = len(range(CLIP_LEN - 1, sent, STRIDE))
    assert len(predictions) == judged
    assert service.stage.summary.windows_dropped == {"stale": due - judged}
    assert service.stage.summary.frames == sent
    assert predictions[-1]["windows_dropped"] == due - judged


def test_no_frame_is_lost_in_front_of_a_slow_engine(make: Start) -> None:
    service = make(FakeEngine(gated=True)).start()
    service.send(0, 499)  # each finds room at once, though the engine does not answer
    service.arrived(500)
    service.engine.release(2)
    service.end()
    assert service.stage.summary.frames == 500
    assert service.stage.summary.frames_dropped == 0


def test_a_lossless_source_is_held_back_and_loses_no_window(make: Start) -> None:
    service = make(FakeEngine(gated=True), lossless=True).start()
    service.send(0, 7)
    service.engine.begun()
    sent = 8
    while sent < 100 and service.senders["door"].send(frame(sent), 0.5):
        sent += 1
    assert sent < 100  # while the engine is busy with one window and another waits, the source must wait too
    service.engine.release(100)
    service.send(sent, 99)
    predictions = [line for line in of_kind(service.end(), "prediction") if line["state"] == "action"]
    assert [line["seq"] for line in predictions] == list(range(7, 100, 4))
    assert service.stage.summary.windows_dropped == {}


def test_one_camera_held_back_does_not_hold_up_the_others(make: Start) -> None:
    service = make(FakeEngine(gated=True), cameras=("a", "b"), lossless=True).start()
    service.send(0, 7, "a")
    service.engine.begun()
    service.send(8, 11, "a")  # a window of "a" waits now
    service.arrived(12, "a")
    service.send(0, 7, "b")
    service.arrived(8, "b")
    service.engine.release(2)
    assert service.engine.begun() == [7, 11]  # the oldest first
    service.end()


class Stranger:
    """Somebody else's PUSH socket on a camera's channel."""

    def __init__(self, channel: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDTIMEO, int(WAIT_S * 1000))
        self._socket.connect(channel)

    def push(self, *parts: bytes | memoryview) -> None:
        self._socket.send_multipart(parts)

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._context.term()


def test_messages_that_are_not_ours_are_counted_and_do_no_harm(make: Start, caplog: pytest.LogCaptureFixture) -> None:
    service = make(lossless=True).start()
    header, body = encode_frame(frame(0))
    other_size, other_body = encode_frame(frame(0, size=64))
    junk: list[tuple[bytes | memoryview, ...]] = [
        (b"",),
        (b"not json",),
        (b"{}", b""),
        (b"\xff\xfe", b"\x00"),
        (b"x" * 5000,),
        (b"[" * 4000,),
        (header,),
        (header, b"short"),
        (header, body, b"a third part"),
        (encode_report(report()), b"a second part"),
        (other_size, other_body),
        encode_frame(frame(0, camera="window")),
        (encode_report(report(camera="window")),),
        (encode_report(report(camera="window", state="stopped", final=True)),),
    ]
    with caplog.at_level(logging.WARNING), Stranger(service.job.cameras[0].channel) as stranger:
        for parts in junk:
            stranger.push(*parts)
        service.send(0, 11)
        # The stranger's are read in turn with ours; what the worker counts is told every second, and at its end.
        service.stage.wait_until(lambda: service.stage.summary.rejected_messages == len(junk))
    predictions = of_kind(service.end(), "prediction")
    assert [line["seq"] for line in predictions] == [3, 7, 11]
    assert service.stage.summary.rejected_messages == len(junk)
    assert [record.getMessage().startswith("door: rejected") for record in caplog.records] == [True]


def test_the_worker_ends_once_every_camera_has_ended(make: Start) -> None:
    service = make(cameras=("a", "b"), lossless=True).start()
    service.send(0, 7, "a")
    service.report("a", state="stopped", fps=0.0, detail="the end", final=True)
    service.send(0, 31, "b")  # still served
    lines = service.end()
    assert [line["seq"] for line in of_kind(lines, "prediction", "b")][-1] == 31
    for camera in ("a", "b"):
        last = of_kind(lines, "status", camera)[-1]
        assert (last["state"], last["detail"]) == ("stopped", "the end")


def test_told_to_stop_the_worker_ends_with_its_running_actions_ended_and_its_figures(make: Start) -> None:
    service = make(FakeEngine(choose=lambda clip: 0), lossless=True).start()
    service.report(state="live")
    service.settled(1)
    service.send(0, 11)
    service.settled(13)
    service.stage.stopping.set()
    lines = service.join()
    assert [line["event"] for line in of_kind(lines, "event")] == ["start", "end"]
    assert lines[-1]["schema"] == "stream-i3d/event/1"
    assert isinstance(service.stage.said[-1], Summary)


def test_the_worker_shows_that_it_lives_while_nothing_comes(make: Start) -> None:
    service = make().start()
    before = service.stage.beats
    service.stage.wait_until(lambda: service.stage.beats > before + 3)
    service.end()


def test_a_camera_is_connecting_from_the_first_then_as_it_reports(make: Start) -> None:
    service = make(lossless=True).start()
    service.settled(0)
    service.report(state="live", fps=25.0, detail="640x480")
    service.send(0, 11)
    service.settled(13)
    service.report(state="reconnecting", fps=0.0, detail="refused; next try in 2 s", reconnects=1)
    service.settled(14)
    service.send(0, 11, epoch=2)
    service.report(state="live", fps=24.5, reconnects=1, detail="640x480")
    service.settled(27)
    statuses = of_kind(service.end(), "status")
    assert [line["state"] for line in statuses] == ["connecting", "live", "reconnecting", "live", "stopped"]
    assert [line["reconnects"] for line in statuses] == [0, 0, 1, 1, 0]
    assert statuses[0]["detail"] == "starting"
    assert statuses[0]["last_frame_age_s"] is None
    assert statuses[2]["detail"] == "refused; next try in 2 s"
    assert statuses[3]["last_frame_age_s"] >= 0
    assert statuses[3]["fps"] == 24.5


def test_a_camera_that_sends_nothing_new_is_stalled(make: Start) -> None:
    service = make(capture=CaptureConfig(stall_timeout_s=0.2), publish={"status_interval_s": 0.05})
    service.start()
    with Subscriber(service.address, ["v1/door/status"]) as subscriber:
        assert subscriber.receive(WAIT_S) is not None
        service.report(state="live")

        def wait_for(state: str) -> CameraStatus:
            while True:
                parts = subscriber.receive(WAIT_S)
                assert parts is not None
                message = decode_published(parts)
                assert isinstance(message, CameraStatus)
                if message.state == state:
                    return message

        wait_for("live")
        service.send(0, 3)
        message = wait_for("stalled")
    assert message.fps == 0.0
    assert message.last_frame_age_s is not None
    assert message.last_frame_age_s > 0.2


def test_repeated_pictures_are_no_sign_of_life(make: Start) -> None:
    service = make().start()
    assert service.senders["door"].send(frame(0, repeat=True), WAIT_S)
    service.report(state="live")
    service.settled(2)
    live = [line for line in of_kind(service.end(), "status") if line["state"] == "live"]
    assert [line["last_frame_age_s"] for line in live] == [None]


def test_an_action_starts_and_ends_with_the_same_id_and_the_last_one_ends_with_the_stream(make: Start) -> None:
    def choose(clip: np.ndarray[Any, Any]) -> int:
        return 0 if number_of(clip[-1]) < 20 else 1

    service = make(FakeEngine(choose=choose), lossless=True).start()
    service.report(state="live")
    service.settled(1)
    service.send(0, 39)
    lines = service.end()
    events = of_kind(lines, "event")
    assert [(line["event"], line["label"]) for line in events] == [
        ("start", "wave"),
        ("end", "wave"),
        ("start", "clap"),
        ("end", "clap"),
    ]
    assert events[0]["id"] == events[1]["id"] != events[2]["id"] == events[3]["id"]
    predictions = of_kind(lines, "prediction")
    assert events[3]["end_time"] == predictions[-1]["window"]["end_time"]
    assert lines.index(events[2]) == lines.index(next(line for line in predictions if line["label"] == "clap")) + 2


def test_an_action_ends_when_its_camera_is_lost(make: Start) -> None:
    service = make(FakeEngine(choose=lambda clip: 0), lossless=True).start()
    service.report(state="live")
    service.settled(1)
    service.send(0, 15)
    service.settled(17)
    service.report(state="reconnecting", fps=0.0, detail="gone")
    service.settled(18)
    lines = service.end()
    [lost] = [line for line in of_kind(lines, "status") if line["state"] == "reconnecting"]
    [ended] = [line for line in of_kind(lines, "event") if line["event"] == "end"]
    assert lines.index(ended) == lines.index(lost) + 1


def test_windows_across_a_gap_or_a_reconnect_are_dropped_and_counted(make: Start) -> None:
    service = make(lossless=True).start()
    service.send(0, 11)
    service.send(14, 31)  # two frames are missing
    service.send(0, 15, epoch=2)
    lines = service.end()
    judged = [(line["epoch"], line["seq"]) for line in of_kind(lines, "prediction") if line["state"] == "action"]
    assert judged == [(1, 7), (1, 11), (1, 23), (1, 27), (1, 31), (2, 7), (2, 11), (2, 15)]
    summary = service.stage.summary
    assert summary.frames_dropped == 2
    assert set(summary.windows_dropped) == {"gap", "epoch"}


def test_the_last_figures_are_of_the_whole_run(make: Start) -> None:
    service = make(cameras=("a", "b"), lossless=True).start()
    service.send(0, 15, "a")
    service.send(0, 23, "b")
    service.end()
    summary = service.stage.said[-1]
    assert isinstance(summary, Summary)
    assert (summary.frames, summary.windows, summary.skipped, summary.rejected_messages) == (40, 3 + 5, 0, 0)
    assert summary.latency_p50_ms is not None
    assert summary.latency_p95_ms is not None
    assert summary.latency_p50_ms <= summary.latency_p95_ms
    assert summary.inference_p50_ms is not None
    assert summary.seconds > 0


def test_windows_that_were_skipped_are_counted_apart(make: Start) -> None:
    service = make(lossless=True, idle=IdleConfig(min_confidence=0, min_motion=1.0, skip_inference=True)).start()
    service.send(0, 15)  # flat pictures: nothing moves
    predictions = of_kind(service.end(), "prediction")
    assert [line["skipped"] for line in predictions] == [None, "no motion", "no motion", "no motion"]
    assert (service.stage.summary.windows, service.stage.summary.skipped) == (0, 3)
    assert service.engine.batches == []


def test_a_model_that_cannot_be_loaded_is_the_workers_error(make: Start) -> None:
    def fail(setup: ModelSetup) -> FakeEngine:
        raise CheckpointError("damaged")

    service = make()
    service.load = fail
    service._thread.start()
    with pytest.raises(CheckpointError, match="damaged"):
        service.join()


def test_json_lines_hold_what_the_socket_publishes_one_object_a_line(make: Start) -> None:
    service = make(lossless=True).start()
    service.send(0, 11)
    service.end()
    text = service.output.read_text()
    assert text.endswith("\n")
    schemas = {json.loads(line)["schema"] for line in text.splitlines()}
    assert schemas == {"stream-i3d/prediction/1", "stream-i3d/event/1", "stream-i3d/status/1"}


# --- orders


def windows_of(lines: list[dict[str, Any]], camera: str = "door") -> list[int]:
    return [line["seq"] for line in of_kind(lines, "prediction", camera) if line["state"] != "warming"]


def test_an_order_changes_the_stride_from_then_on(make: Start) -> None:
    service = make(lossless=True).start()
    service.send(0, 19)
    service.settled(20)
    service.order(*service.job.cameras, **{"window.stride": 7})
    service.send(20, 49)
    assert windows_of(service.end()) == [7, 11, 15, 19, 21, 28, 35, 42, 49]


def test_the_stride_in_force_is_published_at_once_when_it_changes(make: Start) -> None:
    service = make(lossless=True).start()
    service.report(state="live")
    assert service.status("door", "live").stride == STRIDE
    service.order(*service.job.cameras, **{"window.stride": 7})
    service.publisher.wait_until(lambda: service.status("door", "live").stride == 7)
    service.end()
    assert service.stage.summary.stride == service.stage.summary.cameras["door"].stride == 7


def test_one_of_several_workers_says_that_its_cameras_have_ended_and_takes_others(make: Start) -> None:
    service = make(lossless=True)
    service.job = structs.replace(service.job, linger=True)
    service.start()
    service.report(state="stopped", fps=0.0, detail="the end", final=True)
    service.stage.wait_until(lambda: service.stage.summary.ended)
    service.order(service.slot("hall"))
    service.senders.pop("door").close()
    service.stage.wait_until(
        lambda: not service.stage.summary.ended and list(service.stage.summary.cameras) == ["hall"]
    )
    service.send(0, 7, "hall")
    service.settled(8, "hall")
    service.stage.stopping.set()
    assert windows_of(service.join(), "hall") == [7]


def test_an_order_changes_what_is_recognised_and_how_many_labels_are_listed(make: Start) -> None:
    service = make(lossless=True).start()
    service.send(0, 11)
    service.settled(12)
    service.order(*service.job.cameras, **{"idle.min_confidence": 1.0, "publish.top_k": 1})
    service.send(12, 19)
    predictions = of_kind(service.end(), "prediction")[1:]
    assert [(line["state"], len(line["top_k"])) for line in predictions] == [("action", 3)] * 2 + [("idle", 1)] * 2


def test_an_order_to_spare_the_network_takes_effect(make: Start) -> None:
    service = make(lossless=True).start()
    service.order(*service.job.cameras, **{"idle.min_motion": 255, "idle.skip_inference": True})
    service.send(0, 19)
    predictions = of_kind(service.end(), "prediction")[1:]
    assert [line["skipped"] for line in predictions] == ["no motion"] * 4
    assert service.engine.batches == []


def test_a_camera_that_is_added_is_recognised_and_the_batch_it_makes_is_warmed_up(make: Start) -> None:
    service = make(lossless=True).start()
    service.send(0, 11)
    service.order(*service.job.cameras, service.slot("hall"))
    assert service.engine.warmed == [2]
    service.send(0, 11, "hall")
    service.send(12, 15)
    lines = service.end()
    assert windows_of(lines) == [7, 11, 15]
    assert windows_of(lines, "hall") == [7, 11]
    assert service.stage.summary.frames == 28


def test_a_camera_that_is_removed_says_stopped_as_its_last_word_and_its_counts_stay(make: Start) -> None:
    service = make(cameras=("door", "hall"), lossless=True).start()
    service.send(0, 11)
    service.send(0, 11, "hall")
    service.settled(12)
    service.settled(12, "hall")
    door = service.job.cameras[0]
    service.order(door)
    assert service.status("hall", "stopped").detail == "removed"
    service.senders.pop("hall").close()
    service.send(12, 15)
    lines = service.end()
    of_hall = [line for line in lines if line.get("camera") == "hall"]
    assert [line["event"] for line in of_kind(lines, "event", "hall")][-1] == "end"
    assert of_hall[-1]["schema"] == "stream-i3d/status/1" and of_hall[-1]["state"] == "stopped"
    assert windows_of(lines) == [7, 11, 15]
    assert service.stage.summary.frames == 28


def test_a_camera_that_comes_again_has_figures_of_its_own(make: Start) -> None:
    service = make(cameras=("door", "hall"), lossless=True).start()
    door, hall = service.job.cameras
    service.send(0, 11, "hall")
    service.settled(12, "hall")
    service.order(door)  # an action runs, and its end is told
    service.senders.pop("hall").close()
    service.order(door, structs.replace(hall, channel=hall.channel + "-again"))
    service.send(0, 3, "hall")
    service.settled(16, "hall")
    service.end()
    figures = service.stage.summary.cameras["hall"]
    assert (figures.frames, figures.predictions, figures.events) == (4, {"warming": 1}, {})


def test_what_ends_the_thread_that_reads_ends_the_worker(make: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("the device is gone")

    service = make().start()
    monkeypatch.setattr(drain, "decode_capture", fail)
    service.send(0, 0)
    with pytest.raises(RuntimeError, match="the device is gone"):
        service.join()


def test_frames_that_were_under_way_to_a_removed_camera_are_read(make: Start) -> None:
    service = make(cameras=("door", "hall")).start()
    service.report("hall", state="stopped", fps=0.0, detail="the end", final=True)
    service.order(service.job.cameras[0])
    service.arrived(1, "hall")


def test_the_service_goes_on_without_any_camera_until_one_is_added(make: Start) -> None:
    service = make(lossless=True).start()
    service.order()
    service.senders.pop("door").close()
    before = service.stage.beats
    service.stage.wait_until(lambda: service.stage.beats >= before + 3)
    service.order(service.slot("hall"))
    service.send(0, 7, "hall")
    assert windows_of(service.end(), "hall") == [7]


def test_with_stay_it_goes_on_when_all_cameras_have_ended(make: Start) -> None:
    service = make(control=ControlConfig(stay=True)).start()
    service.report(state="stopped", fps=0.0, detail="the end", final=True)
    service.settled(1)
    assert service.status("door", "stopped").detail == "the end"
    before = service.stage.beats
    service.stage.wait_until(lambda: service.stage.beats >= before + 3)
    service.stage.stopping.set()
    service.join()


def test_a_worker_may_start_without_a_camera(make: Start) -> None:
    service = make(cameras=(), control=ControlConfig(stay=True)).start()
    assert service.engine.warmed == [1]
    service.order(service.slot("hall"))
    service.send(0, 7, "hall")
    service.settled(8, "hall")
    service.stage.stopping.set()
    assert windows_of(service.join(), "hall") == [7]


def test_why_a_capture_process_gave_up_is_published(make: Start) -> None:
    service = make(cameras=("door", "hall")).start()
    door, hall = service.job.cameras
    service.order(door, structs.replace(hall, failure="no such file: a.mp4"))
    assert service.status("hall", "stopped").detail == "no such file: a.mp4"


def test_a_channel_that_cannot_be_bound_is_told_and_the_others_go_on(
    make: Start, caplog: pytest.LogCaptureFixture
) -> None:
    service = make(lossless=True).start()
    slot = structs.replace(service.slot("hall"), channel=service.job.setup.path + "/no-address", failure="unused")
    with caplog.at_level(logging.ERROR):
        service.order(*service.job.cameras, slot)
    assert "cannot bind" in caplog.text
    service.send(0, 7)
    assert windows_of(service.end()) == [7]


def test_ready_tells_what_runs(make: Start) -> None:
    service = make().start()
    ready = service.stage.said[0]
    assert isinstance(ready, Ready)
    assert (ready.labels, ready.engine) == (["wave", "clap", "jump"], "a fake")
    assert ready.model is not None and ready.model.checkpoint == "fake.safetensors"
