"""How a process of the service begins and ends: signals, name, log, exit code, and that it goes with its supervisor.

What it does in between is its `main`'s; when it is started again, the supervisor's.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stream_i3d.config import LoggingConfig
from stream_i3d.errors import StreamI3DError
from stream_i3d.logs import configure_logging, log_uncaught
from stream_i3d.message_pipe import MessagePipe
from stream_i3d.redact import redact
from stream_i3d.stage import ChildSide, Failed, Stage

EXIT_FATAL = 2
"""Exit code of a stage that met an error of ours that a restart will not mend."""

EXIT_CRASHED = 1
"""Exit code of a stage that met any other error; it is started again."""

EXIT_STOPPED = 128 + signal.SIGTERM
"""Exit code of a stage that was told to end, and did; if not by the supervisor, it is started again."""

_EXIT_ORPHANED = 3
_PR_SET_PDEATHSIG = 1
_COMM_BYTES = 15  # of Linux
_JOB_S = 600.0
_LEAVE_S = 30.0
"""For a supervisor that is stopped; one that is gone takes its processes with it."""


def start_stage(
    name: str,
    main: Callable[[Stage, Any], None],
    side: ChildSide,
    logging_config: LoggingConfig,
    again: bool = False,
) -> None:
    """Run in the child: take the job from the link (`StageLink.give_job`), then go on as `enter_stage`."""
    _die_with_parent()
    end, beat, long_call = side
    pipe = MessagePipe(end)
    job = pipe.receive_one(_JOB_S)
    if job is None:
        os._exit(_EXIT_ORPHANED)
    enter_stage(name, main, pickle.loads(job), (pipe, beat, long_call), logging_config, again)


def enter_stage(
    name: str,
    main: Callable[[Stage, Any], None],
    job: Any,
    side: ChildSide | tuple[MessagePipe, ctypes.c_double, ctypes.c_double],
    logging_config: LoggingConfig,
    again: bool = False,
) -> None:
    """Run in the child: set up signals, logging and the parent watch, then `main(stage, job)`.

    If told to end, it returns EXIT_STOPPED. An error of our own tree is sent to the supervisor and ends the process
    with EXIT_FATAL; any other is logged, and ends it with EXIT_CRASHED.
    """
    end, beat, long_call = side
    stage = Stage(name, end, beat, long_call, again)
    _show_name(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    signal.signal(signal.SIGTERM, lambda *_: stage.stopping.set())
    _die_with_parent()
    configure_logging(logging_config, name)
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    try:
        main(stage, job)
        if stage.stopping.is_set():
            sys.exit(EXIT_STOPPED)
    except StreamI3DError as error:
        stage.say(Failed(message=redact(str(error))))
        sys.exit(EXIT_FATAL)
    except Exception as error:  # the outermost frame: multiprocessing would print it as it is, passwords and all
        log_uncaught(type(error), error, error.__traceback__, name)
        sys.exit(EXIT_CRASHED)
    finally:
        stage.leave(_LEAVE_S)
        logging.shutdown()  # no exit handlers run in a child: what was held back of the log would be lost


def _show_name(name: str) -> None:
    """Have `ps -o comm` and `top` show a stage's name (its first 15 bytes), where the system has a place for that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_bytes(name.encode()[:_COMM_BYTES])


def _die_with_parent() -> None:
    """Have the system kill this process when the supervisor is gone (Linux).

    The parent watch alone would not do: its thread cannot run while code in C hangs with the interpreter's lock.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with_parent() -> None:
    """End this process when the supervisor is gone, however it went: no orphans."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(_EXIT_ORPHANED)
