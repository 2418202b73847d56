"""A real MQTT broker for tests: mosquitto in a process of its own, on a free port of loopback.

The fault suite's broker is this one too (scripts/_faults/broker.py), as its cameras are those of tests/rtsp.py.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Self

import pytest

from tests.ports import free_port

PROGRAMS = {
    name: shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin")
    for name in ("mosquitto", "mosquitto_passwd", "mosquitto_sub")
}
"""Where each is; None where it is not."""


def why_not() -> str | None:
    """Say in one line why no broker can be started here; None when one can."""
    missing = [name for name, path in PROGRAMS.items() if path is None]
    return f"no {', '.join(missing)}; run scripts/system-deps test" if missing else None


def program(name: str) -> str:
    """Return where one of `PROGRAMS` is; OSError where it is not."""
    path = PROGRAMS[name]
    if path is None:
        raise OSError(why_not())
    return path


def end(process: subprocess.Popen[Any]) -> None:
    """Terminate a process; kill it where that does not end it (seen: mosquitto_sub that had only just been started)."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# In CI nothing may be skipped for want of a package: there the tests fail.
_MISSING = None if os.environ.get("CI") == "true" else why_not()
requires_broker = pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING))


class Broker:
    """Runs for as long as the context lasts. `stop` and `start` leave what it retains in `folder`.

    Args:
        folder: For its configuration and store.
        port: 0 for a free one.
        more: Further lines of its configuration; without any, everybody may connect without TLS.
        log: Where it writes what it does; None for a file in `folder`.
    """

    def __init__(
        self, folder: Path, port: int = 0, more: str = "allow_anonymous true", log: Path | None = None
    ) -> None:
        self.port = port or free_port()
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "mosquitto.conf"
        self.log = log or folder / "mosquitto.log"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\n{more}\nlog_dest file {self.log}\nlog_type all\n"
            f"persistence true\npersistence_location {folder}/\nuser root\n"
        )

    def start(self, timeout_s: float = 30.0) -> None:
        """Start it and wait until it listens; OSError where it does not."""
        command = [program("mosquitto"), "-c", str(self._config)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        pause, until = threading.Event(), time.monotonic() + timeout_s
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self._process.poll() is not None:
                raise OSError(f"mosquitto ended with {self._process.returncode}; see {self.log}")
            if time.monotonic() > until:
                raise OSError("mosquitto does not listen")
            pause.wait(0.02)

    def stop(self) -> None:
        """End it; nothing that is sent to it arrives any more."""
        process, self._process = self._process, None
        if process is not None:
            end(process)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
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
        command = [
            program("mosquitto_sub"),
            "-h",
            "127.0.0.1",
            "-p",
            str(broker.port),
            "-q",
            "1",
            "-F",
            "%t %r %p",
            *wanted,
        ]
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

    def __exit__(self, *_: object) -> None:
        end(self._process)
        self._thread.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
