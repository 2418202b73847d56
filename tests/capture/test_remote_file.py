"""Files and streams behind http(s) URLs, told apart: by a real server on loopback."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest
from av.stream import Disposition

from stream_i3d.capture.remote_file import broke_off, comes_in_segments, names_a_length
from stream_i3d.capture.source import Source
from stream_i3d.capture.video import open_file, open_url
from stream_i3d.capture.video_file import open_remote_file
from stream_i3d.errors import SourceNotFound, SourceUnavailable
from tests.http_streams import (
    HttpStreams,
    LivePlaylist,
    encode,
    encode_hls,
    endless,
    moving_box,
    text,
    whole,
)
from tests.video_files import ORIENTATIONS, corners, display_matrix, two_tracks, write_film

CONTAINERS = {"mp4": None, "mkv": "matroska", "ts": "mpegts", "avi": None, "flv": None}
SECONDS = 6


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("files")
    for suffix, container in CONTAINERS.items():
        encode(folder / f"a.{suffix}", SECONDS, container=container)
    return {suffix: (folder / f"a.{suffix}").read_bytes() for suffix in CONTAINERS}


def read_all(source: Source) -> list[float]:
    try:
        return list(itertools.takewhile(lambda time: time is not None, iter(source.grab, None)))  # type: ignore[arg-type]
    finally:
        source.close()


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_behind_a_url_is_read_to_its_end_with_media_times(
    files: dict[str, bytes], suffix: str, ranges: bool
) -> None:
    with HttpStreams({"/a": whole(files[suffix], "application/octet-stream", ranges)}) as server:
        source = open_url(server.url("/a"), 5.0, 5.0)
        assert not source.live
        times = read_all(source)
    assert times == pytest.approx([number / 25 for number in range(25 * SECONDS)], abs=0.002)


def test_a_file_that_is_sent_in_chunks_is_one_by_its_container(files: dict[str, bytes]) -> None:
    with HttpStreams({"/a": whole(files["mkv"], "video/x-matroska", ranges=False, length=False)}) as server:
        source = open_url(server.url("/a"), 5.0, 5.0)
        assert not source.live and source.duration_s == pytest.approx(SECONDS)
        assert len(read_all(source)) == 25 * SECONDS


@pytest.mark.parametrize("suffix", ["mkv", "avi", "flv"])
def test_a_file_that_breaks_off_is_told_and_is_no_end(files: dict[str, bytes], suffix: str) -> None:
    half = len(files[suffix]) // 2
    with HttpStreams({"/a": whole(files[suffix], "video/x", ranges=False, at_most=half)}) as server:
        source = open_url(server.url("/a"), 5.0, 5.0)
        with pytest.raises(SourceNotFound, match=r"/a broke off at [123]\.\d s of 6\.0 s"):
            read_all(source)


def all_of(source: Source) -> tuple[str, list[tuple[float, float | None, bytes]]]:
    found = []
    while (time := source.grab()) is not None:
        found.append((time, source.until, source.retrieve().tobytes()))
    source.close()
    return source.description, found


def test_a_file_behind_a_url_gives_what_the_same_file_here_gives(tmp_path: Path) -> None:
    """Mirrored, and with a picture that stands for two seconds."""
    matrix = display_matrix(*ORIENTATIONS["mirrored"])
    path = write_film(tmp_path / "a.mp4", [corners()] * 4, [0, 0.04, 2.04, 2.5], matrix=matrix, last_s=1)
    with HttpStreams({"/a": whole(path.read_bytes(), "video/mp4")}) as server:
        remote = all_of(open_url(server.url("/a"), 5.0, 5.0))
    assert remote == all_of(open_file(str(path)))
    assert [(time, until) for time, until, _ in remote[1]] == [(0, 0.04), (0.04, 2.04), (2.04, 2.5), (2.5, 3.5)]


def test_of_a_file_behind_a_url_the_film_is_taken_not_its_thumbnail(tmp_path: Path) -> None:
    path = two_tracks(tmp_path / "a.mkv", Disposition.attached_pic)
    with HttpStreams({"/a": whole(path.read_bytes(), "video/x-matroska")}) as server:
        assert all_of(open_url(server.url("/a"), 5.0, 5.0)) == all_of(open_file(str(path)))


def test_a_single_picture_behind_a_url_is_refused_in_one_line() -> None:
    jpeg = cv2.imencode(".jpg", moving_box(0))[1].tobytes()
    with (
        HttpStreams({"/a.jpg": whole(jpeg, "image/jpeg")}) as server,
        pytest.raises(SourceNotFound, match=r"/a\.jpg is a single picture; give a video"),
    ):
        open_url(server.url("/a.jpg").replace("//", "//user:s3cret@"), 5.0, 5.0)


def test_what_only_opencv_can_open_is_told_without_the_password() -> None:
    with (
        HttpStreams({}) as server,
        pytest.raises(SourceNotFound, match=r"^door is not a video that FFmpeg can read \(.*\); download it") as raised,
    ):
        open_remote_file(server.url("/none?token=s3cret"), "door", 5.0, 5.0)
    assert "s3cret" not in str(raised.value)


def test_a_playlist_behind_a_url_leads_to_no_local_file(tmp_path: Path) -> None:
    encode_hls(tmp_path, 2, 2)
    listed = (tmp_path / "all.m3u8").read_text().replace("seg0000.ts", (tmp_path / "seg0000.ts").as_uri())
    with HttpStreams({"/a.m3u8": text(lambda: listed)}) as server, pytest.raises(SourceNotFound):
        all_of(open_remote_file(server.url("/a.m3u8"), "door", 5.0, 5.0))


def test_a_playlist_with_an_end_is_a_file_and_one_without_is_live(tmp_path: Path) -> None:
    segments = encode_hls(tmp_path, 8, 2)
    live = LivePlaylist(segments, 2.0)
    routes = {
        "/vod.m3u8": text((tmp_path / "all.m3u8").read_text),
        "/live.m3u8": text(lambda: live.text(time.monotonic() - server.started_at)),
    }
    routes |= {f"/{segment.name}": whole(segment.read_bytes(), "video/mp2t") for segment in segments}
    with HttpStreams(routes) as server:
        vod = open_url(server.url("/vod.m3u8"), 5.0, 5.0)
        assert not vod.live
        assert len(read_all(vod)) == 200
        source = open_url(server.url("/live.m3u8"), 5.0, 5.0)
        assert source.live
        stamps = [source.grab() for _ in range(10)]
        assert stamps == pytest.approx([(stamps[0] or 0) + number / 25 for number in range(10)])
        source.close()


def jpegs(fps: float) -> Callable[[], Iterator[bytes]]:
    def pieces() -> Iterator[bytes]:
        for number in range(200):
            jpeg = cv2.imencode(".jpg", moving_box(number / fps))[1].tobytes()
            yield b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg) + jpeg + b"\r\n"

    return pieces


def test_mjpeg_is_live_and_has_no_stamps_of_its_own() -> None:
    with HttpStreams({"/mjpeg": endless(jpegs(10), "multipart/x-mixed-replace; boundary=b")}) as server:
        source = open_url(server.url("/mjpeg"), 5.0, 5.0)
        assert source.live
        assert {source.grab() for _ in range(20)} == {0.0}  # FFmpeg makes up 25 a second
        source.close()


def test_a_transport_stream_without_a_length_is_live_and_has_stamps(files: dict[str, bytes]) -> None:
    with HttpStreams({"/a.ts": endless(lambda: iter([files["ts"]]), "video/mp2t")}) as server:
        source = open_url(server.url("/a.ts"), 5.0, 5.0)
        assert source.live
        stamps = [source.grab() or 0.0 for _ in range(50)]
        assert stamps == pytest.approx([stamps[0] + number / 25 for number in range(50)])
        with pytest.raises(SourceUnavailable, match="the stream ended"):
            read_all(source)


@pytest.mark.parametrize(
    ("headers", "file"),
    [
        ({"content-length": "123", "content-type": "video/mp4"}, True),
        ({"content-length": "123"}, True),
        ({"content-type": "video/mp2t"}, False),
        ({"content-length": "-1"}, False),
        ({"content-length": "123", "content-type": "multipart/x-mixed-replace; boundary=b"}, False),
        ({"content-length": "123", "content-type": "application/vnd.apple.mpegurl"}, False),
        ({"content-length": "123", "content-type": "application/dash+xml"}, False),
    ],
)
def test_what_a_server_says_of_a_file(headers: dict[str, str], file: bool) -> None:
    assert names_a_length(headers) == file


def test_where_a_medium_ends_and_where_it_breaks_off() -> None:
    assert broke_off(5.0, 12.0) and broke_off(10.9, 12.0)
    assert not broke_off(11.9, 12.0) and not broke_off(5.0, None) and not broke_off(577.0, 600.0)


@pytest.mark.parametrize(
    ("url", "segments"),
    [
        ("http://h/live.m3u8", True),
        ("https://u:p@h/a/LIVE.M3U8?token=a.mp4", True),
        ("http://h/manifest.mpd", True),
        ("http://h/a.mp4?list=x.m3u8", False),
        ("rtsp://h/cam", False),
    ],
)
def test_playlists_are_known_by_their_path(url: str, segments: bool) -> None:
    assert comes_in_segments(url) == segments
