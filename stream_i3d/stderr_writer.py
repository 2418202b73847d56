"""Writes to standard error without waiting for who reads it.

Standard error may be a pipe into a program that has stopped reading, or a terminal that was halted with Ctrl-S. Plain
writes would then stop this process for good, and it could not even be stopped.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import sys
import time
from typing import TextIO

_WAIT_S = 1.0
"""Seconds that one line may wait for room in all."""

_PIECE = 512
"""Bytes that a file which is ready takes without waiting: POSIX's least PIPE_BUF."""


class StderrWriter:
    """Whole lines to a text stream; of one thread at a time.

    Drop policy: a line that finds no room within a second is dropped, and those behind it without waiting, until there
    is room again. What was dropped is counted and said then.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.dropped = 0
        self._unfinished = b""
        try:
            stream.flush()
            self._file: int | None = stream.fileno()
        except (OSError, ValueError, AttributeError):  # no file behind it
            self._file = None
        self._is_socket = self._is_own = False
        if self._file is not None and hasattr(select, "poll"):
            self._open_anew(self._file)

    def write(self, line: str) -> None:
        """Write a line. Raises OSError or ValueError where the stream is closed."""
        if self._file is None or not hasattr(select, "poll") or self.stream.closed:
            self.stream.write(line)
            self.stream.flush()
            return
        until = time.monotonic() + (0.0 if self.dropped else _WAIT_S)
        if not self._send_rest(until):
            self.dropped += 1
            return
        lost, self.dropped = self.dropped, 0
        if lost:
            line = f"({lost} lines of the log were lost: standard error was not read)\n{line}"
        data = line.encode("utf-8", errors="backslashreplace")
        self._unfinished = data
        self._send_rest(until)
        if self._unfinished == data:  # nothing of it was taken
            self._unfinished = b""
            self.dropped = lost + 1

    def close(self) -> None:
        """Give back what was opened for it; the stream itself is left open."""
        if self._is_own and self._file is not None:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file, self._is_own = None, False

    def _open_anew(self, file: int) -> None:
        """Have an opening of our own that does not block: O_NONBLOCK on the shared one would change it for others."""
        mode = os.fstat(file).st_mode
        if stat.S_ISREG(mode):  # never full; and each line must be one write, for other processes write there too
            self._file = None
            return
        self._is_socket = stat.S_ISSOCK(mode)
        if sys.platform.startswith("linux") and (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
            with contextlib.suppress(OSError):
                self._file = os.open(f"/proc/self/fd/{file}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
                self._is_own = True

    def _send_rest(self, until: float) -> bool:
        """Send what is left of a line; return whether all is sent."""
        while self._unfinished:
            try:
                if not self._is_own and not self._is_ready(0.0):
                    raise BlockingIOError
                self._unfinished = self._unfinished[self._send(self._unfinished) :]
            except BlockingIOError:
                left = until - time.monotonic()
                if left <= 0 or not self._is_ready(left):
                    return False
        return True

    def _send(self, data: bytes) -> int:
        assert self._file is not None
        if self._is_own:
            return os.write(self._file, data)
        if self._is_socket:
            with socket.socket(fileno=os.dup(self._file)) as end:
                return end.send(data, socket.MSG_DONTWAIT)
        return os.write(self._file, data[:_PIECE])

    def _is_ready(self, timeout_s: float) -> bool:
        assert self._file is not None
        poller = select.poll()
        poller.register(self._file, select.POLLOUT)
        return bool(poller.poll(int(timeout_s * 1000)))
