"""Live recognition in this process: what it gives, and how it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from stream_i3d import Stream
from stream_i3d.api import model as model_module
from stream_i3d.api.model import Model
from stream_i3d.api.stream import LiveSource, Message
from stream_i3d.capture.address import parse_source
from stream_i3d.config import WindowConfig
from stream_i3d.errors import ConfigError, SourceNotFound, SourceUnavailable
from stream_i3d.messages import ActionEvent, CameraStatus, Recognition, VideoRecognition
from tests.api.conftest import Make
from tests.inference.fakes import FakeEngine, FakeStreamEngine
from tests.inference.worker.service import Service
from tests.samples import frame, report
from tests.waiting import wait_until

FRAMES = 150


def captures() -> list[str]:
    """Names of the capture threads that live."""
    return [one.name for one in threading.enumerate() if one.name.startswith("capture ")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert captures() == []


def source_of(service: Service, engine: Any, monkeypatch: pytest.MonkeyPatch, fast: bool = True) -> LiveSource:
    """A source of the same job as a worker's, whose frames the test sends."""
    monkeypatch.setattr(model_module, "settle_model", lambda model, window: service.job.setup)
    monkeypatch.setattr(model_module, "load_model", lambda setup, mode: engine.model)
    config = service.job.config
    config = structs.replace(config, capture=structs.replace(config.capture, fast=fast))
    model = Model(config)
    return LiveSource("door", parse_source("door.mp4"), "door.mp4", model.camera("door"), model, config)


def published(source: LiveSource, frames: int = FRAMES) -> list[Message]:
    """What a source gives for frames 0, 1, ... and the end, in one thread: it takes each as soon as there is room."""
    source.report(report())
    messages = source.step(0.0)
    for seq in range(frames):
        while not source.send(frame(seq)):
            messages += source.step(0.0)
    source.report(report(state="stopped", fps=0.0, detail="the end", final=True))
    while source.pending:
        messages += source.step(0.0)
    return messages + source.step(0.0)


