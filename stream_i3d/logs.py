"""Logging of every process: redacted lines on standard error, as text for people or JSON for machines.

Whatever is logged passes here: our own records, those of libraries (warnings and above), Python's warnings, and errors
that nobody caught, in any thread. What FFmpeg writes by itself is capture.stderr's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from stream_i3d.config import LoggingConfig
from stream_i3d.display_text import clean_lines, clean_text
from stream_i3d.log_throttle import LogThrottle, RepeatedMessage
from stream_i3d.redact import redact
from stream_i3d.stderr_writer import StderrWriter

OURS = "stream_i3d"

log = logging.getLogger(__name__)

_current = LoggingConfig(level="warning")  # until configured: what Python's own logging would show
_LONGEST = 20_000


def configure_logging(config: LoggingConfig, process: str = "service") -> None:
    """Log to standard error from now on, as `config` says; `process` is the name of this process in each line.

    Of our own loggers all from the level on, of others from "warning" on.
    """
    global _current
    _current = config
    root, ours = logging.getLogger(), logging.getLogger(OURS)
    root.handlers[:] = [_StderrHandler(_JsonLine(process) if config.format == "json" else _TextLine(process))]
    root.setLevel(logging.WARNING)
    ours.handlers[:] = []
    ours.setLevel(config.level.upper())
    logging.captureWarnings(True)
    sys.excepthook = log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    sys.unraisablehook = _log_unraisable


def current_logging() -> LoggingConfig:
    """Return how this process logs, for the processes that it starts."""
    return _current


def log_uncaught(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None, where: str = "the main thread"
) -> None:
    """Log an error that nobody caught, with its traceback: a bug, or a library's."""
    if issubclass(kind, KeyboardInterrupt):
        return
    log.critical("%s ended by an error of the program", where, exc_info=(kind, error or kind(), trace))


def _log_uncaught_in_thread(caught: threading.ExceptHookArgs) -> None:
    if not issubclass(caught.exc_type, SystemExit):
        name = "a thread" if caught.thread is None else f"thread {caught.thread.name!r}"
        log_uncaught(caught.exc_type, caught.exc_value, caught.exc_traceback, name)


def _log_unraisable(caught: Any) -> None:
    error = caught.exc_value or caught.exc_type()
    log.error("an error in a destructor or callback", exc_info=(caught.exc_type, error, caught.exc_traceback))


def _clean(text: str) -> str:
    """Return one line without secrets, so that no stranger's text can pass for a line of ours."""
    return clean_text(redact(text), _LONGEST, keep="\t")


def _message(record: logging.LogRecord) -> str:
    try:
        return _clean(record.getMessage())
    except (TypeError, ValueError, KeyError):  # the wrong arguments: Python would print them as they are
        return _clean(f"{record.msg} {record.args!r}")


def _error_text(record: logging.LogRecord) -> str:
    if record.exc_info and record.exc_info[0] is not None:
        return clean_lines(redact("".join(traceback.format_exception(*record.exc_info)))).rstrip("\n")
    return ""


class _TextLine:
    """For people: date and time of this place, level, process, message."""

    def __init__(self, process: str) -> None:
        self._process = process

    def line(self, record: logging.LogRecord, message: str) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        error = _error_text(record)
        return f"{when} {record.levelname:<7} [{self._process}] {message}" + (f"\n{error}" if error else "")


class _JsonLine:
    """For machines: one object a line (docs/monitoring.md)."""

    def __init__(self, process: str) -> None:
        self._process = process

    def line(self, record: logging.LogRecord, message: str) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": os.getpid(),
            "logger": record.name,
            "message": message,
        }
        error = _error_text(record)
        return json.dumps(fields | ({"error": error} if error else {}), ensure_ascii=False)


class _StderrHandler(logging.Handler):
    """Writes whole lines to whatever sys.stderr is at the time (a capture process moves it); repeats are summed up."""

    def __init__(self, form: _TextLine | _JsonLine, repeats: LogThrottle | None = None) -> None:
        super().__init__()
        self._form = form
        self._repeats = repeats or LogThrottle()
        self._timer: threading.Timer | None = None
        self._writer: StderrWriter | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, if it is not one too many; the caller holds the handler's lock."""
        now, message = time.monotonic(), _message(record)
        self._tell(self._repeats.due(now))
        if self._repeats.take((record.levelno, record.name, record.pathname, record.lineno), message, now):
            self._write(self._form.line(record, message))
        elif self._timer is None:
            self._tell_later()

    def close(self) -> None:
        """Tell what was held back."""
        with self._locked():
            if self._timer is not None:
                self._timer.cancel()
            self._tell(self._repeats.rest())
        super().close()

    def _tell_later(self) -> None:
        """For what was held back to be told also where nothing else is ever logged."""
        self._timer = threading.Timer(self._repeats.period_s + 1, self._tell_late)
        self._timer.daemon = True
        try:
            self._timer.start()
        except RuntimeError:  # no more threads: reported with the next line that is logged
            self._timer = None

    def _tell_late(self) -> None:
        with self._locked():
            self._timer = None
            self._tell(self._repeats.due(time.monotonic()))
            if self._repeats.holds_back:  # of a period that began later
                self._tell_later()

    @contextlib.contextmanager
    def _locked(self) -> Any:
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def _tell(self, repeated: list[RepeatedMessage]) -> None:
        for one in repeated:
            level, name, path, line = one.place
            record = logging.LogRecord(str(name), int(level), str(path), int(line), one.text, None, None)
            self._write(self._form.line(record, one.describe(self._repeats.period_s)))

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal or file is gone, and there is no other place
            if self._writer is None or self._writer.stream is not sys.stderr:
                if self._writer is not None:
                    self._writer.close()
                self._writer = StderrWriter(sys.stderr)
            self._writer.write(line + "\n")
