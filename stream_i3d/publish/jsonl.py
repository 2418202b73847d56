"""The JSON-lines sink: one message a line, to a file or to standard output."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

from stream_i3d.errors import ConfigError
from stream_i3d.transport.wire import Published, to_json_line


class JsonLinesSink:
    """Appends to `target`, flushed at every line so that a reader of the file is never behind; "-" is stdout."""

    def __init__(self, target: str) -> None:
        """Raises ConfigError where the file cannot be opened."""
        try:
            self._file: BinaryIO = sys.stdout.buffer if target == "-" else Path(target).open("ab")  # noqa: SIM115
        except OSError as error:
            raise ConfigError(
                f"cannot write JSON lines to {target}: {error.strerror}; give a file in a folder that exists"
            ) from None

    def write(self, message: Published) -> None:
        """Write one line."""
        self._file.write(to_json_line(message))
        self._file.flush()

    def close(self) -> None:
        """Close the file; standard output is left open."""
        if self._file is not sys.stdout.buffer:
            self._file.close()
