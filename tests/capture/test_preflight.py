"""Sources that can never be read, rejected before anything is loaded."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from stream_i3d.capture.address import parse_source
from stream_i3d.capture.preflight import check_present, check_webcam, find_file, is_playlist, kind_refusal, shown
from stream_i3d.capture.video import open_file
from stream_i3d.errors import SourceNotFound

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="devices are Linux's")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nowhere.mp4", "no such file: nowhere.mp4; give a video file"),
        ("/tmp", "is a folder; give a video file in it"),
        ("rtsp://", "there is no host in it; write rtsp://HOST/PATH"),
        ("rtsp:///live", "there is no host in it"),
        (
            "rtsp://admin:pa#ss@camera/live",
            "not a URL, or the port is no number.*; in a user name or password write %23",
        ),
        ("rtsp://camera:99999/", "the port is no number from 0 to 65535$"),
    ],
)
def test_a_source_that_can_never_be_read_is_one_line(text: str, words: str) -> None:
    with pytest.raises(SourceNotFound, match=words) as caught:
        check_present(parse_source(text))
    assert "pa#ss" not in str(caught.value) and len(str(caught.value).splitlines()) == 1


@linux
def test_devices_that_are_no_cameras_are_told() -> None:
    with pytest.raises(
        SourceNotFound, match="webcam 97: /dev/video97 does not exist; cameras found: none; plug one in"
    ):
        check_webcam("97", list)
    with pytest.raises(SourceNotFound, match="/dev/null is no camera; cameras found: /dev/video0"):
        check_webcam("/dev/null", lambda: ["/dev/video0"])
    with pytest.raises(SourceNotFound, match="webcam /dev/shm: /dev/shm is a folder"):
        check_webcam("/dev/shm", list)


@linux
def test_a_pipe_in_place_of_a_camera_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "video0")
    with pytest.raises(SourceNotFound, match=r"is a pipe \(FIFO\)"):
        check_webcam(str(tmp_path / "video0"), list)


@pytest.mark.parametrize("text", ["rtsp://192.0.2.1/live", "synthetic://", "http://host/a.m3u8"])
def test_a_stream_or_scene_passes_without_any_connection(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **_: calls.append(arguments) or [])
    monkeypatch.setattr(socket.socket, "connect", lambda *arguments: calls.append(arguments))
    check_present(parse_source(text))
    assert calls == []


def test_run_fails_before_a_process_is_started_or_a_network_loaded(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from stream_i3d.cli import main\n"
        "from stream_i3d.service import supervisor\n"
        "supervisor.Supervisor.run = lambda *_: print('started')\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print({'torch', 'openvino'} & set(sys.modules))\n"
    )
    missing = str(tmp_path / "none.mp4")
    for arguments in (["--source", missing], ["--source", "synthetic://?duration=1", "--source", missing]):
        done = subprocess.run(
            [sys.executable, "-c", code, "run", *arguments], capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 2
        assert done.stderr == f"error: no such file: {missing}; give a video file, a webcam index or a URL\n"
        assert done.stdout == "set()\n"


posix = pytest.mark.skipif(os.name != "posix", reason="such names and kinds are POSIX's")

NAMES = [
    "http:video.mp4",
    "file:x",
    "concat:a|b",
    "-i.mp4",
    "data:x.mp4",
    "a:b.mp4",
    "x%03d.mp4",
    "pipe:0",
    "tcp:1.2.3.4:80",
    "rtsp:clip.mp4",
    "subfile,,start,0,end,9,,:x.mp4",
    "?.mp4",
    "#.mp4",
    "100%.mp4",
    " blank at both ends .mp4 ",
    "two\nlines.mp4",
    "\x1b[31mred.mp4",
    "~",
    "C:\\x.mp4",
    "日本.mp4",
]


@posix
@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_that_of_a_file_in_the_working_folder(
    make_video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    video = make_video(25.0, 0.4)
    monkeypatch.chdir(tmp_path)
    shutil.copy(video, name)
    source = open_file(name)
    pictures = 0
    while source.grab() is not None:
        pictures += 1
    source.close()
    assert pictures == 10


def test_webp_is_not_called_a_single_picture_since_it_may_be_animated(tmp_path: Path) -> None:
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / "a.webp"), np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(SourceNotFound, match=r"a\.webp is WebP, which cannot be read as a video; convert it to MP4"):
        open_file(str(tmp_path / "a.webp"))


def test_a_picture_whose_name_is_a_number_pattern_is_that_picture_and_no_series(tmp_path: Path) -> None:
    import cv2
    import numpy as np

    for name, grey in (("im%03d.png", 200), ("im000.png", 10), ("im001.png", 20)):
        cv2.imwrite(str(tmp_path / name), np.full((48, 64, 3), grey, np.uint8))
    with pytest.raises(SourceNotFound, match=r"im%03d\.png is a single picture; give a video"):
        open_file(str(tmp_path / "im%03d.png"))


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n",
    "hls of files": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{file}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile {file}\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
    "dash": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>',
    "pls": "[playlist]\nFile1=http://127.0.0.1:{port}/a.mp4\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("ending", ["mp4", "m3u8"])
@pytest.mark.parametrize("prefix", [b"", b"ID3\x04\x00\x00\x00\x00\x00\x05hello"], ids=["bare", "after ID3"])
def test_a_playlist_is_refused_whatever_its_name_and_nothing_is_connected_to(
    make_video, tmp_path: Path, kind: str, ending: str, prefix: bytes
) -> None:
    video = make_video(25.0, 0.4)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        path = tmp_path / f"list.{ending}"
        path.write_bytes(prefix + PLAYLISTS[kind].format(port=server.getsockname()[1], file=video.name).encode())
        with pytest.raises(
            SourceNotFound, match=r"list\.\w+ is a playlist, which names other files or addresses; give"
        ):
            open_file(str(path))
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_video_is_no_playlist(make_video) -> None:
    assert not is_playlist(make_video(25.0, 0.4).read_bytes())


@posix
def test_each_kind_of_thing_that_is_no_file_is_called_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{short}/s")
        for path, words in (
            (str(tmp_path / "pipe"), r"pipe is a pipe \(FIFO\), which cannot be read as a video file"),
            (str(tmp_path / "folder"), "folder is a folder; give a video file in it"),
            (f"{short}/s", "s is a socket, not a video file; give a video file, or the stream's URL"),
            ("/dev/null", "null is a character device, not a video file; give a camera by its number"),
        ):
            with pytest.raises(SourceNotFound, match=words):
                open_file(path)
    assert "a block device" in str(kind_refusal(stat.S_IFBLK | 0o600))
    assert kind_refusal(stat.S_IFREG | 0o600) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="as root nothing is unreadable but by a device")
def test_a_file_that_cannot_be_read_says_why() -> None:
    with pytest.raises(SourceNotFound, match="cannot be read: "):
        find_file("/proc/self/mem")


@pytest.mark.parametrize(
    ("path", "text"),
    [("clip.mp4", "clip.mp4"), ("a\nb.mp4", r"'a\nb.mp4'"), ("a.mp4 ", "'a.mp4 '"), ("\x1b[2J", r"'\x1b[2J'")],
)
def test_a_name_is_shown_in_one_line_without_control_codes(path: str, text: str) -> None:
    assert shown(path) == text
    with pytest.raises(SourceNotFound) as caught:
        find_file(f"/none/{path}")
    assert str(caught.value).isprintable()