def without_latency(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Predictions and events, but for how long they took."""
    kinds = ("stream-i3d/prediction/1", "stream-i3d/event/1")
    return [{**one, "latency_ms": None} for one in messages if one["schema"] in kinds]


@pytest.mark.parametrize(
    ("window", "make_engine"),
    [
        (WindowConfig(stride=4, adaptive=False), FakeEngine),
        (WindowConfig(stride=8, adaptive=False), FakeEngine),
        (WindowConfig(mode="streaming", stride=8), FakeStreamEngine),
        (WindowConfig(mode="streaming", stride=4, averaging=2), FakeStreamEngine),
    ],
    ids=["every fourth frame", "every eighth frame", "carried", "carried, averaged"],
)
def test_stream_gives_what_the_service_publishes_for_the_same_frames(
    window: WindowConfig, make_engine: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(tmp_path, monkeypatch, make_engine(), lossless=True, window=window)
    try:
        service.start()
        service.report()
        service.send(0, FRAMES - 1)
        expected = without_latency(service.end())
    finally:
        service.close()
    found = without_latency(
        [
            msgspec.json.decode(msgspec.json.encode(one))
            for one in published(source_of(service, make_engine(), monkeypatch))
        ]
    )
    assert found == expected
    predictions = [one for one in found if one["schema"] == "stream-i3d/prediction/1"]
    assert sum(one["state"] == "action" for one in predictions) >= 10
    assert any(one["schema"] == "stream-i3d/event/1" for one in found)


def test_the_newest_window_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(tmp_path, monkeypatch, FakeEngine())
    source = source_of(service, FakeEngine(), monkeypatch, fast=False)
    for seq in range(32):  # windows end at frames 7, 11, ... 31
        assert source.send(frame(seq))
    [prediction] = [one for one in source.step(0.0) if isinstance(one, Recognition) and one.state != "warming"]
    assert (prediction.seq, prediction.windows_dropped) == (31, 6)
    assert not source.pending


def test_a_live_stream_equals_the_offline_result(make_recognizer: Make) -> None:
    recognizer, scene = make_recognizer(fast=True), "synthetic://?fps=25&duration=3&seed=5"
    offline = [one for one in recognizer.messages(scene) if isinstance(one, VideoRecognition)]
    live = list(recognizer.stream(scene))
    assert len(live) == len(offline) == 9
    for one, other in zip(live, offline, strict=True):
        assert (one.window, one.state, one.label, one.top_k) == (other.window, other.state, other.label, other.top_k)
        assert one.camera == "synthetic"


def test_messages_hold_events_and_statuses_too(make_recognizer: Make) -> None:
    recognizer = make_recognizer(fast=True, on_threshold=0, off_threshold=0, min_on_s=0)
    messages = list(recognizer.stream("door=synthetic://?fps=25&duration=2").messages())
    assert {type(one) for one in messages} == {Recognition, ActionEvent, CameraStatus}
    assert {one.camera for one in messages} == {"door"}
    events = [one for one in messages if isinstance(one, ActionEvent)]
    assert (events[0].event, events[-1].event) == ("start", "end")
    statuses = [one for one in messages if isinstance(one, CameraStatus)]
    assert statuses[-1].state == "stopped"


def test_several_sources_come_together_with_their_names(make_recognizer: Make) -> None:
    stream = make_recognizer(fast=True).stream(
        "synthetic://?duration=2&fps=25", "door=synthetic://?duration=2&fps=25&seed=1", "synthetic://?duration=1&fps=25"
    )
    seen = list(stream)
    counts = {name: sum(one.camera == name for one in seen) for name in ("synthetic", "door", "synthetic-2")}
    assert counts == {"synthetic": 6, "door": 6, "synthetic-2": 3}


def test_break_ends_it(make_recognizer: Make) -> None:
    for _ in make_recognizer(fast=True).stream("synthetic://"):
        assert captures() == ["capture synthetic"]
        break
    wait_until(lambda: captures() == [])


def test_with_ends_it_and_nothing_follows(make_recognizer: Make) -> None:
    with make_recognizer(fast=True).stream("synthetic://") as stream:
        assert isinstance(stream, Stream)
        first, second = next(stream), next(stream)
        assert second.seq > first.seq
    wait_until(lambda: captures() == [])
    assert list(stream) == []
    stream.close()


def test_an_error_in_the_loop_ends_it(make_recognizer: Make) -> None:
    with pytest.raises(KeyError), make_recognizer(fast=True).stream("synthetic://") as stream:
        for one in stream:
            raise KeyError(one.seq)
    wait_until(lambda: captures() == [])


def test_a_source_that_is_not_there_raises_its_error(make_recognizer: Make) -> None:
    with pytest.raises(SourceNotFound, match=r"missing\.mp4"):
        next(make_recognizer().stream("missing.mp4"))


def test_without_retry_a_camera_that_cannot_be_reached_raises_its_error(make_recognizer: Make) -> None:
    # Port 1 of this machine is not served.
    with pytest.raises(SourceUnavailable, match="refused") as caught:
        next(make_recognizer(retry=False).stream("rtsp://admin:s3cret@127.0.0.1:1/"))
    assert "s3cret" not in str(caught.value)


def test_one_source_that_fails_ends_all(make_recognizer: Make) -> None:
    with pytest.raises(SourceNotFound, match=r"missing\.mp4"):
        list(make_recognizer(fast=True).stream("synthetic://", "missing.mp4"))


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ((), "stream: give a source"),
        (("rstp://camera/",), r"unknown kind \(did you mean 'rtsp'\?\)"),
        (("a=0", "a=1"), "the name 'a' is given twice"),
        (("a/b=0",), "a camera's name has 1 to 64 letters"),
    ],
)
def test_sources_that_mean_nothing_are_told(make_recognizer: Make, sources: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_recognizer().stream(*sources)


def test_a_camera_that_stays_away_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = source_of(Service(tmp_path, monkeypatch, FakeEngine()), FakeEngine(), monkeypatch)
    for now in (0.0, 1.0, 6.0, 12.0):
        source.report(report(state="connecting", fps=0.0, detail="no answer; next try in 2 s"))
        source.step(now)
    assert [one.getMessage() for one in caplog.records] == ["door: connecting: no answer; next try in 2 s"]
