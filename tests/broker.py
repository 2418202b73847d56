"""A real MQTT broker for tests: mosquitto in a process of its own, on a free port of loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.ports import free_port

PROGRAM = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

# In CI nothing may be skipped for want of a package: there the tests fail.
requires_broker = pytest.mark.skipif(
    PROGRAM is None and os.environ.get("CI") != "true", reason="no mosquitto; run scripts/system-deps test"
)


class Broker:
    """Runs for as long as the context lasts. `stop` and `start` leave what it retains in `folder`.

    Args:
        folder: For its configuration, log and store.
        port: 0 for a free one.
        more: Further lines of its configuration; without any, everybody may connect without TLS.
    """

    def __init__(self, folder: Path, port: int = 0, more: str = "allow_anonymous true") -> None:
        self.port = port or free_port()
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "mosquitto.conf"
        self.log = folder / "mosquitto.log"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\n{more}\nlog_dest file {self.log}\nlog_type all\n"
            f"persistence true\npersistence_location {folder}/\nuser root\n"
        )

    def start(self, timeout_s: float = 30.0) -> None:
        """Start it and wait until it listens."""
        assert PROGRAM is not None, "no mosquitto; run scripts/system-deps test"
        self._process = subprocess.Popen([PROGRAM, "-c", str(self._config)], stderr=subprocess.DEVNULL)
        pause, until = threading.Event(), time.monotonic() + timeout_s
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, f"mosquitto ended: {self.log.read_text()[-1000:]}"
            assert time.monotonic() < until, "mosquitto does not listen"
            pause.wait(0.02)

    def stop(self) -> None:
        """End it; nothing that is sent to it arrives any more."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Listener:
    """mosquitto_sub, an independent client: notes every message as (topic, payload, whether it was retained).

    Args:
        broker: Where it connects.
        topics: What it subscribes to.
        more: Further arguments, such as a user's name.
    """

    def __init__(self, broker: Broker, *topics: str, more: tuple[str, ...] = ()) -> None:
        wanted = [argument for topic in topics or ("#",) for argument in ("-t", topic)]
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", "-F", "%t %r %p", *wanted]
        self.heard: list[tuple[str, str, bool]] = []
        self._came = threading.Condition()
        self._process = subprocess.Popen([*command, *more], stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            topic, retained, payload = line.rstrip("\n").split(" ", 2)
            with self._came:
                self.heard.append((topic, payload, retained == "1"))
                self._came.notify_all()

    def of(self, topic: str) -> list[str]:
        """The payloads that came on a topic."""
        with self._came:
            return [payload for one, payload, _ in self.heard if one == topic]

    def wait_for(self, topic: str, count: int = 1, timeout_s: float = 30.0) -> list[str]:
        """Return the payloads of a topic once there are so many."""
        with self._came:
            enough = self._came.wait_for(lambda: sum(one == topic for one, _, _ in self.heard) >= count, timeout_s)
        assert enough, (
            f"on {topic} came {len(self.of(topic))} of {count}; in all {[one[:2] for one in self.heard][-20:]}"
        )
        return self.of(topic)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._thread.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
