"""What one process of the service is given: a way to be told to stop, to show that it lives, and to say how it fares.

Both ends of the link are here: `StageLink` crosses from supervisor to child, `Stage` is the child's side. Which stages
there are, and when they are restarted, is the supervisor's business.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from typing import Any

import msgspec
from msgspec import Struct

from stream_i3d.errors import StreamI3DError
from stream_i3d.redact import redact

EXIT_FATAL = 2
"""Exit code of a stage that met an error of ours that a restart will not mend."""

_EXIT_ORPHANED = 3


class Ready(Struct, frozen=True, kw_only=True, tag="ready"):
    """The stage does its work now; `address` is where the worker publishes."""

    detail: str
    address: str = ""


class Failed(Struct, frozen=True, kw_only=True, tag="failed"):
    """The stage cannot go on; one line that says why."""

    message: str


class Summary(Struct, frozen=True, kw_only=True, tag="summary"):
    """The worker's figures so far: counts, rates per second, milliseconds."""

    frames: int = 0
    windows: int = 0
    skipped: int = 0
    seconds: float = 0.0
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    inference_p50_ms: float | None = None
    overhead_p95_ms: float | None = None
    frames_dropped: int = 0
    windows_dropped: dict[str, int] = {}
    rejected_messages: int = 0
    sink_dropped: int = 0


StageMessage = Ready | Failed | Summary
_decode = msgspec.json.Decoder(StageMessage).decode


class StageLink:
    """Made by the supervisor, one per process: a pipe for the child's words and a shared time of its last heartbeat."""

    def __init__(self, context: multiprocessing.context.SpawnContext) -> None:
        self._reader, self._writer = context.Pipe(duplex=False)
        self._beat: Synchronized[float] = context.Value("d", time.monotonic())

    def child_side(self) -> tuple[Connection, Synchronized[float]]:
        """Return what the child is given."""
        return self._writer, self._beat

    def close_child_side(self) -> None:
        """Drop the supervisor's copy of the child's end, so that the pipe ends with the child."""
        self._writer.close()

    def receive(self) -> list[StageMessage]:
        """Return what the child has said since, in order."""
        messages: list[StageMessage] = []
        try:
            while self._reader.poll():
                messages.append(_decode(self._reader.recv_bytes()))
        except (EOFError, OSError):
            pass  # the child is gone; its exit code says the rest
        return messages

    def silent_for(self, now: float) -> float:
        """Return the seconds since the child's last heartbeat."""
        return now - self._beat.value


class Stage:
    """The child's side of its link."""

    def __init__(self, name: str, writer: Connection, beat: Synchronized[float]) -> None:
        self.name = name
        self.stopping = threading.Event()
        self._writer = writer
        self._beat = beat

    def beat(self) -> None:
        """Show that the main loop turns."""
        self._beat.value = time.monotonic()

    def say(self, message: StageMessage) -> None:
        """Send a message to the supervisor; a supervisor that is gone is not an error here."""
        self.beat()  # "ready" after a long load must not find an old heartbeat beside it
        try:
            self._writer.send_bytes(msgspec.json.encode(message))
        except OSError:
            self.stopping.set()


def enter_stage(
    name: str, main: Callable[[Stage, Any], None], job: Any, side: tuple[Connection, Any], level: int
) -> None:
    """Run in the child: set up signals, logging and the parent watch, then `main(stage, job)`.

    An error of our own tree is sent to the supervisor and ends the process with EXIT_FATAL.
    """
    stage = Stage(name, *side)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    signal.signal(signal.SIGTERM, lambda *_: stage.stopping.set())
    configure_logging(level)
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    try:
        main(stage, job)
    except StreamI3DError as error:
        stage.say(Failed(message=redact(str(error))))
        sys.exit(EXIT_FATAL)


def configure_logging(level: int) -> None:
    """Log to standard error, one redacted line a record."""
    handler = _StderrHandler()
    handler.setFormatter(_RedactingFormatter("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S"))
    root = logging.getLogger("stream_i3d")
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False


class _StderrHandler(logging.StreamHandler[Any]):
    """Writes to whatever sys.stderr is at the time (a capture process moves it)."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


class _RedactingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def _end_with_parent() -> None:
    """End this process when the supervisor is gone, however it went: no orphans."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(_EXIT_ORPHANED)
