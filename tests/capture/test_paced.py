"""A network stream read in a thread: the thread's work done by hand on a fake clock, and once for real over HTTP."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from stream_i3d.capture.paced import PacedReader
from stream_i3d.capture.reader import Clock, FrameReader
from stream_i3d.capture.timing import StreamTiming
from stream_i3d.capture.video import open_url
from stream_i3d.errors import SourceUnavailable
from stream_i3d.messages import Frame
from stream_i3d.preprocess import Image, Preprocessing
from tests.bursts import BurstRelay
from tests.http_streams import HttpStreams, LivePlaylist, encode_hls, text, whole
from tests.rtsp import RtspServer, requires_rtsp

SMALL = Preprocessing(short_side=32, crop_size=32)


class Stream:
    """Pictures with stamps, each arriving at its time; then it fails."""

    live = True
    description = "fake"
    duration_s = None
    intact = True
    pixel_aspect = 1.0
    until = None
    memory_limit_mb = None

    def __init__(self, pictures: list[tuple[float, float]]) -> None:
        self.now = 0.0
        self.left = list(pictures)

    def grab(self) -> float | None:
        if not self.left:
            raise SourceUnavailable("the stream ended")
        stamp, arrival = self.left.pop(0)
        self.now = max(self.now, arrival)
        return stamp

    def retrieve(self) -> Image:
        return np.zeros((48, 64, 3), np.uint8)

    def doubt(self) -> None:
        return

    def close(self) -> None:
        return


class Previews:
    """Wants every picture."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, int]] = []

    def wants(self, now_s: float) -> bool:
        return True

    def wants_later(self, now_s: float) -> bool:
        return True

    def show(self, bgr: Image, capture_ns: int, pixel_aspect: float) -> None:
        self.shown.append(("at once", capture_ns))

    def encode(self, bgr: Image, pixel_aspect: float) -> bytes:
        return b"\xff\xd8"

    def show_encoded(self, jpeg: bytes, capture_ns: int) -> None:
        self.shown.append(("later", capture_ns))


def reader_of(stream: Stream, previews: Previews | None = None, bursty: bool = False) -> PacedReader:
    clock = Clock(lambda: round(stream.now * 1e9), lambda: 1.7e9 + stream.now, lambda until: True)
    timing = StreamTiming(bursty)
    return PacedReader(
        lambda timing, tap: FrameReader(stream, "door", 7, SMALL, clock, paced=True, preview=tap, timing=timing),
        timing,
        clock,
        previews,
    )


