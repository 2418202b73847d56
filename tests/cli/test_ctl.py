"""`ctl` as a user calls it, against a control channel that a test answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream_i3d.transport.control import (
    AddCamera,
    CameraInfo,
    CamerasReply,
    ChangeSettings,
    ChangeSource,
    ErrorReply,
    HelloReply,
    ListCameras,
    Reply,
    Request,
    SettingsReply,
    StagesReply,
)
from stream_i3d.transport.control_sockets import ControlServer

Cli = Callable[..., subprocess.CompletedProcess[str]]
DOOR = CameraInfo(name="door", source="rtsp://***@cam", paused=False, preview=None, status=None)


class Service:
    """Answers as a service would; notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.refusal = ""
        self._server = ControlServer("tcp://127.0.0.1:*")
        self.address = self._server.address
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._server.serve(0.05, self._answer)
        self._server.close()

    def _answer(self, request: Request) -> Reply:
        self.asked.append(request)
        if self.refusal:
            return ErrorReply(message=self.refusal)
        name = type(request).__name__
        if name == "SayHello":
            return HelloReply(version="1", pid=7, started_at=0.0, ready=True, publish="tcp://127.0.0.1:5")
        if name == "ListStages":
            return StagesReply(stages=[])
        if name in ("ChangeSettings", "GetSettings"):
            return SettingsReply(settings={"window.stride": 4})
        return CamerasReply(cameras=[DOOR])

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


@pytest.fixture
def service() -> Iterator[Service]:
    running = Service()
    yield running
    running.close()


def test_status_shows_service_processes_and_cameras(cli: Cli, service: Service) -> None:
    done = cli("ctl", "status", "--connect", service.address, "--timeout", 60)
    assert done.returncode == 0, done.stderr
    for word in ("stream-i3d 1, pid 7, ready", "planned", "door", "rtsp://***@cam"):
        assert word in done.stdout


def test_json_is_a_line_for_each_answer(cli: Cli, service: Service) -> None:
    done = cli("ctl", "status", "--json", "--connect", service.address, "--timeout", 60)
    assert [json.loads(line)["reply"] for line in done.stdout.splitlines()] == ["hello", "stages", "cameras"]


def test_add_with_replace_changes_the_source_of_a_camera_that_is_there(cli: Cli, service: Service) -> None:
    for name in ("door", "hall"):
        given = ("rtsp://u:s3cret@cam", "--name", name, "--replace")
        done = cli("ctl", "add", *given, "--connect", service.address, "--timeout", 60)
        assert (done.returncode, "s3cret" in done.stdout + done.stderr) == (0, False)
    changes = [request for request in service.asked if not isinstance(request, ListCameras)]
    assert [type(request) for request in changes] == [ChangeSource, AddCamera]


def test_settings_are_read_as_in_a_configuration(cli: Cli, service: Service) -> None:
    done = cli(
        "ctl", "set", "window.stride=4", "idle.skip_inference=true", "--connect", service.address, "--timeout", 60
    )
    assert "window.stride" in done.stdout
    [request] = service.asked
    assert isinstance(request, ChangeSettings)
    assert request.settings == {"window.stride": 4, "idle.skip_inference": True}


def test_a_refusal_is_one_line_and_exit_code_2(cli: Cli, service: Service) -> None:
    service.refusal = "no camera 'dor' (did you mean 'door'?); there are: door"
    done = cli("ctl", "pause", "dor", "--connect", service.address, "--timeout", 60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip() == f"error: {service.refusal}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["status", "--connect", "tcp://127.0.0.1:1", "--timeout", 0.2],
            "no answer from tcp://127.0.0.1:1 within 0.2 s",
        ),
        (["status", "--connect", "nonsense"], "nonsense"),
        (["status", "--timeout", "inf"], "inf is not in the range"),
        (["status", "--timeout", "nan"], "nan is no number of seconds"),
        (["pause", "door\udcff"], "no text (UTF-8)"),
        (["remove", "a/b", "--connect", "tcp://127.0.0.1:1"], "camera"),
        (["set", "stride", "--connect", "tcp://127.0.0.1:1"], "write key=value"),
        (["add", "0", "--replace"], "--replace needs --name"),
        (["status", "--key", "{tmp}/none.key_secret"], "key"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], said: str, cli: Cli, tmp_path: Path) -> None:
    done = cli("ctl", *(str(argument).format(tmp=tmp_path) for argument in arguments))
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_source_from_standard_input_that_is_no_text_is_one_line_in_every_locale() -> None:
    for encoding in ("utf-8:strict", "utf-8:surrogateescape"):
        done = subprocess.run(
            [sys.executable, "-m", "stream_i3d", "ctl", "add", "-"],
            input=b"rtsp://u:s3cret\xff@cam\n",
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": encoding},
            timeout=90,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"no text (UTF-8)" in done.stderr and b"s3cret" not in done.stderr
        assert len(done.stderr.splitlines()) == 1
