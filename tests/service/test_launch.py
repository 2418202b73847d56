"""The service as another program starts it: real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from stream_i3d.config import CameraConfig, Config, ModelConfig, SecurityConfig
from stream_i3d.errors import ServiceError
from stream_i3d.service.launch import _given_or, launch
from stream_i3d.transport.control import AddCamera, CamerasReply
from stream_i3d.transport.control_sockets import ControlClient

WAIT_S = 110.0
SCENE = "synthetic://?seed=2&fps=30&size=160x120"


def test_a_service_without_a_camera_waits_for_one_and_ends_with_its_owner(tiny_checkpoint: Path) -> None:
    # It is private to its owner, so it needs no keys, and reads none.
    keys = SecurityConfig(key="/none.key_secret", clients="/none")
    with launch(Config(model=ModelConfig(checkpoint=str(tiny_checkpoint)), security=keys)) as service:
        hello = service.wait_ready(WAIT_S)
        assert hello.publish == service.publish and hello.labels[0] == "still"
        assert service.poll() is None and service.failure() == ""
        with ControlClient(service.control) as client:
            reply = client.request(AddCamera(source=SCENE, name="door"), WAIT_S)
        assert isinstance(reply, CamerasReply) and reply.camera == "door"
        processes = psutil.Process(hello.pid).children(recursive=True)
        settings = Path(service._settings)
        assert settings.parent.stat().st_mode & 0o077 == 0  # passwords of cameras are in it
    assert not settings.exists()
    assert not psutil.pid_exists(hello.pid)
    assert psutil.wait_procs(processes, WAIT_S)[1] == []


def test_a_service_that_cannot_start_says_why_in_its_own_line() -> None:
    config = Config(cameras=[CameraConfig(source=SCENE)], model=ModelConfig(checkpoint="/none.safetensors"))
    with launch(config) as service:
        with pytest.raises(ServiceError, match=r"^checkpoint '/none.safetensors' does not exist"):
            service.wait_ready(WAIT_S)
        assert service.poll() == 2


def test_a_service_ends_when_the_program_that_started_it_is_killed(tiny_checkpoint: Path) -> None:
    code = (
        "import sys\n"
        "from stream_i3d.config import Config, ModelConfig\n"
        "from stream_i3d.service.launch import launch\n"
        "service = launch(Config(model=ModelConfig(checkpoint=sys.argv[1])))\n"
        "print(service.wait_ready(110).pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tiny_checkpoint)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        supervisor = psutil.Process(int(owner.stdout.readline()))
        owner.kill()
    supervisor.wait(WAIT_S)
    assert not supervisor.is_running()


def test_starting_a_service_needs_neither_opencv_nor_torch() -> None:
    code = (
        "import sys, stream_i3d.service.launch, stream_i3d.service.demo_settings, stream_i3d.transport.preview\n"
        "print(*{'cv2', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_an_address_that_was_asked_for_by_name_is_kept_and_others_are_private() -> None:
    private = "ipc:///tmp/x"
    assert _given_or("tcp://127.0.0.1:7001", "tcp://127.0.0.1:5556", private) == "tcp://127.0.0.1:7001"
    for address, default in (("tcp://127.0.0.1:5556",) * 2, ("off", "auto"), (None, "auto"), ("tcp://h:*", "auto")):
        assert _given_or(address, default, private) == private
