"""A real service whose cameras have a password: everything that it writes, publishes and answers is searched for it.

Beside that: what Prometheus' own tool says of the metrics of a running service, and the health routes.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from stream_i3d.errors import ServiceError
from stream_i3d.transport.control import AddCamera, GetSettings, ListCameras, RemoveCamera, Request, SayHello
from stream_i3d.transport.control_sockets import ControlClient
from stream_i3d.transport.sockets import Subscriber
from tests.ports import free_port
from tests.rtsp import RtspServer, requires_rtsp
from tests.test_end_to_end import SCENE

SECRET = "geheim"
WAIT_S = 110.0


class Watched:
    """A service, and everything it has said so far."""

    def __init__(self, folder: Path, config: dict[str, object]) -> None:
        self.folder = folder
        self._config = folder / "config.yaml"
        self._config.write_text(yaml.safe_dump(config))
        self._config.chmod(0o600)
        self._address = f"ipc://{folder / 'publish'}"
        command = [sys.executable, "-m", "stream_i3d", "run", "--config", str(self._config), "--log-format", "json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.log: list[bytes] = []
        self.heard: list[bytes] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._subscriber = Subscriber(self._address)
        self._control = ControlClient(f"{self._address}-control")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.log.append(line)
                self._changed.notify_all()

    def wait_for_log(self, *words: str) -> str:
        """Return the first message of the log with all these words."""

        def found() -> str | None:
            messages = [json.loads(line)["message"] for line in self.log if line.startswith(b"{")]
            return next((message for message in messages if all(word in message for word in words)), None)

        with self._changed:
            assert self._changed.wait_for(lambda: found() or self.process.poll() is not None, WAIT_S), self.log
            message = found()
        assert message is not None, self.log
        return message

    def get(self, path: str) -> tuple[int, bytes]:
        """Ask the HTTP endpoint; the answer is kept, headers too."""
        port = int(self.wait_for_log("metrics and health on").rpartition(":")[2])
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        client.request("GET", path)
        response = client.getresponse()
        body = response.read()
        self.heard += [str(response.headers).encode(), body]
        return response.status, body

    def ask(self, request: Request) -> bool:
        """Ask the control channel and keep the reply; tell whether it was carried out."""
        try:
            reply = self._control.request(request, WAIT_S)
        except ServiceError as error:
            self.heard.append(str(error).encode())
            return False
        self.heard.append(repr(reply).encode())
        return True

    def listen(self) -> list[bytes]:
        """Keep the next published message, if one comes soon."""
        parts = self._subscriber.receive(0.2) or []
        self.heard += parts
        return parts

    def listen_until(self, *words: bytes) -> None:
        """Keep what is published until a message has all these words."""
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            if (parts := self.listen()) and all(word in parts[1] for word in words):
                return
        raise AssertionError(f"never published: {words!r}")

    def wait_for_ready(self, status: int) -> None:
        """Ask for readiness until it is this."""
        until = time.monotonic() + WAIT_S
        while self.get("/readyz")[0] != status:
            assert time.monotonic() < until, self.get("/readyz")
            self.listen()

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> None:
        """End it in order, and keep its last words."""
        self.process.terminate()
        assert self.process.stdout is not None
        self.heard.append(self.process.stdout.read())
        assert self.process.wait(WAIT_S) == 0
        self._reader.join(WAIT_S)

    def everything(self) -> Iterator[tuple[str, bytes]]:
        """Yield all that it has written, published and answered, and where."""
        yield from (("log", line) for line in self.log)
        yield from (("answer or message", part) for part in self.heard)
        for path in self.folder.rglob("*"):
            if path.is_file() and path != self._config:
                yield str(path), path.read_bytes()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self._subscriber.close()
        self._control.close()
        self._reader.join(WAIT_S)
        self.process.communicate()


@pytest.fixture
def watched(tmp_path: Path, tiny_checkpoint: Path) -> Iterator[Watched]:
    """Three cameras: nobody there, the wrong password, and one that runs."""
    with RtspServer(user="user", password="another") as server:
        wrong = server.url.replace("://", f"://user:{SECRET}@")
        config = {
            "cameras": [
                {"name": "gone", "source": f"rtsp://user:{SECRET}@127.0.0.1:{free_port()}/x"},
                {"name": "wrong", "source": wrong},
                {"name": "scene", "source": SCENE},
            ],
            "model": {"checkpoint": str(tiny_checkpoint)},
            "publish": {
                "address": f"ipc://{tmp_path / 'publish'}",
                "jsonl": str(tmp_path / "said.jsonl"),
                "status_interval_s": 0.5,
            },
            "control": {"stay": True},
            "monitoring": {"address": "127.0.0.1:0", "token": None},
        }
        service = Watched(tmp_path, config)
        yield service
        service.close()


@requires_rtsp
def test_no_password_of_a_camera_comes_out_anywhere(watched: Watched) -> None:
    watched.wait_for_log("gone: ", "connection refused", "***@127.0.0.1")
    watched.wait_for_log("wrong: ", "***@127.0.0.1", "401")
    watched.wait_for_log("scene: live")
    watched.listen_until(b'"camera":"wrong"', b"401")
    watched.listen_until(b'"camera":"gone"', b"connection refused")
    for path in ("/metrics", "/healthz", "/readyz", "/status", f"/nothing?token={SECRET}"):
        assert watched.get(path)[0] == (404 if "nothing" in path else 200)
    for request in (SayHello(), ListCameras(), GetSettings()):
        assert watched.ask(request)
    for source in (f"ftp://user:{SECRET}@x/y", f"rtsp://user:{SECRET} {SECRET}@x/y"):
        assert not watched.ask(AddCamera(source=source))
    assert watched.ask(AddCamera(source=f"user:{SECRET}@camera/x.mp4", name="mistaken"))
    watched.listen_until(b'"camera":"mistaken"', b"no such file")
    watched.ask(RemoveCamera(camera="mistaken"))
    for child in watched.children():
        assert SECRET not in " ".join(child.cmdline())
    watched.end()
    where = [(place, said) for place, said in watched.everything() if SECRET.encode() in said]
    assert where == []
    assert sum(len(said) for _, said in watched.everything()) > 20_000  # something was searched
    for line in watched.log[:-1]:  # the last one is the summary
        assert json.loads(line)["process"]


@requires_rtsp
@pytest.mark.system
@pytest.mark.skipif(
    shutil.which("promtool") is None and os.environ.get("CI") != "true", reason="promtool: scripts/system-deps test"
)
def test_prometheus_accepts_the_metrics_of_a_running_service(watched: Watched) -> None:
    watched.wait_for_log("scene: live")
    watched.listen_until(b'"camera":"scene"', b"top_k")
    status, body = watched.get("/metrics")
    assert status == 200 and b'stream_i3d_camera_state{camera="scene",state="live"} 1.0' in body
    done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@requires_rtsp
def test_health_says_that_a_killed_worker_is_away_and_is_well_again(watched: Watched) -> None:
    watched.wait_for_log("metrics and health on")
    watched.wait_for_ready(200)
    assert watched.get("/healthz")[0] == 200
    known = json.loads(watched.get("/status")[1])
    [worker] = [stage for stage in known["stages"] if stage["role"] == "worker"]
    psutil.Process(worker["pid"]).kill()
    watched.wait_for_ready(503)
    watched.wait_for_ready(200)
    [restarted] = [stage for stage in json.loads(watched.get("/status")[1])["stages"] if stage["role"] == "worker"]
    assert (restarted["restarts"], restarted["state"]) == (1, "running") and restarted["pid"] != worker["pid"]
    watched.end()
