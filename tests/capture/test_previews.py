"""The maker of previews with a channel and an encoder under the test's control."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from stream_i3d.capture.previews import Previewer, encode_jpeg
from stream_i3d.config import PreviewConfig
from stream_i3d.preprocess import Image
from stream_i3d.scenes import SceneRenderer
from stream_i3d.transport.wire import Preview

WAIT_S = 10.0
PICTURE = np.zeros((48, 64, 3), np.uint8)


class FakeChannel:
    """Watched when the test says so; each look of the previewer's thread can be waited for."""

    def __init__(self, watched: bool) -> None:
        self.watching = watched
        self.sent: queue.Queue[Preview] = queue.Queue()
        self.closed = False
        self._looks = threading.Condition()
        self._count = 0

    def watched(self, wait_s: float = 0.0) -> bool:
        with self._looks:
            self._count += 1
            self._looks.notify_all()
            if wait_s:
                self._looks.wait(0.001)
        return self.watching

    def looked(self) -> None:
        """Wait until the thread has looked, and acted on it, since now."""
        with self._looks:
            before = self._count
            assert self._looks.wait_for(lambda: self._count >= before + 2, WAIT_S)

    def send(self, preview: Preview) -> None:
        self.sent.put(preview)

    def close(self) -> None:
        self.closed = True


class GatedEncoder:
    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.calls = 0
        self.at_once = 0

    def __call__(self, picture: Image, config: PreviewConfig) -> bytes:
        self.calls += 1
        self.at_once += 1
        assert self.at_once == 1
        self.begun.release()
        assert self.gate.acquire(timeout=WAIT_S)
        self.at_once -= 1
        return b"\xff\xd8"


@pytest.fixture
def encoder() -> GatedEncoder:
    return GatedEncoder()


@pytest.fixture
def rig(encoder: GatedEncoder) -> Iterator[tuple[Previewer, FakeChannel]]:
    channel = FakeChannel(watched=True)
    previewer = Previewer(channel, PreviewConfig(fps=10), encoder)
    channel.looked()
    yield previewer, channel
    encoder.gate.release(100)
    previewer.close()
    assert channel.closed


def test_nothing_is_wanted_and_nothing_encoded_while_nobody_watches(encoder):
    channel = FakeChannel(watched=False)
    with Previewer(channel, PreviewConfig(fps=10), encoder) as previewer:
        channel.looked()
        assert not any(previewer.wants(seconds / 10) for seconds in range(50))
        assert previewer.dropped == 0
        channel.watching = True
        channel.looked()
        assert previewer.wants(5.0)
    assert encoder.calls == 0


def test_a_picture_is_not_encoded_when_the_last_watcher_has_left_meanwhile(rig, encoder):
    previewer, channel = rig
    assert previewer.wants(0.0)
    channel.watching = False
    previewer.show(PICTURE, 1)
    channel.looked()
    assert encoder.calls == 0
    assert not previewer.wants(1.0)


def test_a_wanted_picture_is_sent_with_its_time_and_number(rig, encoder):
    previewer, channel = rig
    for number in range(2):
        assert previewer.wants(number / 10)
        previewer.show(PICTURE, 7 + number)
        encoder.gate.release()
        preview = channel.sent.get(timeout=WAIT_S)
        assert (preview.capture_ns, preview.seq, preview.jpeg) == (7 + number, number, b"\xff\xd8")
        channel.looked()


def test_pictures_are_wanted_at_the_previews_own_rate(rig):
    previewer, _ = rig
    wanted = [number for number in range(100) if previewer.wants(number / 50)]  # 50 a second come, 10 are wanted
    assert len(wanted) == pytest.approx(20, abs=1)


def test_at_most_one_picture_is_in_flight_and_others_are_dropped_and_counted(rig, encoder):
    previewer, channel = rig
    assert previewer.wants(0.0)
    previewer.show(PICTURE, 1)
    assert encoder.begun.acquire(timeout=WAIT_S)
    assert [previewer.wants(tick / 10) for tick in (1, 2, 3)] == [False, False, False]
    assert previewer.dropped == 3
    encoder.gate.release()
    assert channel.sent.get(timeout=WAIT_S).seq == 0
    channel.looked()
    assert previewer.wants(0.4)
    previewer.show(PICTURE, 2)
    encoder.gate.release()
    assert channel.sent.get(timeout=WAIT_S).seq == 4  # the gap tells of the drops
    assert encoder.calls == 2


@pytest.mark.parametrize(
    ("size", "max_side", "encoded"),
    [
        ((640, 480), 1280, (640, 480)),
        ((1920, 1080), 1280, (1280, 720)),
        ((480, 1920), 1280, (320, 1280)),
        ((4096, 64), 64, (64, 1)),
    ],
)
def test_a_jpeg_keeps_the_aspect_within_the_longest_side(size, max_side, encoded):
    width, height = size
    jpeg = encode_jpeg(np.zeros((height, width, 3), np.uint8), PreviewConfig(max_side=max_side))
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and picture.shape[:2] == encoded[::-1]


def test_a_jpeg_shows_the_picture_in_its_colours():
    picture = np.asarray(SceneRenderer(2, (320, 240)).render(1.0))
    jpeg = encode_jpeg(picture, PreviewConfig())
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert np.abs(decoded.astype(int) - picture).mean() < 6
    assert len(encode_jpeg(picture, PreviewConfig(quality=30))) < len(jpeg)


def test_a_preview_has_square_pixels(rig, encoder, monkeypatch):
    previewer, channel = rig
    shapes = []
    monkeypatch.setattr(previewer, "_encode", lambda picture, config: shapes.append(picture.shape) or b"\xff\xd8")
    for aspect in (1.0, 2.0, 0.5):
        assert previewer.wants(aspect * 10 if aspect != 1 else 0.0) or previewer.wants(100.0)
        previewer.show(PICTURE, 1, aspect)
        channel.sent.get(timeout=WAIT_S)
        channel.looked()
    assert shapes == [(48, 64, 3), (48, 128, 3), (96, 64, 3)]
