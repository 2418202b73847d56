"""The recorder with real previews on a real socket; pictures carry their number as a grey level."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from stream_i3d.errors import ConfigError
from stream_i3d.messages import ActionEvent, Latency
from stream_i3d.publish import recorder
from stream_i3d.publish.recorder import Clocks, RecorderSink, Recording
from stream_i3d.sink_settings import RecorderSettings
from stream_i3d.transport.preview import PreviewPublisher
from stream_i3d.transport.wire import Preview
from tests.keys import Ring
from tests.samples import event, recognition, window
from tests.waiting import WAIT_S, wait_until


class Camera:
    """Sends previews, 25 a second, from a thread of its own; `size` may be changed meanwhile."""

    def __init__(self, folder: Path, name: str = "door", ring: Ring | None = None) -> None:
        self.name, self.size, self.sent = name, (160, 90), 0
        self.watched = threading.Event()
        self._publisher = PreviewPublisher(f"ipc://{folder}/{name}", ring.server() if ring else None)
        self.address = self._publisher.address
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.wait(0.04):
            if self._publisher.watched():
                picture = np.full((self.size[1], self.size[0], 3), self.sent % 250, np.uint8)
                jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
                self._publisher.send(Preview(jpeg, time.monotonic_ns(), self.sent))
                self.sent += 1
                self.watched.set()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(WAIT_S)
        self._publisher.close()


@contextmanager
def recording(folder: Path, *cameras: Camera, keys: Any = None, **more: Any) -> Iterator[RecorderSink]:
    given = {"folder": str(folder / "clips"), "before_s": 0.5, "after_s": 0.3, "fps": 20.0, "min_free_mb": 0.0}
    sink = RecorderSink(RecorderSettings(**{**given, **more}), "recorder", keys, sink_notes(folder))
    try:
        sink.follow({camera.name: camera.address for camera in cameras})
        yield sink
    finally:
        sink.close(WAIT_S)
        for camera in cameras:
            camera.close()


NOTES: list[tuple[str | None, str]] = []


def sink_notes(folder: Path) -> Any:
    NOTES.clear()
    return lambda event_id, clip: NOTES.append((event_id, clip))


def action(camera: Camera, start: float, end: float, number: int = 1) -> tuple[ActionEvent, ActionEvent]:
    """An action by wall clock, from `start` to `end` seconds ago."""
    now = time.time()
    first = event(camera=camera.name, id=f"{camera.name}-1-{number}", start_time=now - start, end_time=None)
    return first, event(camera=camera.name, id=first.id, event="end", start_time=now - start, end_time=now - end)


def clips(folder: Path) -> list[Path]:
    return sorted((folder / "clips").iterdir())


def decode(path: Path) -> tuple[float, list[Any]]:
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        frames = list(container.decode(video=0))
        return float(container.duration / 1e6), frames


def test_an_event_is_recorded_with_what_was_before_and_after_it(tmp_path: Path) -> None:
    camera = Camera(tmp_path)
    with recording(tmp_path, camera) as sink:
        wait_until(lambda: camera.sent >= 60)
        for one in action(camera, start=1.2, end=0.2):
            sink.write(one)
        wait_until(lambda: sink.figures().written == 1)
    (path,) = clips(tmp_path)
    duration, frames = decode(path)
    assert 1.0 <= duration <= 2.0  # half a second before, one of action, three tenths after
    assert 10 <= len(frames) <= 40  # 20 a second at most; a busy machine makes fewer
    greys = [int(frame.to_ndarray(format="gray")[45, 80]) for frame in frames]
    assert greys == sorted(greys) and greys[-1] - greys[0] >= 15
    steps = np.diff([float(frame.time) for frame in frames])
    assert steps.min() > 0.02
    assert [("door-1-1", path.name)] == NOTES
    assert (path.stat().st_mode & 0o777) == 0o600
    assert path.name.startswith("door_") and "_waving_" in path.name


def test_an_action_that_goes_on_is_cut_at_its_greatest_length(tmp_path: Path) -> None:
    camera = Camera(tmp_path)
    with recording(tmp_path, camera, max_s=1.0) as sink:
        wait_until(lambda: camera.sent >= 30)
        sink.write(action(camera, 0.1, 0)[0])
        wait_until(lambda: sink.figures().written == 1)
    duration, _ = decode(clips(tmp_path)[0])
    assert 0.4 <= duration <= 1.1


def test_a_camera_may_change_its_size_within_a_clip(tmp_path: Path) -> None:
    camera = Camera(tmp_path)
    with recording(tmp_path, camera) as sink:
        wait_until(lambda: camera.sent >= 30)
        start, _ = action(camera, 0.5, 0)
        sink.write(start)
        camera.size = (64, 96)
        sent = camera.sent
        wait_until(lambda: camera.sent >= sent + 10)
        sink.write(event(id=start.id, event="end", start_time=start.start_time, end_time=time.time()))
        wait_until(lambda: sink.figures().written == 1)
        camera.size = (64, 96)
    _, frames = decode(clips(tmp_path)[0])
    assert {(frame.width, frame.height) for frame in frames} == {(160, 90)}
    assert frames[-1].to_ndarray(format="gray")[45, 5] < 20  # black beside the upright picture


def test_several_cameras_are_recorded_at_once_and_only_the_labels_that_are_wanted(tmp_path: Path) -> None:
    cameras = [Camera(tmp_path, name) for name in ("door", "yard")]
    with recording(tmp_path, *cameras, labels=["waving"]) as sink:
        wait_until(lambda: all(camera.sent >= 20 for camera in cameras))
        for camera in cameras:
            for one in action(camera, 0.5, 0.3):
                sink.write(one)
        sink.write(event(id="x", label="still", start_time=time.time()))
        wait_until(lambda: sink.figures().written == 2)
        assert sink.figures().queued == 0
    assert {path.name.split("_")[0] for path in clips(tmp_path)} == {"door", "yard"}


def test_with_keys_the_services_own_process_sees_its_cameras_and_a_stranger_does_not(tmp_path: Path) -> None:
    ring = Ring.make(tmp_path)
    camera = Camera(tmp_path, ring=ring)
    with recording(tmp_path, camera, keys=ring.client("stranger")) as sink:
        assert not camera.watched.wait(0.5)
        sink.close(WAIT_S)
        with recording(tmp_path, keys=ring.server().own_client()) as known:
            known.follow({"door": camera.address})
            assert camera.watched.wait(WAIT_S)


def test_a_clip_is_not_made_twice_when_a_worker_says_its_event_again(tmp_path: Path) -> None:
    camera = Camera(tmp_path)
    told = []
    for _ in range(2):
        with recording(tmp_path) as sink:
            sink.follow({"door": camera.address})
            sent = camera.sent
            wait_until(lambda sent=sent: camera.sent >= sent + 20)
            told = told or list(action(camera, 0.4, 0.2))
            for one in told:
                sink.write(one)
            wait_until(lambda sink=sink: not sink._events and not sink._making)
    camera.close()
    assert len(clips(tmp_path)) == 1


def test_a_camera_without_pictures_is_counted_and_leaves_nothing(tmp_path: Path) -> None:
    camera = Camera(tmp_path)
    with recording(tmp_path, camera) as sink:
        sink.follow({})
        for one in action(camera, 0.1, 0.0):
            sink.write(one)
        wait_until(lambda: sink.figures().dropped == 1)
        assert sink.figures().detail == "no pictures came from door"
    assert clips(tmp_path) == []


def test_a_full_disk_is_counted_said_once_and_leaves_nothing_half_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera, full = Camera(tmp_path), threading.Event()

    class Writer(recorder.ClipWriter):
        def add(self, jpeg: bytes, time: float) -> bool:
            if full.is_set():
                raise OSError(28, "No space left on device")
            return super().add(jpeg, time)

    monkeypatch.setattr(recorder, "ClipWriter", Writer)
    full.set()
    with caplog.at_level(logging.INFO), recording(tmp_path, camera) as sink:
        wait_until(lambda: camera.sent >= 20)
        for number in range(3):
            for one in action(camera, 0.5, 0.3, number):
                sink.write(one)
            wait_until(lambda number=number: sink.figures().dropped == number + 1)
        assert clips(tmp_path) == []
        assert "No space left" in sink.figures().detail
        full.clear()
        for one in action(camera, 0.5, 0.3, 9):
            sink.write(one)
        wait_until(lambda: sink.figures().written == 1)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert len(clips(tmp_path)) == 1


def test_the_oldest_clips_make_room_for_new_ones_which_is_noted(tmp_path: Path) -> None:
    camera = Camera(tmp_path)
    with recording(tmp_path, camera, quota_mb=1.01) as sink:  # a megabyte is asked for before a clip is begun
        wait_until(lambda: camera.sent >= 20)
        for number in range(6):
            for one in action(camera, 0.5, 0.3, number):
                sink.write(one)
            wait_until(lambda number=number: sink.figures().written == number + 1)
    made = [clip for event_id, clip in NOTES if event_id is not None]
    gone = [clip for event_id, clip in NOTES if event_id is None]
    assert len(made) == 6 and gone and gone == made[: len(gone)]
    assert [path.name for path in clips(tmp_path)] == sorted(made[len(gone) :])
    assert sum(path.stat().st_size for path in clips(tmp_path)) <= 1.01e6


def test_clips_under_way_are_finished_at_the_end(tmp_path: Path) -> None:
    camera = Camera(tmp_path)
    with recording(tmp_path, camera) as sink:
        wait_until(lambda: camera.sent >= 20)
        sink.write(action(camera, 0.4, 0)[0])
        wait_until(lambda: sink.figures().queued == 1)
    assert [path.suffix for path in clips(tmp_path)] == [".mp4"]
    assert decode(clips(tmp_path)[0])[0] > 0.3


def test_a_library_without_the_encoder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = av.codec.Codec
    monkeypatch.setattr("av.codec.Codec", lambda name, mode: codec("no-such-encoder", mode))
    with pytest.raises(ConfigError, match=r"the recorder needs H\.264"):
        RecorderSink(RecorderSettings(folder=str(tmp_path)), "recorder")


def test_a_time_that_no_calendar_has_ends_no_clip_but_its_own(tmp_path: Path) -> None:
    camera = Camera(tmp_path)
    with recording(tmp_path, camera, at_once=1, max_s=1.0) as sink:
        assert camera.watched.wait(WAIT_S)
        sink.write(event(id="odd", start_time=1e15))
        wait_until(lambda: sink.figures().written == 1)
        for one in action(camera, 0.2, 0.1):
            sink.write(one)
        wait_until(lambda: sink.figures().written == 2)
    assert sink.figures().dropped == 0


def test_times_of_events_come_onto_the_clock_of_pictures_by_the_predictions() -> None:
    clocks = Clocks()
    assert clocks.of("door", 1e9 + 5, now=100.0, wall_now=1e9 + 7) == 98.0
    said = recognition(window=window(end=12.0), latency_ms=Latency(queue=0, inference=0, total=500))
    clocks.take(said, now=1000.0)  # a file's own time: what ended at 12.0 was captured at 999.5
    assert clocks.of("door", 10.0, now=1234.0, wall_now=1e9) == 997.5
    assert clocks.of("yard", 1e9, now=100.0, wall_now=1e9) == 100.0


def test_no_event_is_of_the_future() -> None:
    assert Clocks().of("door", 1e15, now=100.0, wall_now=1e9) == 100.0


def test_a_clip_ends_after_its_event_and_never_after_its_greatest_length() -> None:
    recording = Recording(event(), "a.mp4", start=100.0, end=160.0)
    assert not recording.is_over(newest=159.0, now=159.5)
    recording.ends_at(120.0)
    recording.ends_at(150.0)  # said twice
    assert recording.end == 120.0
    assert not recording.is_over(newest=119.9, now=120.5)
    assert recording.is_over(newest=120.1, now=120.2)
    assert recording.is_over(newest=110.0, now=121.1)  # the camera is lost: no later picture comes
    recording.ends_at(50.0)
    assert recording.end == 100.0
