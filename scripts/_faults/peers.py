"""Faults of the other ends: subscribers that ask for too much, a broker and a webhook that misbehave."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import zmq

from _faults.messages import weights
from _faults.rig import Rig, until
from _faults.service import pause
from _faults.table import Fault, Outcome
from _faults.watch import Unmet

_GROWTH_MB = 100.0
"""Subscriptions within the limits take up to 40 MB; without limits those that are sent here would take 880."""
_PACKET_MB = 24.0
_GAP_S = 2.5
_SUBSCRIBERS, _TOPICS, _TOPIC_BYTES = 200, 100, 900


def subscriptions(rig: Rig) -> Outcome:
    """Connect many subscribers with many long topics; others must miss nothing and the publisher not grow."""
    service, seconds = rig.main, 5.0 if rig.short else 15.0
    before, start = weights(service), time.monotonic()
    with zmq.Context() as context, ExitStack() as stack:
        context.set(zmq.MAX_SOCKETS, 2 * _SUBSCRIBERS)
        for _ in range(_SUBSCRIBERS):
            one = stack.enter_context(context.socket(zmq.SUB))
            one.setsockopt(zmq.LINGER, 0)
            for _ in range(_TOPICS):
                one.subscribe(os.urandom(_TOPIC_BYTES))
            one.connect(service.address)
        pause(seconds)
        after = weights(service)
        gap = max(service.watch.longest_gap(camera, start, time.monotonic()) for camera in service.cameras)
    most = max(after.get(name, float("inf")) - weight for name, weight in before.items())
    note = f"{_SUBSCRIBERS} subscribers x {_TOPICS} topics; most grown by {most:.1f} MB; longest gap {gap:.2f} s"
    if most > _GROWTH_MB or gap > rig.slack * _GAP_S:
        raise Unmet(note)
    if not service.said("subscribes to more than is allowed"):
        raise Unmet("nothing was said of it")
    return Outcome(None, note)


def hostile_remotes(rig: Rig) -> Outcome:
    """Point a service's sinks at a broker that announces 256 MB and at a webhook that never comes to an answer."""
    seconds = 5.0 if rig.short else 15.0
    with _server(_long_packet) as broker, _server(_continue_for_ever) as hook:
        sinks = [
            {"type": "mqtt", "host": "127.0.0.1", "port": broker, "backoff_limit_s": 1.0},
            {"type": "webhook", "url": f"http://127.0.0.1:{hook}/", "timeout_s": 1.0, "backoff_limit_s": 1.0},
        ]
        with rig.service("remotes", {"scene": "synthetic://"}, {"sinks": sinks}) as service:
            service.steady()
            before, start = weights(service), time.monotonic()
            took = max(
                until(lambda: service.said("a packet of") > 0, rig.slack * 20, "the packet is refused"),
                until(lambda: service.said("does not take events now") > 0, rig.slack * 20, "the webhook is given up"),
            )
            pause(seconds)
            after = weights(service)
            gap = max(service.watch.longest_gap(camera, start, time.monotonic()) for camera in service.cameras)
    if before.keys() != after.keys():
        raise Unmet("a process was started again")
    most = max(after[name] - weight for name, weight in before.items())
    note = f"most grown by {most:.1f} MB; longest gap {gap:.2f} s"
    if most > _PACKET_MB or gap > rig.slack * _GAP_S:
        raise Unmet(note)
    return Outcome(took, note)


Talk = Callable[[socket.socket, threading.Event], None]


@contextmanager
def _server(talk: Talk) -> Iterator[int]:
    """Have each connection served by `talk`; gives the port."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)

        def serve(end: socket.socket) -> None:
            with end, suppress(OSError):
                end.settimeout(5.0)
                talk(end, ended)

        def accept() -> None:
            while not ended.is_set():
                with suppress(TimeoutError):
                    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            ended.set()
            thread.join()


def _long_packet(end: socket.socket, ended: threading.Event) -> None:
    end.recv(4096)
    end.sendall(b"\x20\x02\x00\x00")  # the connection is accepted
    end.sendall(b"\x30\xff\xff\xff\x7f")  # a message of 268,435,455 bytes follows
    while not ended.is_set():
        end.sendall(bytes(2**20))


def _continue_for_ever(end: socket.socket, ended: threading.Event) -> None:
    end.recv(4096)
    while not ended.wait(0.05):
        end.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


FAULTS = [
    Fault(
        "subscriptions",
        "200 subscribers with 100 topics of 900 bytes each",
        "others miss nothing; memory is bounded; it is said",
        None,
        subscriptions,
    ),
    Fault(
        "hostile-remotes",
        "a broker that announces a packet of 256 MB, a webhook that answers `100 Continue` for ever",
        "both are said and tried again; predictions go on; memory stays",
        20,
        hostile_remotes,
    ),
]
