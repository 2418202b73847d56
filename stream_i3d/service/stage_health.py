"""The state of one process of the service, for the control channel and monitoring. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

StageState = Literal["waiting", "starting", "running", "ending", "finished", "failed", "gone"]
"""Of a process: waiting for its (next) start, starting, ready, asked to end, ended by itself, cannot go on, retired."""


@dataclass(frozen=True, slots=True)
class StageHealth:
    """The state of one process.

    Attributes:
        restarts: How often it was started again because it crashed or fell silent.
        planned_restarts: How often it was started again in order, for the memory it held.
        silent_s: Seconds since its last heartbeat; None while it does not run, as are those that follow.
        rss_bytes: Memory it holds, looked at every second, as are `open_files`.
        open_files: Files, sockets and pipes that it has open; None also where the system does not tell.
        long_call_s: Seconds for which the call that it is in may last without a heartbeat; 0 where it declared none.
    """

    name: str
    state: StageState
    restarts: int
    planned_restarts: int
    silent_s: float | None
    rss_bytes: int | None
    open_files: int | None
    pid: int | None
    long_call_s: float = 0.0
