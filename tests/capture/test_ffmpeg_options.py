from __future__ import annotations

import os
import threading

import pytest

from stream_i3d.capture.ffmpeg_options import ffmpeg_options

NAME = "OPENCV_FFMPEG_CAPTURE_OPTIONS"


def test_options_are_in_force_in_the_block_alone_and_after_those_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "rtsp_transport;udp")
    with ffmpeg_options("protocol_whitelist;file"):
        assert os.environ[NAME] == "rtsp_transport;udp|protocol_whitelist;file"
    assert os.environ[NAME] == "rtsp_transport;udp"


def test_opens_with_the_same_options_run_side_by_side_and_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "x;1")
    seen: list[str] = []

    def other() -> None:
        with ffmpeg_options("b;2"):
            seen.append(os.environ[NAME])

    with ffmpeg_options("a;2"), ffmpeg_options("a;2"):
        thread = threading.Thread(target=other)
        thread.start()
        assert os.environ[NAME] == "x;1|a;2" and not seen
    thread.join(30)
    assert seen == ["x;1|b;2"] and os.environ[NAME] == "x;1"
