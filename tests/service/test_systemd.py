from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_i3d.service.systemd import SystemdNotifier

pytestmark = pytest.mark.skipif(not hasattr(socket, "SOCK_CLOEXEC"), reason="systemd is Linux's")


class Manager:
    """The other end: what systemd would hear."""

    def __init__(self, address: str | bytes) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def on_message(self) -> list[str]:
        said = []
        while True:
            try:
                said.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return said

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.close()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}


def test_ready_and_stopping_are_said_with_a_line_for_people(manager: Manager, environ: dict[str, str]) -> None:
    notifier = SystemdNotifier(environ, pid=7)
    notifier.ready("i3d on cpu,\n 2 cameras")
    notifier.stopping()
    assert manager.on_message() == ["READY=1\nSTATUS=i3d on cpu, 2 cameras", "STOPPING=1"]


def test_life_is_said_three_times_in_the_time_allowed_and_not_at_every_turn(
    manager: Manager, environ: dict[str, str]
) -> None:
    notifier = SystemdNotifier(environ, pid=7)
    for tenth in range(301):
        notifier.alive(1000 + tenth / 10)
    assert manager.on_message() == ["WATCHDOG=1"] * 4


@pytest.mark.parametrize(
    "changes", [{"WATCHDOG_PID": "8"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": ""}]
)
def test_life_is_not_said_where_nobody_watches_this_process(
    manager: Manager, environ: dict[str, str], changes: dict[str, str]
) -> None:
    SystemdNotifier({**environ, **changes}, pid=7).alive(1.0)
    assert manager.on_message() == []


def test_a_name_with_an_at_is_an_abstract_socket() -> None:
    name = f"stream-i3d-test-{os.getpid()}"
    manager = Manager(b"\0" + name.encode())
    SystemdNotifier({"NOTIFY_SOCKET": f"@{name}"}).ready("")
    assert manager.on_message() == ["READY=1\nSTATUS="]
    manager.close()


def test_nothing_is_said_without_systemd(caplog: pytest.LogCaptureFixture) -> None:
    notifier = SystemdNotifier({})
    with caplog.at_level(logging.WARNING, "stream_i3d"):
        notifier.ready("x")
        notifier.alive(1.0)
        notifier.stopping()
    assert caplog.records == []  # nor tried: to nobody's address it would fail, and be told


def test_a_manager_that_is_gone_is_told_of_once_and_breaks_nothing(
    environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    notifier = SystemdNotifier(environ, pid=7)
    with caplog.at_level(logging.WARNING, "stream_i3d"):
        notifier.ready("x")
        notifier.alive(1.0)
        notifier.stopping()
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["cannot tell systemd READY=1"]


@pytest.mark.slow
def test_a_service_says_when_it_publishes_that_it_lives_and_that_it_stops(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(90)
        command = [sys.executable, "-m", "stream_i3d", "run", "--source", "synthetic://?seed=1&size=160x120"]
        command += [
            "--checkpoint",
            str(tiny_checkpoint),
            "--publish",
            f"ipc://{tmp_path}/publish",
            "--backend",
            "torch",
        ]
        environ = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
        with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as service:
            try:
                heard = [manager.recv(4096).decode()]
                while not heard[-1].startswith("READY=1\n"):
                    heard.append(manager.recv(4096).decode())
                assert heard[-1].startswith(f"READY=1\nSTATUS=publishing on ipc://{tmp_path}/publish: ")
                assert manager.recv(4096) == b"WATCHDOG=1"
                service.send_signal(signal.SIGTERM)
                while (last := manager.recv(4096)) == b"WATCHDOG=1":
                    pass
                assert last == b"STOPPING=1"
                assert service.wait(30) == 0
            finally:
                service.kill()
