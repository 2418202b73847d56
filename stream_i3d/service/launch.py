"""Starts the service for another program, the window above all: `stream-i3d run` as a process of its own.

Imports neither OpenCV nor torch. The service lives on private addresses, where nobody needs keys, and ends with who
started it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import msgspec
import yaml
from msgspec import structs

from stream_i3d.config import Config, PublishConfig, SecurityConfig
from stream_i3d.errors import ServiceError
from stream_i3d.files import PRIVATE, replace_file
from stream_i3d.service.run_folder import WINDOW_PREFIX, RunFolder
from stream_i3d.transport.control import HelloReply, SayHello
from stream_i3d.transport.control_sockets import ControlClient

_ASK_S = 0.25
_END_S = 5.0
_LOG_TAIL_BYTES = 8192


class LaunchedService:
    """A service that runs in the background; end it with `close`.

    Attributes:
        control: Address for a ControlClient.
        publish: Address for a Subscriber.
    """

    def __init__(self, config: Config) -> None:
        """Start it; returns at once."""
        self._folder = RunFolder(WINDOW_PREFIX)
        folder = self._folder.path
        self.publish = _given_or(config.publish.address, PublishConfig().address, _address(folder, "publish"))
        self.control = _given_or(config.control.address, "auto", _address(folder, "control"))
        settings = structs.replace(
            config,
            publish=structs.replace(config.publish, address=self.publish),
            control=structs.replace(config.control, address=self.control, stay=True),
            security=SecurityConfig(),
        )
        # Passwords of cameras are in it: a file that only this user reads, and no argument, which everybody sees.
        self._settings, self._log = folder / "settings.yaml", folder / "log"
        replace_file(self._settings, yaml.safe_dump(msgspec.to_builtins(settings)).encode(), PRIVATE)
        command = [sys.executable, "-m", "stream_i3d", "run", "--config", str(self._settings), "--end-with-input"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log)

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""
        return self._process.poll()

    def failure(self) -> str:
        """Return why it failed, as its last messages say, or "" while it runs or if it ended in order."""
        if not self.poll():
            return ""
        with self._log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            lines = log.read().decode("utf-8", errors="replace").split("\n")
        output = [line for line in lines if line.strip()]
        errors = [line for line in output if line.startswith("error: ")]  # libraries may have words after it
        last = (errors or output or [""])[-1]
        return last.removeprefix("error: ") or f"the service ended with code {self.poll()}"

    def wait_ready(self, timeout_s: float = 120.0) -> HelloReply:
        """Wait until it publishes predictions.

        Raises:
            ServiceError: It ended, or was not ready in time.
        """
        until, asked = time.monotonic() + timeout_s, False
        with ControlClient(self.control) as client:
            while time.monotonic() < until:
                if not asked:
                    client.send(SayHello())
                reply = client.receive(_ASK_S)
                asked = reply is None  # what was asked waits for a service that is not there yet
                if isinstance(reply, HelloReply) and reply.ready:
                    return reply
                if self.poll() is not None:
                    raise ServiceError(self.failure() or "the service ended")
                if reply is not None:
                    time.sleep(_ASK_S)  # it is there, and still loads
        raise ServiceError(f"the service was not ready within {timeout_s:g} s; run `stream-i3d doctor`")

    def close(self) -> None:
        """End it: asked to, then killed."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def launch(config: Config) -> LaunchedService:
    """Start a service with `config`, on private addresses where it gives none, and going on when all cameras ended."""
    return LaunchedService(config)


def _given_or(address: str | None, default: str, private: str) -> str:
    """Return an address that was asked for by name, else a private one: two windows must not want the same port.

    One that lets the system choose a port could not be known to clients.
    """
    chosen = address not in (None, "off", default) and not str(address).endswith((":*", ":0"))
    return str(address) if chosen else private


def _address(folder: Path, name: str) -> str:
    if os.name == "posix":
        return f"ipc://{folder / name}"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"
