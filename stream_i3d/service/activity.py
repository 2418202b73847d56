"""What a process does just now, as the system tells: whether it is stopped, works, or waits."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from stream_i3d.thread_names import BESIDE

_RUNNABLE = frozenset("RD")  # D: waits for a disk, or for memory that was swapped out


class Activity(NamedTuple):
    """What the threads of a process do, without those that work beside its main loop (thread_names).

    Attributes:
        stopped: Whether it was stopped, as by SIGSTOP.
        working: Whether a thread runs, waits for a core, or waits for a disk just now.
        busy_s: Seconds of all threads so far, running or waiting for a core. On a machine with too much to do the time
            of a process that wants to work goes by in waiting.
    """

    stopped: bool
    working: bool
    busy_s: float


def look_at_activity(pid: int) -> Activity | None:
    """Return what a process does now; None where that cannot be seen: it has ended, or too many files are open."""
    with suppress(psutil.Error, OSError, ValueError, IndexError):
        if sys.platform.startswith("linux"):
            return _of_threads(Path(f"/proc/{pid}/task"))
        process = psutil.Process(pid)
        status, times = process.status(), process.cpu_times()
        return Activity(
            stopped=status == psutil.STATUS_STOPPED,
            working=status in (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP),
            busy_s=times.user + times.system,
        )
    return None


def _of_threads(tasks: Path) -> Activity | None:
    states, busy_ns = "", 0
    for task in tasks.iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            name, _, rest = (task / "stat").read_text(errors="replace").partition("(")[2].rpartition(")")
            if name.startswith(BESIDE):
                continue
            fields = rest.split()
            states += fields[0]
            busy_ns += _busy_ns(task, fields)
    if not states:
        return None
    return Activity(states == "T" * len(states), not _RUNNABLE.isdisjoint(states), busy_ns * 1e-9)


def _busy_ns(task: Path, fields: list[str]) -> int:
    """Return the nanoseconds for which a thread ran or waited for a core; only ran, of a kernel that tells no more."""
    try:
        ran, waited, *_ = (task / "schedstat").read_text().split()
        return int(ran) + int(waited)
    except (FileNotFoundError, ValueError):
        return (int(fields[11]) + int(fields[12])) * 10_000_000
