"""Hands FFmpeg its options through OpenCV, which reads them from an environment variable at every open.

The variable belongs to the whole process, so opens with different options wait for each other; those with the same
options, as of a data set's files, run side by side.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_OPTIONS: Final = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_LOG_LEVEL: Final = "OPENCV_FFMPEG_LOGLEVEL"
_QUIET: Final = "-8"

# Whoever sets it by hand must include rtsp_transport;tcp, since it replaces OpenCV's own default. Not fflags;nobuffer:
# it throws away what was read while probing (a 10 s file lost its first 6.7 s).
os.environ.setdefault(_OPTIONS, "rtsp_transport;tcp")

_changed = threading.Condition()
_in_force: tuple[str, bool] | None = None
_opens = 0
_before: dict[str, str | None] = {}


@contextmanager
def ffmpeg_options(options: str = "", quiet: bool = False) -> Iterator[None]:
    """Have the opens in the block take more options.

    Args:
        options: Put after those of the environment, in OpenCV's notation: "key;value|key;value".
        quiet: Whether FFmpeg is to say nothing meanwhile.
    """
    _enter((options, quiet))
    try:
        yield
    finally:
        _leave()


def _enter(wanted: tuple[str, bool]) -> None:
    global _in_force, _opens
    with _changed:
        while _opens and _in_force != wanted:
            _changed.wait()
        if not _opens:
            options, quiet = wanted
            _before.update({name: os.environ.get(name) for name in (_OPTIONS, _LOG_LEVEL)})
            given = (os.environ.get(_OPTIONS, ""), options)
            os.environ[_OPTIONS] = "|".join(part for part in given if part)
            if quiet:
                os.environ[_LOG_LEVEL] = _QUIET
            _in_force = wanted
        _opens += 1


def _leave() -> None:
    global _opens
    with _changed:
        _opens -= 1
        if _opens:
            return
        for name, value in _before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _changed.notify_all()
