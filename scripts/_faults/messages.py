"""Faults of those who connect: garbage on every socket that the service listens on, and a subscriber that never reads.

The sockets are found, not listed: all that the service's processes listen on, so that a new one is under fire at once.
"""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil
import zmq

from _faults.rig import Rig
from _faults.service import Service, pause
from _faults.table import Fault, Outcome
from _faults.watch import Unmet

_GROWTH_MB = 24.0
"""Buffers and arenas that stay after the first big message; a leak of what is sent here would be hundreds."""
_GAP_S = 2.5
_ROUNDS, _SHORT_ROUNDS = 10, 3
_BIG = 8 * 1024 * 1024
_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + bytes(32)  # ZMTP 3.0, as a client says it

_HEADER = {
    "kind": "frame", "version": 1, "camera": "a", "epoch": 1, "seq": 1, "capture_ns": 1, "wall_time": 0.0,
    "shape": [112, 112, 3], "dtype": "uint8",
}  # fmt: skip
_REPORT = {"kind": "report", "version": 1, "camera": "a", "state": "live", "fps": 1, "reconnects": 0, "detail": ""}

_REQUESTS = [  # of HTTP; the other sockets must bear them too
    b"GET /metrics HTTP/1.1\r\n" + b"X-Long: " + b"y" * 200_000 + b"\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"GET /" + b"%2e%2e/" * 20_000 + b" HTTP/1.1\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nx",
    b"GET /status HTTP/9.9\r\nHost: evil.example\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: ",  # and never more
]

Listening = str | tuple[str, int]
"""The path of a Unix socket, or host and port."""


def garbage(rig: Rig) -> Outcome:
    """Send everything that is no message to every socket; weigh the processes before and after."""
    service, rounds = rig.main, _SHORT_ROUNDS if rig.short else _ROUNDS
    service.steady()
    places, before = listening(service), weights(service)
    start = time.monotonic()
    for number in range(rounds):
        for place in places:
            _attack(place, random.Random(number))
    gap_until = service.steady()
    pause(1.0)
    after = weights(service)
    if before.keys() != after.keys():
        raise Unmet("a process was started again")
    most, name = max((after[one] - before[one], one[0]) for one in before)
    gap = max(service.watch.longest_gap(camera, start, gap_until) for camera in service.cameras)
    note = f"{len(places)} sockets, {rounds} rounds; most grown: {name} by {most:.1f} MB; longest gap {gap:.1f} s"
    if most > _GROWTH_MB or gap > rig.slack * _GAP_S:
        raise Unmet(note)
    if not service.said("rejected"):
        raise Unmet("nothing was said to be rejected")
    return Outcome(None, note)


def idle_subscriber(rig: Rig) -> Outcome:
    """Connect a subscriber that never reads; others must miss nothing and the publisher not grow."""
    service, seconds = rig.main, 5.0 if rig.short else 30.0
    before, start = weights(service), time.monotonic()
    with zmq.Context() as context, context.socket(zmq.SUB) as idle:
        idle.setsockopt(zmq.LINGER, 0)
        idle.setsockopt(zmq.RCVHWM, 1)
        idle.setsockopt(zmq.RCVBUF, 4096)
        idle.setsockopt(zmq.SUBSCRIBE, b"")
        idle.connect(service.address)
        pause(seconds)
        gap = max(service.watch.longest_gap(camera, start, time.monotonic()) for camera in service.cameras)
    after = weights(service)
    most = max(after.get(name, 0.0) - weight for name, weight in before.items())
    note = f"{seconds:g} s; most grown by {most:.1f} MB; longest gap of another subscriber {gap:.2f} s"
    if gap > rig.slack * _GAP_S or most > _GROWTH_MB:
        raise Unmet(note)
    return Outcome(None, note)


def weights(service: Service) -> dict[tuple[str, int], float]:
    """Return the resident memory of the service's processes in MB, by name and process id."""
    processes = {**service.stages(), "supervisor": service.supervisor}
    return {(name, one.pid): one.memory_info().rss / 1e6 for name, one in processes.items()}


def listening(service: Service, processes: Sequence[psutil.Process] = ()) -> list[Listening]:
    """Return every socket that some processes (none given: all of the service) listen on."""
    places: set[Listening] = set()
    for process in processes or service.family():
        with suppress(psutil.Error):
            for one in process.net_connections("tcp"):
                if one.status == psutil.CONN_LISTEN:
                    places.add((str(one.laddr.ip), int(one.laddr.port)))
            places.update(
                one.laddr for one in process.net_connections("unix") if one.laddr and "stream-i3d" in one.laddr
            )
    return sorted(places, key=str)


