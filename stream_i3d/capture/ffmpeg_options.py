"""FFmpeg as OpenCV runs it: its options and its log level. To be imported before OpenCV.

OpenCV reads the options from an environment variable at every open. The variable belongs to the whole process, so opens
with different options wait for each other; those with the same options, as of a data set's files, run side by side.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_OPTIONS: Final = "OPENCV_FFMPEG_CAPTURE_OPTIONS"

# Whoever sets it by hand must include rtsp_transport;tcp, since it replaces OpenCV's own default. Not fflags;nobuffer:
# it throws away what was read while probing (a 10 s file lost its first 6.7 s).
os.environ.setdefault(_OPTIONS, "rtsp_transport;tcp")

_changed = threading.Condition()
_in_force = ""
_opens = 0
_before: str | None = None


@contextmanager
def ffmpeg_options(options: str = "") -> Iterator[None]:
    """Have the opens in the block take more options.

    Args:
        options: Put after those of the environment, in OpenCV's notation: "key;value|key;value".
    """
    _enter(options)
    try:
        yield
    finally:
        _leave()


def _enter(wanted: str) -> None:
    global _in_force, _opens, _before
    with _changed:
        while _opens and _in_force != wanted:
            _changed.wait()
        if not _opens:
            _before, _in_force = os.environ.get(_OPTIONS), wanted
            os.environ[_OPTIONS] = "|".join(part for part in (_before, wanted) if part)
        _opens += 1


def _leave() -> None:
    global _opens
    with _changed:
        _opens -= 1
        if _opens:
            return
        if _before is None:
            os.environ.pop(_OPTIONS, None)
        else:
            os.environ[_OPTIONS] = _before
        _changed.notify_all()


def silence_ffmpeg() -> None:
    """Have FFmpeg say nothing; a level that is set in the environment already stays."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def silence_opencv() -> None:
    """Have FFmpeg and OpenCV say nothing: when a disk is full, OpenCV has a word for every frame."""
    silence_ffmpeg()
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
