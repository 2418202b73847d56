"""The JSON-lines sink: one message a line, to a file that may be rotated, or to standard output."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

from stream_i3d.errors import ConfigError
from stream_i3d.publish.sink import Folder, Outlet, QueuedSink, SinkContext
from stream_i3d.sink_settings import JsonLinesSettings
from stream_i3d.transport.wire import Published, to_json_line

_HEAD_BYTES = 512


def make(settings: JsonLinesSettings, name: str, context: SinkContext) -> Outlet:
    """Start the sink."""
    lines = JsonLinesSink(settings.path, settings.max_bytes, settings.keep)
    return QueuedSink(lines, name, settings.queue, settings.what, durable=True)


def needs(settings: JsonLinesSettings) -> Folder | None:
    """Return the folder of the file."""
    return None if settings.path == "-" else Folder(Path(settings.path).expanduser().absolute().parent)


class JsonLinesSink:
    """Appends to `target`, each line at once so that a reader of the file is never behind; "-" is stdout.

    A line is written whole or not at all: what a full disk cut off is taken back.
    """

    def __init__(self, target: str, max_bytes: int = 0, keep: int = 5) -> None:
        """Begin to append.

        Args:
            target: A file, or "-".
            max_bytes: A file that would grow beyond it becomes `target.1`, what was `target.1` becomes `target.2`, and
                so on; 0 never.
            keep: How many full files are kept.

        Raises:
            ConfigError: The file cannot be opened.
        """
        self._path = None if target == "-" else Path(target).expanduser()
        self._max_bytes = max_bytes
        self._keep = keep
        self._size: int | None = None  # of a plain file, what of it is whole lines
        try:
            self._file: BinaryIO | io.FileIO = self._open() if self._path else sys.stdout.buffer
        except OSError as error:
            raise ConfigError(
                f"cannot write JSON lines to {target}: {error.strerror}; give a file in a folder that exists"
            ) from None

    def write(self, message: Published) -> None:
        """Write one line; OSError where there is no room for all of it."""
        line = to_json_line(message)
        if self._max_bytes and self._size and self._size + len(line) > self._max_bytes:
            self._rotate()
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
            self._file.flush()
        except OSError:
            self._take_back()
            raise
        if self._size is not None:
            self._size += len(line)

    def close(self) -> None:
        """Close the file; standard output is left open."""
        if self._path is not None:
            self._file.close()

    def _open(self) -> io.FileIO:
        assert self._path is not None
        _refuse_other_file(self._path)
        file = io.FileIO(self._path, "ab")
        found = os.fstat(file.fileno())
        if stat.S_ISREG(found.st_mode):
            self._size = found.st_size
            if self._size and _last_byte(self._path) != b"\n":  # cut off when the power went
                self._size += file.write(b"\n") or 0
        return file

    def _take_back(self) -> None:
        if self._size is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), self._size)

    def _rotate(self) -> None:
        """Move the full file aside, once there is a new one: a disk without room for it changes nothing."""
        assert self._path is not None
        new = self._path.with_name(f"{self._path.name}.new")
        file = io.FileIO(new, "wb")
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._keep + 1))]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            with contextlib.suppress(FileNotFoundError):
                newer.replace(older)
        new.replace(self._path)
        self._file.close()
        self._file, self._size = file, 0


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)


def _refuse_other_file(path: Path) -> None:
    """Refuse a file of another kind, such as a video, to which lines would be appended.

    What a power cut left is taken: lines whose end, or all, are zeros.

    Raises:
        ConfigError: It is a file of another kind.
    """
    head = b""
    with contextlib.suppress(OSError):
        if stat.S_ISREG(path.stat().st_mode):
            with path.open("rb") as file:
                head = file.read(_HEAD_BYTES)
    if b"\0" in head and head.strip(b"\0") and not head.startswith(b"{"):
        raise ConfigError(f"{path} is no file of JSON lines, and would be damaged; give another file")
