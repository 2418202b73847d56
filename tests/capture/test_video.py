"""Files, webcams and network streams through OpenCV: real files, a fake cv2.VideoCapture, and ports that refuse."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from stream_i3d.capture import video
from stream_i3d.capture.key_frames import KeyFrameGate
from stream_i3d.capture.source import Source, open_source
from stream_i3d.capture.video import VideoSource, open_file, open_url, open_webcam, stream_options
from stream_i3d.config import CaptureConfig
from stream_i3d.errors import SourceNotFound, SourceUnavailable
from stream_i3d.preprocess import Image
from tests.rtsp import RtspServer, requires_rtsp

RATES = [10.0, 19.62, 25.0, 29.97, 60.0]


class FakeCapture:
    """What VideoSource uses of a cv2.VideoCapture: `stamps_ms` are the pictures, then nothing more comes."""

    def __init__(
        self, stamps_ms: list[float], fps: float = 25.0, opened: bool = True, picture: Image | None = None
    ) -> None:
        self._stamps_ms = stamps_ms
        self._opened = opened
        self._picture = np.zeros((48, 64, 3), np.uint8) if picture is None else picture
        self._position = -1
        self.properties = {cv2.CAP_PROP_FPS: fps, cv2.CAP_PROP_FRAME_WIDTH: 64.0, cv2.CAP_PROP_FRAME_HEIGHT: 48.0}
        self.decodes = True
        self.released = False

    def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
        return self._opened

    def get(self, key: int) -> float:
        if key == cv2.CAP_PROP_POS_MSEC:
            return self._stamps_ms[self._position]
        return self.properties.get(key, 0.0)

    def grab(self) -> bool:
        self._position += 1
        return self._position < len(self._stamps_ms)

    def retrieve(self) -> tuple[bool, Image | None]:
        return (True, self._picture) if self.decodes else (False, None)

    def release(self) -> None:
        self.released = True


def media_times(source: Source) -> list[float]:
    times: list[float] = []
    while (time := source.grab()) is not None:
        times.append(time)
    return times


@pytest.fixture
def counted_video(tmp_path: Path) -> Path:
    """Twenty pictures, each twelve grey levels above the one before it."""
    path = tmp_path / "counted.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (64, 64))
    assert writer.isOpened()
    for number in range(20):
        writer.write(np.full((64, 64, 3), 12 * number, np.uint8))
    writer.release()
    return path


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port of loopback that is taken and does not listen, so that every connection is refused."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.mark.parametrize("fps", RATES)
def test_a_files_media_times_begin_at_nought_and_step_by_its_frame_time(
    make_video: Callable[[float, float], Path], fps: float
) -> None:
    source = open_file(str(make_video(fps, 2.0)))
    try:
        times = media_times(source)
    finally:
        source.close()
    assert len(times) == round(2.0 * fps)
    assert times == pytest.approx([index / fps for index in range(len(times))], abs=1e-3)


def test_no_picture_of_a_file_is_lost_or_out_of_order(counted_video: Path) -> None:
    source = open_file(str(counted_video))
    numbers = []
    while source.grab() is not None:
        numbers.append(round(float(source.retrieve().mean()) / 12))
    source.close()
    assert numbers == list(range(20))


def test_pictures_are_bgr_uint8_of_the_files_own_size(tmp_path: Path) -> None:
    path = tmp_path / "blue.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (96, 64))
    for _ in range(3):
        writer.write(np.full((64, 96, 3), (220, 30, 30), np.uint8))
    writer.release()
    source = open_file(str(path))
    source.grab()
    picture = source.retrieve()
    source.close()
    assert (picture.shape, picture.dtype) == ((64, 96, 3), np.uint8)
    blue, green, red = picture.reshape(-1, 3).mean(axis=0)
    assert blue > 180 > 80 > max(green, red)


def test_a_file_tells_its_size_rate_and_duration(make_video: Callable[[float, float], Path]) -> None:
    source = open_file(str(make_video(29.97, 2.0)))
    source.close()
    assert source.description == "160x120, nominally 29.97 fps"
    assert source.duration_s == pytest.approx(2.0, abs=0.05)
    assert not source.live


def test_a_picture_may_be_skipped_without_being_retrieved(counted_video: Path) -> None:
    source = open_file(str(counted_video))
    for _ in range(11):
        source.grab()
    picture = source.retrieve()
    source.close()
    assert round(float(picture.mean()) / 12) == 10


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.mp4"
    with pytest.raises(SourceNotFound, match=rf"^no such file: {path}; give a video file"):
        open_file(str(path))


def test_a_name_that_no_file_can_have_is_not_found_and_not_an_error_of_the_program() -> None:
    """That one would end the capture process, to be started again for ever."""
    for name in ("x" * 300, "a\0b"):
        with pytest.raises(SourceNotFound, match=r"^no such file: "):
            open_file(name)
    with pytest.raises(SourceNotFound, match="does not exist"):
        open_webcam("/dev/" + "x" * 300)


def test_a_file_in_a_folder_that_is_closed_to_us_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied")  # to root, as which tests may run, nothing is closed

    monkeypatch.setattr(Path, "stat", closed)
    with pytest.raises(SourceNotFound, match=r"^/root/a\.mp4: a folder on the way is closed to this user"):
        open_file("/root/a.mp4")


def test_a_folder_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFound, match="is a folder; give a video file in it"):
        open_file(str(tmp_path))


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff" * 500, b"not a video at all\n" * 100], ids=["empty", "bytes", "text"]
)
def test_a_file_that_is_no_video_is_said_in_one_line_of_ours(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = tmp_path / "notes.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceNotFound, match=r"notes\.mp4 is not a video that FFmpeg can read"):
        open_file(str(path))
    assert "OpenCV" not in "".join(capfd.readouterr())


def test_the_factory_opens_each_kind_with_its_own_opener(
    counted_video: Path, refusing_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stream_i3d.capture.address import parse_source

    config = CaptureConfig(open_timeout_s=1.0)
    file = open_source(parse_source(str(counted_video)), config)
    file.close()
    assert file.description.startswith("64x64")
    assert open_source(parse_source("synthetic://"), config).description.endswith("synthetic")
    with pytest.raises(SourceUnavailable, match="refused"):
        open_source(parse_source(f"rtsp://127.0.0.1:{refusing_port}/"), config)
    monkeypatch.setattr(video, "list_webcams", list)
    with pytest.raises(SourceNotFound, match="webcam 97"):
        open_source(parse_source("97"), config)


def test_a_live_source_has_no_duration_even_where_opencv_counts_frames() -> None:
    capture = FakeCapture([0.0])
    capture.properties[cv2.CAP_PROP_FRAME_COUNT] = 1000.0
    assert VideoSource(capture, name="webcam 0").duration_s is None


def test_a_webcam_that_dies_is_unavailable() -> None:
    source = VideoSource(FakeCapture([0.0, 33.0]), name="webcam 0")
    assert [source.grab(), source.grab()] == [0.0, 0.0]
    with pytest.raises(SourceUnavailable, match=r"^webcam 0: the stream ended or sent nothing"):
        source.grab()


def test_a_picture_that_cannot_be_decoded_is_unavailable() -> None:
    capture = FakeCapture([0.0])
    capture.decodes = False
    source = VideoSource(capture, name="webcam 0")
    source.grab()
    with pytest.raises(SourceUnavailable, match="could not be decoded"):
        source.retrieve()


def test_a_picture_without_colour_planes_is_unavailable_rather_than_a_crash_further_on() -> None:
    source = VideoSource(FakeCapture([0.0], picture=np.zeros((48, 64), np.uint8)), name="webcam 0")
    source.grab()
    with pytest.raises(SourceUnavailable, match="could not be decoded"):
        source.retrieve()


def test_closing_releases_the_device() -> None:
    capture = FakeCapture([0.0])
    VideoSource(capture, name="webcam 0").close()
    assert capture.released


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="device paths are Linux's")
@pytest.mark.parametrize("target", ["97", "/dev/video97"])
def test_a_webcam_that_is_not_there_is_told_with_the_ones_that_are(
    monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr(video, "list_webcams", lambda: ["/dev/video0", "/dev/video2"])
    with pytest.raises(SourceNotFound, match="/dev/video97 does not exist; cameras found: /dev/video0, /dev/video2;"):
        open_webcam(target)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="device paths are Linux's")
def test_a_machine_without_webcams_says_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "list_webcams", list)
    with pytest.raises(SourceNotFound, match="cameras found: none;"):
        open_webcam("97")


def test_a_webcam_that_is_busy_is_unavailable_and_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device, capture = tmp_path / "video0", FakeCapture([], opened=False)
    device.touch()
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda *_: capture)
    with pytest.raises(SourceUnavailable, match="gives no picture; close other programs"):
        open_webcam(str(device))
    assert capture.released


def test_a_webcam_is_a_live_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "video0"
    device.touch()
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda *_: FakeCapture([0.0, 33.0], fps=30.0))
    source = open_webcam(str(device))
    assert source.live
    assert source.description == "64x48, nominally 30 fps"


def test_a_port_that_refuses_is_told_without_the_password(refusing_port: int) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        open_url(f"rtsp://admin:s3cret@127.0.0.1:{refusing_port}/live", 1.0, 1.0)
    message = str(caught.value)
    assert f"127.0.0.1:{refusing_port}: connection refused; is the camera on, and the port right?" in message
    assert message.startswith(f"rtsp://***@127.0.0.1:{refusing_port}/live: ")
    assert "s3cret" not in message
    assert "admin" not in message


def test_a_host_that_is_unknown_is_told_without_the_password() -> None:
    with pytest.raises(SourceUnavailable) as caught:
        open_url("rtsp://admin:s3cret@camera.invalid/live", 1.0, 1.0)
    message = str(caught.value)
    assert "camera.invalid" in message
    assert "s3cret" not in message


@pytest.mark.parametrize("host", ["a..b", "x" * 70])
def test_a_host_name_that_cannot_be_one_is_unknown(host: str) -> None:
    with pytest.raises(SourceUnavailable, match=f"host '{host}' is unknown"):
        open_url(f"rtsp://{host}/live", 1.0, 1.0)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), r"host 'door\.invalid' is unknown; check the name"),
        (TimeoutError("timed out"), r"no answer from door\.invalid:554 within 2 s"),
        (OSError(113, "No route to host"), r"door\.invalid:554: no route to host; is the camera on"),
    ],
    ids=["unknown", "silent", "unreachable"],
)
def test_each_way_not_to_reach_a_host_has_its_own_words(
    monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
) -> None:
    def fail(address: tuple[str, int], timeout: float) -> socket.socket:
        assert timeout == 2.0
        raise error

    monkeypatch.setattr(socket, "create_connection", fail)
    with pytest.raises(SourceUnavailable, match=words):
        open_url("rtsp://door.invalid/", 2.0, 2.0)


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("rtsp://door.invalid/live", 554),
        ("RTSP://door.invalid/live", 554),
        ("rtsps://door.invalid/live", 322),
        ("rtmp://door.invalid/live", 1935),
        ("rtmps://door.invalid/live", 443),
        ("http://door.invalid/live", 80),
        ("https://door.invalid/live", 443),
        ("http://door.invalid:8081/live", 8081),
    ],
)
def test_each_scheme_is_tried_at_its_own_port(monkeypatch: pytest.MonkeyPatch, url: str, port: int) -> None:
    tried: list[tuple[str, int]] = []

    def refuse(address: tuple[str, int], timeout: float) -> socket.socket:
        tried.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(SourceUnavailable):
        open_url(url, 1.0, 1.0)
    assert tried == [("door.invalid", port)]


def test_a_url_that_is_none_is_told_without_the_password() -> None:
    with pytest.raises(SourceUnavailable, match=r"rtsp://\*\*\*@\[fe80/: ") as caught:
        open_url("rtsp://admin:s3cret@[fe80/", 1.0, 1.0)
    assert "s3cret" not in str(caught.value)


def test_a_port_that_is_no_port_is_told() -> None:
    with pytest.raises(SourceUnavailable, match=r"camera\.invalid:99999"):
        open_url("rtsp://camera.invalid:99999/", 1.0, 1.0)


def test_a_host_that_answers_and_gives_no_video_is_told_and_released(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    capture = FakeCapture([], opened=False)

    def fake(*arguments: Any) -> FakeCapture:
        opened.append(arguments)
        return capture

    monkeypatch.setattr(video.cv2, "VideoCapture", fake)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"rtsp://admin:s3cret@127.0.0.1:{server.getsockname()[1]}/live"
        with pytest.raises(
            SourceUnavailable, match="the host answers, but gives no video; check path, user name"
        ) as caught:
            open_url(url, 1.0, 2.0)
    assert "s3cret" not in str(caught.value)
    assert capture.released
    assert opened == [(url, cv2.CAP_FFMPEG, stream_options(1.0, 2.0))]


def test_a_stream_is_named_without_its_password_when_it_ends_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda *_: FakeCapture([]))
    with socket.create_server(("127.0.0.1", 0)) as server:
        source = open_url(f"rtsp://admin:s3cret@127.0.0.1:{server.getsockname()[1]}/live", 1.0, 1.0)
    assert source.live
    with pytest.raises(SourceUnavailable) as caught:
        source.grab()
    assert str(caught.value).startswith("rtsp://***@127.0.0.1:")
    assert "s3cret" not in source.description


def test_a_stream_is_opened_with_both_time_limits() -> None:
    options = stream_options(2.5, 7.0)
    pairs = dict(zip(options[::2], options[1::2], strict=True))
    assert pairs[cv2.CAP_PROP_OPEN_TIMEOUT_MSEC] == 2500
    assert pairs[cv2.CAP_PROP_READ_TIMEOUT_MSEC] == 7000
    assert all(isinstance(option, int) for option in options)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [(None, "rtsp_transport;tcp"), ("rtsp_transport;tcp|max_delay;0", "rtsp_transport;tcp|max_delay;0")],
)
def test_rtsp_goes_over_tcp_unless_somebody_decided_otherwise(given: str | None, wanted: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OPENCV_FFMPEG_CAPTURE_OPTIONS"}
    if given is not None:
        environment["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = given
    code = "import os, stream_i3d.capture.video; print(os.environ['OPENCV_FFMPEG_CAPTURE_OPTIONS'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == wanted


def test_this_opencv_can_read_files_and_streams() -> None:
    assert video.has_ffmpeg()


def test_an_opencv_without_ffmpeg_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video.cv2, "getBuildInformation", lambda: "  Video I/O:\n    FFMPEG:                      NO\n")
    assert not video.has_ffmpeg()


def test_a_stream_that_is_joined_between_key_pictures_gives_grey_ones_which_are_not_intact(tmp_path: Path) -> None:
    """MPEG-4 part 2, whose decoder hands out differences to nothing; H.264's and H.265's do not."""
    path = tmp_path / "joined.m4v"
    with av.open(os.devnull, "w", format="mpegts") as sink:
        stream = sink.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 20
        picture = np.full((48, 64, 3), 250, np.uint8)
        packets = [
            bytes(packet)
            for number in range(40)
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.roll(picture, number), format="rgb24"))
        ]
    path.write_bytes(b"".join(packets[5:]))
    source = video.VideoSource(cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), name="joined", gate=KeyFrameGate())
    seen = []
    for _ in range(30):
        source.grab()
        seen.append((source.intact, float(source.retrieve().mean()) > 240))
    source.close()
    assert seen[0] == (False, False)
    assert seen[-1] == (True, True)
    assert all(bright for intact, bright in seen if intact)


@requires_rtsp
@pytest.mark.system
def test_a_camera_that_comes_back_with_another_size_says_so(tmp_path: Path) -> None:
    with RtspServer(size="320x240") as server:
        first = video.open_url(server.url, 20, 20)
        first.grab()
        assert first.retrieve().shape == (240, 320, 3)
        port = server.port
    first.close()
    with RtspServer(size="160x120", port=port, fps="10") as server:
        second = video.open_url(server.url, 20, 20)
        second.grab()
        assert second.intact  # whoever joins H.264 is given nothing before a key picture
        assert second.retrieve().shape == (120, 160, 3)
        assert second.description == "160x120, nominally 10 fps"
    second.close()


# --- pictures that are too large


def encoded(path: Path, width: int, height: int, frames: int = 3, pixel_format: str = "yuv420p") -> Path:
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        for number in range(frames):
            picture = np.full((height, width, 3), 40 * number, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                sink.mux(packet)
        for packet in stream.encode():
            sink.mux(packet)
    return path


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files be opened without a decoder only."""
    real = cv2.VideoCapture

    def opened(*arguments: Any) -> Any:
        assert "codec_whitelist;none" in os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"], "a picture could be decoded"
        return real(*arguments)

    monkeypatch.setattr(video.cv2, "VideoCapture", opened)


