"""A PUB socket on TCP under those who subscribe to too much. What is under way is waited for by polls."""

from __future__ import annotations

import os
import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import zmq

from stream_i3d.transport import subscriber_proxy
from stream_i3d.transport.connection_limit import highest_file
from stream_i3d.transport.preview import PreviewPublisher, PreviewReceivers
from stream_i3d.transport.relay import RelayReceiver
from stream_i3d.transport.sockets import Publisher, Subscriber
from stream_i3d.transport.subscriptions import CONNECTION_BYTES, TOPIC_BYTES
from stream_i3d.transport.wire import Preview, encode_published
from tests.samples import event
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is a proxy on Linux only")

SOON_S = 30.0


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher("tcp://127.0.0.1:*") as one:
        yield one


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with zmq.Context() as one:
        one.setsockopt(zmq.BLOCKY, False)  # type: ignore[call-overload]
        yield one


def flood(context: zmq.Context[zmq.Socket[bytes]], address: str, topics: int, size: int) -> zmq.Socket[bytes]:
    one = context.socket(zmq.SUB)
    one.setsockopt(zmq.LINGER, 0)
    one.setsockopt(zmq.SNDHWM, 0)
    for _ in range(topics):
        one.subscribe(os.urandom(size))
    one.subscribe(b"v1/")
    one.connect(address)
    return one


def heard(publisher: Publisher, subscriber: Subscriber) -> bool:
    """Tell whether a subscriber hears what is published from now on."""
    for _ in range(1500):
        publisher.send(encode_published(event()))
        if subscriber.receive(0.02) is not None:
            return True
    return False


def connections(publisher: Publisher) -> int:
    assert publisher._proxy is not None
    return len(publisher._proxy._connections)


def test_subscriptions_beyond_the_limits_never_reach_zeromq_and_others_hear_everything(publisher, context):
    assert publisher._proxy is not None
    with ExitStack() as stack:
        usual = stack.enter_context(Subscriber(publisher.address))
        assert heard(publisher, usual)
        for _ in range(4):
            stack.callback(flood(context, publisher.address, topics=100, size=900).close)
        fits = CONNECTION_BYTES // (900 + TOPIC_BYTES)
        wait_until(lambda: publisher.refused >= 4 * (100 - fits), SOON_S)
        taken = [one.filter.used for one in publisher._proxy._connections]
        assert max(taken) <= CONNECTION_BYTES
        assert heard(publisher, usual)
        with Subscriber(publisher.address) as late:
            assert heard(publisher, late)


def test_a_refused_subscription_costs_only_itself(publisher, context):
    with flood(context, publisher.address, topics=200, size=900) as greedy:
        wait_until(lambda: publisher.refused > 0, SOON_S)
        assert connections(publisher) == 1
    del greedy
    wait_until(lambda: connections(publisher) == 0, SOON_S)
    assert publisher._proxy is not None and publisher._proxy._pool.take(0, CONNECTION_BYTES)


def test_previews_on_tcp_are_kept_by_the_same_limits(context):
    with (
        PreviewPublisher("tcp://127.0.0.1:*") as previews,
        PreviewReceivers() as receivers,
        flood(context, previews.address, topics=200, size=900),
    ):
        wait_until(lambda: previews.refused > 0, SOON_S)
        receivers.follow({"door": previews.address})
        wait_until(lambda: previews.watched(0.05), SOON_S)
        shown = Preview(b"\xff\xd8 a picture", 1, 7)

        def seen() -> bool:
            previews.send(shown)
            return receivers.receive() == [("door", shown)]

        wait_until(seen, SOON_S)


def test_idle_connections_are_bounded_and_subscribers_still_come_in(publisher, monkeypatch):
    monkeypatch.setattr(subscriber_proxy, "MAX_CONNECTIONS", 8)
    port = int(publisher.address.rsplit(":", 1)[1])
    with ExitStack() as stack:
        usual = stack.enter_context(Subscriber(publisher.address))
        assert heard(publisher, usual)
        for _ in range(40):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        wait_until(lambda: publisher.refused >= 33, SOON_S)
        assert connections(publisher) <= 8
        with Subscriber(publisher.address) as late:
            assert heard(publisher, late)
        assert heard(publisher, usual)


def test_where_few_files_may_be_opened_there_are_fewer_connections(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda what: (256, 4096))
    assert subscriber_proxy._connection_limit() == 42
    monkeypatch.setattr(resource, "getrlimit", lambda what: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert subscriber_proxy._connection_limit() == subscriber_proxy.MAX_CONNECTIONS


@pytest.mark.parametrize("files", [256, 512, 1024, 1_000_000])
def test_beside_all_subscribers_there_is_room_for_the_workers_connections(monkeypatch, files):
    monkeypatch.setattr(resource, "getrlimit", lambda what: (files, files))
    most = 3 * subscriber_proxy._connection_limit()
    assert most + 30 + RelayReceiver.most_connections <= highest_file(files, private=True)  # 30: the process's own


def test_a_connection_that_says_nothing_is_ended(publisher, monkeypatch):
    monkeypatch.setattr(subscriber_proxy, "_SILENT_S", 0.0)
    with socket.create_connection(("127.0.0.1", int(publisher.address.rsplit(":", 1)[1]))) as silent:
        silent.settimeout(SOON_S)
        assert silent.recv(100) == b"\xff" + bytes(7) + b"\x01\x7f"
        assert silent.recv(100) == b""


def test_nobody_else_connects_behind_the_proxy(publisher):
    assert publisher._proxy is not None
    child = os.fork()
    if child == 0:  # another process of the same user
        try:
            with socket.socket(socket.AF_UNIX) as end:
                end.settimeout(SOON_S)
                end.connect("\0" + publisher._proxy._path)
                os._exit(0 if end.recv(100) == b"" else 1)
        except OSError:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_is_no_zeromq_is_said_once_and_ended(publisher, caplog):
    place = ("127.0.0.1", int(publisher.address.rsplit(":", 1)[1]))
    for _ in range(3):
        with socket.create_connection(place) as stranger:
            stranger.settimeout(SOON_S)
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while stranger.recv(100):
                pass
    assert caplog.text.count("what is not ZMTP 3") == 1
