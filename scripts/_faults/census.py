"""Counts and weighs the processes of a service every few seconds, whoever is killed meanwhile."""

from __future__ import annotations

import threading
import time
from typing import Self

import psutil

from _faults.growth import Sample
from _faults.service import Service

_EVERY_S = 3.0


class Census:
    """Looks at all processes of a service in a thread, for as long as the context lasts.

    Attributes:
        zombies: Processes that had ended and that nobody had reaped at two looks in a row.
    """

    def __init__(self, service: Service) -> None:
        self.zombies: list[str] = []
        self._service = service
        self._samples: dict[tuple[str, int], list[Sample]] = {}
        self._ended_before: set[int] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="census", daemon=True)

    def lives(self) -> dict[str, list[list[Sample]]]:
        """Return the samples of each life of each process, by the process's name."""
        named: dict[str, list[list[Sample]]] = {}
        for (name, _), samples in self._samples.items():
            named.setdefault(name, []).append(samples)
        return dict(sorted(named.items()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            try:
                supervisor = self._service.supervisor
                for name, process in {"supervisor": supervisor, **self._service.stages()}.items():
                    self._look(name, process)
                self._look_for_zombies(supervisor)
            except psutil.Error:
                continue  # it ended while it was looked at

    def _look(self, name: str, process: psutil.Process) -> None:
        try:
            with process.oneshot():
                sample = Sample(time.monotonic(), process.memory_info().rss, process.num_fds(), process.num_threads())
        except psutil.Error:
            return
        # A child has its parent's name, and no memory of its own, until it has begun.
        if not name.startswith("python"):
            self._samples.setdefault((name, process.pid), []).append(sample)

    def _look_for_zombies(self, supervisor: psutil.Process) -> None:
        ended = {
            child.pid: child.name()
            for child in supervisor.children(recursive=True)
            if child.status() == psutil.STATUS_ZOMBIE
        }
        self.zombies += [f"{name} ({pid})" for pid, name in ended.items() if pid in self._ended_before]
        self._ended_before = set(ended)