def test_a_still_picture_of_16000_pixels_a_side_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_decoding(monkeypatch)
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (16000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    path = tmp_path / "large.png"
    path.write_bytes(header + bytes(100))
    with pytest.raises(SourceNotFound, match=r"large\.png: its pictures of 16000 x 16000 are too large: at most 35\.7"):
        open_file(str(path))


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "ts", "h264"])
def test_a_video_that_an_explicit_limit_cannot_hold_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    path = encoded(tmp_path / f"large.{ending}", 2560, 1440)
    forbid_decoding(monkeypatch)
    with pytest.raises(
        SourceNotFound, match=r"2560 x 1440 take about 204 MB to decode, .* 150; scale it down, or allow"
    ):
        open_file(str(path), 150)


def test_ten_bits_take_twice_the_memory_of_eight(tmp_path: Path) -> None:
    deep = encoded(tmp_path / "deep.mp4", 2560, 1440, pixel_format="yuv420p10le")
    with pytest.raises(SourceNotFound, match=r"take about 268 MB to decode, more than capture\.max_memory_mb 230"):
        open_file(str(deep), 230)
    source = open_file(str(encoded(tmp_path / "plain.mp4", 2560, 1440)), 230)
    source.close()


def test_a_size_that_grows_on_the_way_is_refused_where_it_cannot_be_held() -> None:
    capture = FakeCapture([0.0, 40.0], picture=np.zeros((1200, 1600, 3), np.uint8))
    camera = VideoSource(capture, name="door", memory_limit=130.0)
    camera.grab()
    with pytest.raises(SourceUnavailable, match="door: its pictures of 1600 x 1200"):  # its settings may be changed
        camera.retrieve()
    assert capture.released


def test_a_source_says_what_its_pictures_may_hold(tmp_path: Path) -> None:
    source = open_file(str(encoded(tmp_path / "small.mp4", 320, 240)))
    assert source.memory_limit_mb == 500
    source.close()
    eight_k = FakeCapture([0.0])
    eight_k.properties |= {cv2.CAP_PROP_FRAME_WIDTH: 7680.0, cv2.CAP_PROP_FRAME_HEIGHT: 4320.0}
    assert VideoSource(eight_k, name="door").memory_limit_mb > 1000