def _attack(place: Listening, chance: random.Random) -> None:
    with _connected(place) as one, _connected(place) as other, _connected(place) as third, suppress(OSError):
        one.sendall(chance.randbytes(100_000))  # no protocol at all
        other.sendall(_GREETING[:20])  # a greeting that breaks off
        third.sendall(_GREETING + b"\x00\xff" + chance.randbytes(5000))  # a good one, and nonsense after it
        pause(0.01)
    for request in _REQUESTS:
        with _connected(place) as caller, suppress(OSError):
            caller.sendall(request)
            pause(0.01)
    for kind in (b"PUSH", b"DEALER", b"SUB"):
        for parts in _nonsense(kind, chance):
            with _connected(place) as peer, suppress(OSError):  # it does not speak our kind, or has cut us off
                peer.sendall(_GREETING + _ready(kind))
                for index, part in enumerate(parts):
                    _send_frame(peer, part, more=index < len(parts) - 1)
                pause(0.002)


@contextmanager
def _connected(place: Listening) -> Iterator[socket.socket]:
    """Give a connection; what happens to it is the service's to say.

    Bytes, not ZeroMQ: it would not send half of this, and crashes at some of the rest.
    """
    with socket.socket(socket.AF_UNIX if isinstance(place, str) else socket.AF_INET) as end:
        end.settimeout(1.0)
        try:
            end.connect(place)
        except OSError as error:
            raise Unmet(f"cannot connect to {place}: {error}") from None
        yield end


def _ready(kind: bytes) -> bytes:
    """Return the command that ends a handshake without keys."""
    body = b"\x05READY\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind
    return bytes([4, len(body)]) + body


def _send_frame(peer: socket.socket, part: bytes, more: bool) -> None:
    size = len(part).to_bytes(8, "big") if len(part) > 255 else bytes([len(part)])
    peer.sendall(bytes([more | (2 if len(part) > 255 else 0)]) + size)
    peer.sendall(part)


def _nonsense(kind: bytes, chance: random.Random) -> Sequence[Sequence[bytes]]:
    """Return messages that no end should take."""
    if kind == b"SUB":  # subscriptions: none of ours is longer than a topic
        return [[b"\x01" + chance.randbytes(30)], [b"\x07"], [b""], [b"\x00never"], [b"\x01" + b"v" * _BIG]]
    header, report = json.dumps(_HEADER).encode(), json.dumps(_REPORT).encode()
    wrong = [{**_HEADER, **change} for change in _WRONG]
    return [
        [b""],
        [chance.randbytes(200)],
        [b"[" * 20_000],
        [header[: chance.randrange(len(header))], b"x"],
        [report, b"a second part"],
        [json.dumps({**_REPORT, "state": "asleep"}).encode()],
        [header, b"too few"],
        *([json.dumps(one).encode(), bytes(112 * 112 * 3)] for one in wrong),
        [header, *[b"part"] * 500],
        [b"", json.dumps({"schema": "stream-i3d/control/1", "request": "dance"}).encode()],
        [json.dumps({"request": "hello", "id": -1}).encode()],
        [b'{"schema": "stream-i3d/event/1"}', b"v1/a/event"],
        [b"x" * _BIG],
        [header, bytes(_BIG)],
        [b"x" * 9 * _BIG],
    ]


_WRONG: list[dict[str, object]] = [
    {"shape": [0, 0, 3]},
    {"shape": [10**9, 10**9, 3]},
    {"shape": [-1, 112, 3]},
    {"shape": [112, 112]},
    {"shape": [224, 224, 3]},
    {"camera": "somebody else"},
    {"camera": "b"},
    {"seq": 2**63},
    {"wall_time": None},
    {"dtype": "object"},
    {"more": 1},
]

FAULTS = [
    Fault(
        "garbage",
        "garbage, oversized, truncated and wrong-shape messages on every socket",
        "service goes on; rejections are said; memory stays",
        None,
        garbage,
    ),
    Fault(
        "idle-subscriber",
        "a subscriber that never reads",
        "others miss nothing; memory stays",
        None,
        idle_subscriber,
    ),
]
