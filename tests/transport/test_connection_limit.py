"""Idle connections, more than a process may have files: in a process of its own, with a limit of 256 or 2,048."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stream_i3d.transport.connection_limit import highest_file
from tests.keys import Ring

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there are no such limits on Windows")

SERVER = """
import json, resource, sys, threading, time
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, int(sys.argv[4])), hard))
from pathlib import Path
from stream_i3d.transport.sockets import Publisher
from stream_i3d.transport.preview import PreviewPublisher
from stream_i3d.transport.control_sockets import ControlServer
from stream_i3d.transport.frames import FrameReceivers
from stream_i3d.transport.relay import RelayReceiver
from stream_i3d.transport.control import HelloReply
from stream_i3d.transport.wire import Preview, encode_published
from tests.keys import Ring
from tests.samples import status
kind, address, ring = sys.argv[1:4]
keys = Ring(Path(ring)).server() if ring else None
if kind == "publish":
    end = Publisher(address, keys)
    turn = lambda: end.send(encode_published(status()))
elif kind == "preview":
    end = PreviewPublisher(address, keys)
    turn = lambda: end.watched() and end.send(Preview(b"\\xff\\xd8 a picture", 1, 0))
elif kind == "control":
    end = ControlServer(address, keys)
    hello = HelloReply(version="1", pid=1, started_at=0.0, ready=True, publish="", model=None, labels=[], engine="",
                       device="", precision="")
    turn = lambda: end.serve(0.0, lambda request: hello)
elif kind == "relay":
    end = RelayReceiver(address)
    turn = lambda: end.receive()
else:
    end = FrameReceivers([address])
    turn = lambda: end.receive(0)
print(json.dumps(getattr(end, "address", address)), flush=True)
threading.Thread(target=sys.stdin.read, daemon=True).start()
while True:
    turn()
    threading.Event().wait(0.02)
"""

IDLE = """
import socket, sys, threading
address, count = sys.argv[1], int(sys.argv[2])
pause, held = threading.Event(), []
while len(held) < count:
    try:
        if address.startswith("ipc://"):
            one = socket.socket(socket.AF_UNIX)
            held.append(one)
            one.settimeout(10.0)
            one.connect(address.removeprefix("ipc://"))
        else:
            held.append(socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=10.0))
    except (BlockingIOError, TimeoutError, ConnectionResetError, FileNotFoundError):  # no room just now
        pause.wait(0.05)
print("there", flush=True)
sys.stdin.read()
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Ring:
    return Ring.make(tmp_path_factory.mktemp("keys"))


@contextmanager
def process(code: str, *args: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run code, and give its first line; it ends with the block."""
    command = [sys.executable, "-c", code, *args]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            yield running, running.stdout.readline().strip()
        finally:
            running.kill()


def is_served(kind: str, address: str, ring: Ring | None) -> bool:
    """Tell whether a client that comes now is served."""
    from stream_i3d.transport.control import SayHello
    from stream_i3d.transport.control_sockets import ControlClient
    from stream_i3d.transport.frames import FrameSender
    from stream_i3d.transport.preview import PreviewReceivers
    from stream_i3d.transport.relay import RelaySender
    from stream_i3d.transport.sockets import Subscriber, wait_for_any

    keys = None if ring is None else ring.client()
    if kind == "publish":
        with Subscriber(address, keys=keys) as subscriber:
            return subscriber.receive(20.0) is not None
    if kind == "preview":
        with PreviewReceivers(keys) as receivers:
            receivers.follow({"door": address})
            return wait_for_any([receivers], 20.0)
    if kind == "control":
        with ControlClient(address, keys) as client:
            return client.request(SayHello(), 20.0) is not None
    if kind == "relay":
        with RelaySender(address, "worker", []) as sender:
            return sender.arrive(20.0)
    with FrameSender(address) as sender:
        return sender.connected(20.0)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("keyed", [False, True], ids=["open", "keyed"])
@pytest.mark.parametrize("kind", ["publish", "preview", "control"])
def test_more_idle_connections_than_files_keep_no_client_out(kind: str, keyed: bool, ring: Ring) -> None:
    folder = str(ring.folder) if keyed else ""
    with process(SERVER, kind, "tcp://127.0.0.1:*", folder, "256") as (server, line):
        address = json.loads(line)
        with process(IDLE, address, "400") as (_, said):
            assert said == "there"
            assert is_served(kind, address, ring if keyed else None)  # while all of them are still there
        assert server.poll() is None
        assert is_served(kind, address, ring if keyed else None)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["publish", "control", "relay", "frames"])
def test_idle_connections_to_a_path_do_not_end_the_process(kind: str, tmp_path: Path) -> None:
    """Without a limit ZeroMQ aborts: "Too many open files (src/ipc_listener.cpp)".

    It may still where hundreds come at once and there are few more files than those that connections may take.
    """
    address = f"ipc://{tmp_path / 'socket'}"
    with process(SERVER, kind, address, "", "2048") as (server, _):
        with process(IDLE, address, "3000") as (_, said):
            assert said == "there"
            assert server.poll() is None
        assert is_served(kind, address, None)
        assert server.poll() is None


@pytest.mark.parametrize(
    ("soft", "private", "highest"), [(256, False, 128), (256, True, 192), (1024, False, 896), (10**6, True, 960)]
)
def test_files_are_kept_for_the_service_and_for_its_own_processes(soft: int, private: bool, highest: int) -> None:
    assert highest_file(soft, private) == highest
