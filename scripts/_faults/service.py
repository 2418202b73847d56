"""A real service, `stream-i3d run` in processes of its own, and a way to get at each of them by the stage's name."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil
import yaml
from _root import ROOT

from _faults.watch import Unmet, Watch
from tests.ports import free_port

START_S = 60.0
_END_S = 10.0
_PAUSE_S = 0.02


def pause(seconds: float = _PAUSE_S) -> None:
    """Let time pass: faults are made of it."""
    time.sleep(seconds)


def gone(processes: Sequence[psutil.Process], within_s: float) -> bool:
    """Wait until processes have ended and were reaped; tell whether they have."""
    return _wait(processes, within_s, psutil.Process.is_running)


def ended(processes: Sequence[psutil.Process], within_s: float) -> bool:
    """Wait until processes have ended, where whoever had to reap them has gone before; tell whether they have."""
    return _wait(processes, within_s, _works)


def _wait(processes: Sequence[psutil.Process], within_s: float, still: Callable[[psutil.Process], bool]) -> bool:
    until = time.monotonic() + within_s
    while any(still(one) for one in processes):
        if time.monotonic() > until:
            return False
        pause()
    return True


def _works(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Service:
    """Runs `stream-i3d run --config` with `settings` for as long as the context lasts, always on the same addresses.

    Attributes:
        address: Where it publishes.
        watch: A subscriber that was there before it.
        log: What all its processes wrote, of every life.
    """

    def __init__(
        self,
        name: str,
        private: Path,
        public: Path,
        settings: Mapping[str, Any],
        *,
        address: str = "",
        prefix: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Args: `private` holds what may have passwords (the settings), `public` what must have none (all else)."""
        self.name = name
        self.address = address or f"tcp://127.0.0.1:{free_port()}"
        self.settings = {**settings, "publish": {**settings.get("publish", {}), "address": self.address}}
        self.log = public / f"{name}.log"
        self.watch = Watch(self.address, public / f"{name}.messages")
        self._file = private / f"{name}.yaml"
        self._prefix = prefix
        self._environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self.started = 0.0

    @property
    def cameras(self) -> list[str]:
        """Names of its cameras."""
        return [camera["name"] for camera in self.settings["cameras"]]

    @property
    def supervisor(self) -> psutil.Process:
        """The process that was started."""
        assert self._process is not None, "the service does not run"
        return psutil.Process(self._process.pid)

    def start(self) -> None:
        """Start it; returns at once. It ends with us, whatever ends us."""
        self._file.touch(mode=0o600)
        self._file.write_text(yaml.safe_dump(self.settings), encoding="utf-8")
        self.started = time.monotonic()
        command = [
            *self._prefix,
            sys.executable,
            "-m",
            "stream_i3d",
            "run",
            "--config",
            str(self._file),
            "--end-with-input",
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=self._environ)

    def steady(self, cameras: Sequence[str] | None = None, within_s: float = START_S) -> float:
        """Wait until every camera is recognised on; return when the last one was first.

        Raises:
            Unmet: One is not.
        """
        now = time.monotonic()
        return max(self.watch.prediction(name, now, within_s).at for name in cameras or self.cameras)

    def stages(self) -> dict[str, psutil.Process]:
        """Return the running processes of the plan by their names, such as "worker" and "capture a"."""
        named = {}
        for child in self.supervisor.children():
            try:
                if child.status() != psutil.STATUS_ZOMBIE:
                    named[Path(f"/proc/{child.pid}/comm").read_text().rstrip("\n")] = child
            except (psutil.Error, OSError):
                continue  # it ended while it was looked at
        return named

    def stage(self, name: str, within_s: float = START_S) -> psutil.Process:
        """Return the process of a stage, waiting for it; Unmet where it does not come."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            if (found := self.stages().get(name)) is not None:
                return found
            pause()
        raise Unmet(f"no process {name!r} within {within_s:g} s; there are: {', '.join(self.stages())}")

    def family(self) -> list[psutil.Process]:
        """Return the supervisor and all processes below it."""
        return [self.supervisor, *self.supervisor.children(recursive=True)]

    def reap(self) -> int:
        """Wait for a supervisor that was killed or told to end; return its exit code.

        Raises:
            Unmet: It goes on.
        """
        assert self._process is not None, "the service does not run"
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            raise Unmet(f"the supervisor did not end within {_END_S:g} s") from None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process = None
        return code

    def said(self, words: str) -> int:
        """Count a text in the log."""
        return self.log.read_text(errors="replace").count(words)

    def close(self) -> None:
        """End it and everything below it, however it fares."""
        if self._process is None:
            return
        family = self.family()
        self._process.terminate()
        try:
            self.reap()
        except Unmet:
            for one in family:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            self.reap()

    def __enter__(self) -> Self:
        self.watch.__enter__()
        try:
            self.start()
        except BaseException:
            self.watch.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
        self.watch.__exit__(*exc)
