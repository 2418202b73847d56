"""Names of threads, as the system shows them (`ps -L`, `top -H`); Linux only, elsewhere nothing happens.

The supervisor tells by the name whether a thread works beside the main loop: one that goes on by itself does not show
that the loop does (service/hang.py).
"""

from __future__ import annotations

import contextlib
from pathlib import Path

BESIDE = ("bg:", "ZMQbg/")
"""How names of threads begin that work beside the main loop: our own, and ZeroMQ's."""

_COMM_BYTES = 15  # of Linux


def name_background_thread(name: str) -> None:
    """Give the calling thread a name that says it works beside the main loop."""
    with contextlib.suppress(OSError):
        Path("/proc/thread-self/comm").write_bytes(f"{BESIDE[0]}{name}".encode()[:_COMM_BYTES])
