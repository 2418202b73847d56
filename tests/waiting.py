"""How tests wait for what other threads and processes do: with a deadline, and no longer than it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

WAIT_S = 30.0


def wait_until(true: Callable[[], object], timeout_s: float = WAIT_S) -> None:
    """Return once `true()` is; fail where it does not become so."""
    pause, until = threading.Event(), time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until, "it did not happen"
        pause.wait(0.005)
