"""Has freed memory go back to the system: a clip takes megabytes for seconds, in a process that runs for months."""

from __future__ import annotations

import contextlib
import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of malloc.h
_MAPPED_FROM = 64 * 1024
_KEPT_AT_MOST = 128 * 1024
_ARENAS = 2


def give_back_freed_memory() -> None:
    """Have malloc map what is larger than 64 KiB by itself, and keep little of what is freed; before threads begin.

    By itself glibc raises both limits to the largest piece that was ever freed, and holes in its heap stay. Where there
    is another malloc (macOS, Windows, musl), nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((_MMAP_THRESHOLD, _MAPPED_FROM), (_TRIM_THRESHOLD, _KEPT_AT_MOST), (_ARENA_MAX, _ARENAS)):
            mallopt(option, value)
