"""A real MQTT broker, mosquitto, and a client that is not ours, mosquitto_sub, which the broker keeps messages for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from _faults.service import pause
from _faults.watch import Unmet
from tests.ports import free_port

USER = "service"
_START_S = 10.0


def missing() -> str | None:
    """Say why there is no broker here."""
    for program in ("mosquitto", "mosquitto_passwd", "mosquitto_sub"):
        if _path(program) is None:
            return f"no {program}; run scripts/system-deps test"
    return None


class Heard(NamedTuple):
    """One message that mosquitto_sub printed."""

    topic: str
    retained: bool
    payload: str

    @property
    def json(self) -> Any:
        """The payload as JSON."""
        return json.loads(self.payload)


class Broker:
    """mosquitto on a port of loopback, which asks for a password and keeps its sessions, with a subscriber to all.

    Attributes:
        port: Always the same, however often it is started.
        heard: What the subscriber printed; a file, searched for passwords like all others.
    """

    def __init__(self, private: Path, public: Path, password: str) -> None:
        """Args: `password` is what the user `service` must give."""
        self.port = free_port()
        self.heard = public / "mqtt.messages"
        self._password = password
        self._folder = private / "mosquitto"
        self._folder.mkdir()
        self._log = public / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._subscriber: subprocess.Popen[bytes] | None = None
        self._configure()

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            command = [_need("mosquitto"), "-c", str(self._folder / "conf")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + _START_S
        while not self._answers():
            if time.monotonic() > until or self._process.poll() is not None:
                raise Unmet("mosquitto did not start")
            pause(0.1)

    def stop(self) -> None:
        """End it; it keeps what it has for its sessions."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(_START_S)

    def messages(self) -> list[Heard]:
        """Return what the subscriber has heard so far."""
        lines = self.heard.read_text(errors="replace").split("\n")[:-1]
        fields = (line.split(" ", 2) for line in lines)
        return [Heard(topic, retained == "1", payload) for topic, retained, payload in fields]

    def __enter__(self) -> Self:
        self.start()
        # Its session outlives it and the broker (-c), so that what it could not be told is told later.
        command = [*self._client("mosquitto_sub"), "-i", "fault-suite", "-c", "-q", "1", "-t", "#", "-F", "%t %r %p"]
        with self.heard.open("ab") as heard:
            self._subscriber = subprocess.Popen(command, stdout=heard, stderr=subprocess.DEVNULL)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._subscriber is not None:
            self._subscriber.terminate()
            self._subscriber.wait(_START_S)
        self.stop()

    def _configure(self) -> None:
        passwords = self._folder / "passwords"
        passwords.touch(mode=0o600)
        subprocess.run([_need("mosquitto_passwd"), "-b", str(passwords), USER, self._password], check=True)
        lines = [
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous false",
            f"password_file {passwords}",
            "persistence true",
            f"persistence_location {self._folder}/",
            "max_queued_messages 100000",
            *(["user root"] if os.getuid() == 0 else []),
        ]
        (self._folder / "conf").write_text("\n".join(lines) + "\n")

    def _client(self, program: str) -> list[str]:
        return [_need(program), "-h", "127.0.0.1", "-p", str(self.port), "-u", USER, "-P", self._password]

    def _answers(self) -> bool:
        asked = [*self._client("mosquitto_sub"), "-t", "fault-suite/none", "-W", "1", "-E"]  # ends once subscribed
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def _path(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _need(program: str) -> str:
    path = _path(program)
    if path is None:
        raise Unmet(f"no {program}; run scripts/system-deps test")
    return path