def bursts(seconds: int, every_s: int) -> list[tuple[float, float]]:
    return [(n / 25, 100 + (n // (25 * every_s) + 1) * every_s + (n % 25) * 1e-4) for n in range(25 * seconds)]


def drained(reader: PacedReader) -> list[Frame]:
    frames: list[Frame] = []
    while more := reader.read(0.0):
        frames += more
    return frames


def test_a_steady_cameras_frames_are_passed_on_as_they_come() -> None:
    stream = Stream([(n / 25, 100 + n / 25) for n in range(100)])
    reader = reader_of(stream)
    for number in range(100):
        assert reader.turn() and reader.progressed()
        (frame,) = drained(reader)
        assert frame.stamp.seq == number
        assert frame.stamp.capture_ns == pytest.approx(stream.now * 1e9, abs=10)
        assert (frame.stamp.delay_ns, reader.delay_s) == (0, 0.0)


def test_frames_of_bursts_are_of_when_they_were_taken_and_leave_when_they_are_due() -> None:
    stream = Stream(bursts(60, 2))
    reader, left = reader_of(stream, bursty=True), []
    for tick in range(100 * 100, 100 * 160):
        stream.now = tick / 100
        while stream.left and stream.left[0][1] <= stream.now:
            assert reader.turn()
        left += [(stream.now, frame.stamp) for frame in drained(reader)]
    assert [stamp.seq for _, stamp in left] == list(range(len(left)))
    settled = left[25 * 10 : 25 * 50]
    assert np.diff([stamp.capture_ns for _, stamp in settled]) == pytest.approx(4e7, rel=0.06)
    assert max(b - a for (a, _), (b, _) in pairwise(settled)) < 0.1
    for at, stamp in settled:
        assert at == pytest.approx((stamp.capture_ns + stamp.delay_ns) * 1e-9, abs=0.05)
        assert stamp.wall_time == pytest.approx(1.7e9 + stamp.capture_ns * 1e-9, abs=1e-3)
        assert 1.5 < stamp.delay_ns * 1e-9 < 3


def test_what_was_read_before_a_stream_failed_is_still_passed_on() -> None:
    stream = Stream(bursts(8, 2))
    reader = reader_of(stream, bursty=True)
    while reader.turn():
        pass
    passed = len(drained(reader))
    assert passed < 200
    stream.now += 20
    with pytest.raises(SourceUnavailable, match="the stream ended"):
        while True:
            passed += len(reader.read(0.0) or [])
    assert passed == 200


def test_previews_are_shown_at_once_of_a_steady_camera_and_when_due_of_bursts() -> None:
    previews = Previews()
    steady = reader_of(Stream([(n / 25, 100 + n / 25) for n in range(10)]), previews)
    for _ in range(10):
        steady.turn()
    assert [how for how, _ in previews.shown] == ["at once"] * 10
    previews = Previews()
    stream = Stream(bursts(10, 2))
    reader = reader_of(stream, previews, bursty=True)
    for _ in range(150):
        reader.turn()
    before = len(previews.shown)
    drained(reader)
    assert before <= 2
    assert len(previews.shown) < 150
    stream.now += 10
    drained(reader)
    assert len(previews.shown) == 150
    assert [how for how, _ in previews.shown].count("later") >= 148


def test_a_read_that_hangs_is_no_progress() -> None:
    stream = Stream(bursts(8, 2))
    clock = Clock(lambda: round(stream.now * 1e9), lambda: 0.0, lambda until: True)
    reader = PacedReader(
        lambda timing, tap: FrameReader(stream, "door", 7, SMALL, clock, paced=True, timing=timing),
        StreamTiming(),
        clock,
    )
    reader.turn()
    assert reader.progressed() and not reader.progressed()
    stream.now += 12.5
    reader.read(0.0)
    assert not reader.progressed()


def test_what_is_held_back_after_the_end_of_a_stream_is_no_hang() -> None:
    reader = reader_of(Stream(bursts(8, 2)), bursty=True)
    while reader.turn():
        pass
    assert reader.progressed() and reader.read(0.0) is not None and reader.progressed()


# --- for real


def watch(url: str, seconds: float, bursty: bool) -> list[tuple[float, Frame]]:
    """Read a URL for a while; return each frame with the time at which it was passed on."""
    source = open_url(url, 10.0, 10.0)
    assert source.live
    clock = Clock(time.monotonic_ns, time.time, lambda until: True)
    reader = PacedReader(
        lambda timing, tap: FrameReader(source, "door", 7, SMALL, clock, paced=True, timing=timing),
        StreamTiming(bursty),
        clock,
    )
    reader.start()
    seen: list[tuple[float, Frame]] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        seen += [(time.monotonic(), frame) for frame in reader.read() or []]
    while not reader.close(1.0):
        pass
    source.close()
    return seen


def longest_pause(seen: list[tuple[float, Frame]]) -> float:
    return max(after - before for (before, _), (after, _) in pairwise(seen))


def test_a_live_playlist_is_passed_on_evenly_and_every_window_spans_its_own_time(tmp_path: Path) -> None:
    segments = encode_hls(tmp_path, 40, 2)
    live = LivePlaylist(segments, 2.0)
    routes = {"/live.m3u8": text(lambda: live.text(time.monotonic() - server.started_at))}
    routes |= {f"/{segment.name}": whole(segment.read_bytes(), "video/mp2t") for segment in segments}
    with HttpStreams(routes) as server:
        seen = watch(server.url("/live.m3u8"), 14.0, bursty=True)
    assert len(seen) > 25 * 9  # by arrival, bursts were thinned to a frame in ten
    assert [frame.stamp.seq for _, frame in seen] == list(range(len(seen)))
    assert len({frame.stamp.epoch for _, frame in seen}) == 1
    stamps = [frame.stamp.capture_ns * 1e-9 for _, frame in seen[100:]]
    spans = [late - early for early, late in zip(stamps, stamps[15:], strict=False)]
    assert 0.5 < min(spans) <= max(spans) < 0.7
    assert longest_pause(seen[100:]) < 1.5  # segments come 2 s apart


@requires_rtsp
def test_an_rtsp_camera_that_comes_in_bursts_is_timed_by_its_stamps(tmp_path: Path) -> None:
    with RtspServer(pattern="ball", size="160x120") as server, BurstRelay(server.port, every_s=1.0) as relay:
        seen = watch(server.url.replace(f":{server.port}", f":{relay.port}"), 16.0, bursty=False)
    settled = seen[25 * 8 :]
    assert len(settled) > 100
    steps = np.diff([frame.stamp.capture_ns for _, frame in settled if not frame.stamp.repeat]) * 1e-9
    assert np.mean(np.abs(steps - 0.04) < 0.005) > 0.9
    assert longest_pause(settled) < 0.9
