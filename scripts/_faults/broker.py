"""The tests' MQTT broker (tests/broker.py) as suites need it: with a password, and a subscriber that misses nothing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.broker import Broker, end, program

USER = "service"


class Heard(NamedTuple):
    """One message that mosquitto_sub printed."""

    topic: str
    retained: bool
    payload: str

    @property
    def json(self) -> Any:
        """The payload as JSON."""
        return json.loads(self.payload)


class HeardBroker(Broker):
    """A broker that asks for a password and keeps its sessions, and mosquitto_sub, subscribed to all, beside it.

    Attributes:
        heard: What the subscriber printed; a file, searched for passwords like all others.
    """

    def __init__(self, private: Path, public: Path, password: str) -> None:
        """Args: `password` is what the user `service` must give."""
        folder = private / "mosquitto"
        folder.mkdir()
        passwords = folder / "passwords"
        passwords.touch(mode=0o600)
        subprocess.run([program("mosquitto_passwd"), "-b", str(passwords), USER, password], check=True)
        more = f"allow_anonymous false\npassword_file {passwords}\nmax_queued_messages 100000"
        super().__init__(folder, more=more, log=public / "mosquitto.log")
        self.heard = public / "mqtt.messages"
        self._password = password
        self._subscriber: subprocess.Popen[bytes] | None = None

    def messages(self) -> list[Heard]:
        """Return what the subscriber has heard so far."""
        lines = self.heard.read_text(errors="replace").split("\n")[:-1]
        fields = (line.split(" ", 2) for line in lines)
        return [Heard(topic, retained == "1", payload) for topic, retained, payload in fields]

    def __enter__(self) -> Self:
        super().__enter__()
        login = ["-h", "127.0.0.1", "-p", str(self.port), "-u", USER, "-P", self._password]
        # Its session outlives it and the broker (-c), so that what it could not be told is told later.
        session = ["-i", "fault-suite", "-c", "-q", "1", "-t", "#", "-F", "%t %r %p"]
        with self.heard.open("ab") as heard:
            self._subscriber = subprocess.Popen(
                [program("mosquitto_sub"), *login, *session], stdout=heard, stderr=subprocess.DEVNULL
            )
        return self

    def __exit__(self, *exc: object) -> None:
        if self._subscriber is not None:
            end(self._subscriber)
        super().__exit__(*exc)
