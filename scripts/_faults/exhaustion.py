"""Faults of want: too few files, a worker that does not read, too little processor time, each to an own service."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.request import urlopen

from _faults.messages import Listening, listening
from _faults.rig import Rig, until
from _faults.service import START_S, Service, ended, pause
from _faults.table import Fault, NotAllowed, Outcome
from _faults.watch import Unmet
from stream_i3d.service.process_limits import raise_open_files_limit
from stream_i3d.transport.addresses import control_address
from stream_i3d.transport.control import (
    AddCamera,
    CamerasReply,
    ChangeSettings,
    ListCameras,
    ListStages,
    StageInfo,
    StagesReply,
)
from stream_i3d.transport.control_sockets import ControlClient
from tests.ports import free_port

_FILES = 256
_IDLE = 300
_HELD_S = 6.0
_GAP_S = 5.0
_FAILING = 38
_SLOW = 16
_BURN = "while True: pass"


def idle_connections(rig: Rig) -> Outcome:
    """Connect to every socket more often than the service may have files, and send nothing."""
    if (raise_open_files_limit() or 0) < 4096:
        raise NotAllowed("this user may not have 4,096 files open")
    monitor = f"127.0.0.1:{free_port()}"
    prefix = ("sh", "-c", f'ulimit -n {_FILES} && exec "$@"', "sh")
    settings = {"monitoring": {"address": monitor}}
    with rig.service("crowded", {"s": "synthetic://"}, settings, prefix=prefix) as service:
        service.steady()
        before = {name: one.pid for name, one in service.stages().items()}
        # Paths are for processes of this user alone; see tests/transport/test_connection_limit.py.
        places, start = [place for place in listening(service) if not isinstance(place, str)], time.monotonic()
        with ExitStack() as held:
            for place in places:
                for _ in range(_IDLE):
                    held.enter_context(_connection(place))
            pause(_HELD_S)
            came = time.monotonic()
            with ControlClient(_control(service)) as client:
                client.request(ListCameras(), 20.0)
            urlopen(f"http://{monitor}/healthz", timeout=20).close()
            service.steady()
        took = time.monotonic() - came
        gap = service.watch.longest_gap("s", start, service.steady())
        if before != {name: one.pid for name, one in service.stages().items()}:
            raise Unmet("a process was started again")
    if gap > rig.slack * _GAP_S:
        raise Unmet(f"a subscriber that was there before was without a prediction for {gap:.1f} s")
    return Outcome(took, f"{len(places)} sockets, {_IDLE} connections each, {_FILES} files; longest gap {gap:.1f} s")


def blocked_orders(rig: Rig) -> Outcome:
    """Stop the worker, give it an order that no pipe holds, and tell the service to end."""
    reason = "道" * 80  # three bytes each
    sources = {"s": "synthetic://"}
    with rig.service("blocked", sources, {"control": {"stay": True}}) as service, _control_of(service) as client:
        service.steady()
        for number in range(_FAILING):
            client.request(AddCamera(source=f"/nowhere/{number}/{reason}/{reason}.mp4"), 20.0)
        until(lambda: _given_up(client) == _FAILING, 4 * START_S * rig.slack, "all bad cameras have given up")
        service.stage("worker").suspend()
        client.request(ChangeSettings(settings={"smoothing.time_constant_s": 0.3}), 5.0)
        client.request(ChangeSettings(settings={"smoothing.time_constant_s": 0.4}), 5.0)
        family, start = service.family(), time.monotonic()
        service.supervisor.send_signal(signal.SIGTERM)
        code = service.reap()
        took = time.monotonic() - start
        if code or not ended(family, 1.0):
            raise Unmet(f"exit code {code}, or processes are left")
    return Outcome(took, f"{_FAILING} cameras that had given up, each with a reason of some 500 bytes")


def slow_start(rig: Rig) -> Outcome:
    """Add many cameras at once on a machine whose cores are all taken four times over."""
    with rig.service("slow", {"s": "synthetic://"}, {"control": {"stay": True}}) as service, ExitStack() as load:
        service.steady()
        for _ in range(4 * (os.cpu_count() or 1)):
            load.enter_context(_burner())
        client = load.enter_context(_control_of(service))
        start = time.monotonic()
        for number in range(_SLOW):
            client.request(AddCamera(source="synthetic://", name=f"c{number}"), 30.0)
        took = until(lambda: _running(client) >= _SLOW, 300.0 * rig.slack, "all cameras run")
        restarts = sum(one.restarts for one in _stages(client))
    if restarts:
        raise Unmet(f"{restarts} restarts; all ran after {took:.0f} s")
    return Outcome(time.monotonic() - start, f"{_SLOW} cameras, none started again")


@contextmanager
def _connection(place: Listening) -> Iterator[None]:
    """Hold a connection; one that finds no room is none."""
    with socket.socket(socket.AF_UNIX if isinstance(place, str) else socket.AF_INET) as end:
        end.settimeout(0.2)
        for _ in range(20):
            try:
                end.connect(place)
                break
            except (BlockingIOError, FileNotFoundError):  # of a path: as many as it takes at once wait already
                pause(0.01)
            except OSError:
                break
        yield


@contextmanager
def _burner() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", _BURN]) as burner:
        try:
            yield
        finally:
            burner.kill()


def _control(service: Service) -> str:
    address = control_address("auto", service.address, keyed=False)
    assert address is not None, "every published address has a control address beside it"
    return address


def _control_of(service: Service) -> ControlClient:
    return ControlClient(_control(service))


def _given_up(client: ControlClient) -> int:
    reply = client.request(ListCameras(), 20.0)
    assert isinstance(reply, CamerasReply)
    return sum(camera.status is not None and camera.status.state == "stopped" for camera in reply.cameras)


def _stages(client: ControlClient) -> list[StageInfo]:
    reply = client.request(ListStages(), 30.0)
    assert isinstance(reply, StagesReply)
    return reply.stages


def _running(client: ControlClient) -> int:
    return sum(one.state == "running" and one.name.startswith("capture c") for one in _stages(client))


FAULTS = [
    Fault(
        "idle-connections",
        "300 idle connections to every TCP socket of a service that may open 256 files",
        "nothing is started again; old clients are served on, new ones get in",
        20.0,
        idle_connections,
    ),
    Fault(
        "blocked-orders",
        "SIGSTOP of the worker of 38 cameras that gave up with long reasons, a change of settings, SIGTERM",
        "all ended, exit code 0",
        6.0,
        blocked_orders,
        short=False,
    ),
    Fault(
        "slow-start",
        "16 cameras added at once while every core is wanted by four other programs",
        "all run; none is started again",
        180.0,
        slow_start,
        short=False,
    ),
]
