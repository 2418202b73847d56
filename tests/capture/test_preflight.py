"""Sources that can never be read, told before anything is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stream_i3d.capture.address import parse_source
from stream_i3d.capture.preflight import check_present
from stream_i3d.capture.webcams import check_webcam
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
def test_what_may_be_there_is_left_to_the_capture_process(text: str) -> None:
    check_present(parse_source(text))


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
