"""The processes of a service that runs in this one (service.run), for those who weigh them."""

from __future__ import annotations

import contextlib
import multiprocessing

import psutil


def stage_processes() -> dict[str, psutil.Process]:
    """Return those that run, by the names of their stages, such as "worker" and "capture door"."""
    found = {}
    for child in multiprocessing.active_children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended while it was looked at
            found[child.name] = psutil.Process(child.pid)
    return found
