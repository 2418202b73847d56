"""Who is let in, over real sockets on loopback and ipc. Refusals are waited for by the client's handshake events."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import zmq

from stream_i3d.errors import ServiceError, TransportError
from stream_i3d.transport.authentication import ClientAuthenticator, HandshakeMonitor, Refusals
from stream_i3d.transport.control import GetSettings, Request, SayHello, SettingsReply
from stream_i3d.transport.control_sockets import ControlClient, ControlServer
from stream_i3d.transport.keys import AllowList, ClientKeys, ServerKeys, fingerprint, set_client_keys
from stream_i3d.transport.preview import PreviewPublisher, PreviewReceivers
from stream_i3d.transport.sockets import Publisher, Subscriber, wait_for_any
from stream_i3d.transport.wire import Preview, encode_published
from tests.keys import Ring
from tests.samples import status
from tests.transport.test_control import answering
from tests.transport.test_sockets import heard, subscribe
from tests.waiting import wait_until

SOON_S = 10.0
REFUSED = ["unknown key", "no key", "wrong server key"]
PICTURE = Preview(b"\xff\xd8 a picture", 1, 0)


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Ring:
    return Ring.make(tmp_path_factory.mktemp("keys"))


@pytest.fixture(params=["tcp", "ipc"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "tcp://127.0.0.1:*" if request.param == "tcp" else f"ipc://{tmp_path / 'socket'}"


def refused(socket: zmq.Socket[bytes], address: str, keys: ClientKeys | None) -> str:
    """Connect a socket and return why it was refused."""
    handshakes = HandshakeMonitor(socket, address, keys is not None)
    if keys is not None:
        set_client_keys(socket, keys)
    socket.connect(address)
    try:
        while not handshakes.refusal and handshakes.events.poll(int(SOON_S * 1000)):
            handshakes.read()
        return handshakes.refusal
    finally:
        handshakes.close()


# --- predictions


def test_a_known_client_receives_what_is_published(ring, address):
    with Publisher(address, ring.server()) as publisher, Subscriber(publisher.address, keys=ring.client()) as known:
        subscribe(publisher, known)
        publisher.send(encode_published(status()))
        assert heard(known, status()) == [status()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system has no /proc")
def test_the_thread_that_answers_handshakes_is_no_sign_of_life_of_the_main_loop(ring):
    with Publisher("tcp://127.0.0.1:*", ring.server()):
        zap = next(one for one in threading.enumerate() if one.name == "zap")
        wait_until(lambda: Path(f"/proc/self/task/{zap.native_id}/comm").read_text() == "bg:zap\n", SOON_S)


@pytest.mark.parametrize("who", REFUSED)
def test_others_receive_nothing_and_are_told_why_while_known_ones_go_on(ring, address, who):
    keys, why = ring.refused[who]
    with (
        Publisher(address, ring.server()) as publisher,
        Subscriber(publisher.address, keys=keys) as stranger,
        Subscriber(publisher.address, keys=ring.client()) as known,
    ):
        subscribe(publisher, known)
        with pytest.raises(TransportError, match=why) as error:
            stranger.receive(SOON_S)
        assert publisher.address in str(error.value)
        for _ in range(100):
            publisher.send(encode_published(status(detail="last")))
        heard(known, status(detail="last"))
        assert stranger._socket.poll(200) == 0


def test_a_client_with_keys_talks_to_no_service_without(ring):
    with Publisher("tcp://127.0.0.1:*") as imposter, Subscriber(imposter.address, keys=ring.client()) as careful:
        with pytest.raises(TransportError, match="uses no keys"):
            careful.receive(SOON_S)
        imposter.send(encode_published(status()))
        assert careful._socket.poll(200) == 0


def test_a_client_that_was_refused_is_let_in_once_its_key_is_in_the_folder(tmp_path):
    ring = Ring.make(tmp_path)
    with Publisher("tcp://127.0.0.1:*", ring.server()) as publisher:
        with Subscriber(publisher.address, keys=ring.client("stranger")) as early, pytest.raises(TransportError):
            early.receive(SOON_S)
        keys = ring.client("stranger")
        ring.let_in("stranger")
        with Subscriber(publisher.address, keys=keys) as late:
            subscribe(publisher, late)


def test_off_this_machine_nothing_is_bound_without_keys():
    for make in (Publisher, PreviewPublisher, ControlServer):
        with pytest.raises(TransportError, match="off this machine it needs keys"):
            make("tcp://0.0.0.0:*")


def test_with_keys_all_interfaces_may_be_bound(ring):
    with Publisher("tcp://*:*", ring.server()) as publisher:
        port = publisher.address.rpartition(":")[2]
        with Subscriber(f"tcp://127.0.0.1:{port}", keys=ring.client()) as known:
            subscribe(publisher, known)
            publisher.send(encode_published(status()))
            assert heard(known, status()) == [status()]


def test_without_the_handler_nobody_is_let_in(ring, monkeypatch):
    """CURVE alone would let everyone in: the handler must be enforced."""
    monkeypatch.setattr("stream_i3d.transport.authentication.Authenticator.start", lambda self: None)
    monkeypatch.setattr("stream_i3d.transport.authentication._answer", lambda authenticator: None)
    context = zmq.Context()
    with Publisher("tcp://127.0.0.1:*", ring.server()) as publisher, context, context.socket(zmq.SUB) as client:
        client.setsockopt(zmq.LINGER, 0)
        assert "hangs up" in refused(client, publisher.address, ring.client())


def test_a_service_that_hangs_up_is_waited_for_by_clients_that_were_let_in_or_have_no_keys(ring):
    """Such is a tunnel whose service is down for a while."""
    with Publisher("tcp://127.0.0.1:*", ring.server()) as publisher:
        known = Subscriber(publisher.address, keys=ring.client())
        subscribe(publisher, known)
    port = int(publisher.address.rpartition(":")[2])
    with known, socket.create_server(("127.0.0.1", port)) as tunnel, Subscriber(publisher.address) as plain:
        while known.receive(0) is not None:
            pass  # of before
        tunnel.settimeout(SOON_S)
        for _ in range(20):
            tunnel.accept()[0].close()
            assert known.receive(0) is plain.receive(0) is None


def test_a_service_that_hangs_up_on_a_client_it_never_knew_is_told(ring):
    with socket.create_server(("127.0.0.1", 0)) as tunnel:
        address = f"tcp://127.0.0.1:{tunnel.getsockname()[1]}"
        tunnel.settimeout(SOON_S)
        with Subscriber(address, keys=ring.client()) as new, pytest.raises(TransportError, match="hangs up"):
            for _ in range(20):
                tunnel.accept()[0].close()
                new.receive(0)


# --- requests


def settings_of(request: Request) -> SettingsReply:
    return SettingsReply(settings={"asked": 1})


def test_a_known_client_is_answered(ring, address):
    with (
        ControlServer(address, ring.server()) as server,
        answering(server, settings_of),
        ControlClient(server.address, ring.client()) as known,
    ):
        assert known.request(GetSettings(), SOON_S) == SettingsReply(id=1, settings={"asked": 1})


@pytest.mark.parametrize("who", REFUSED)
def test_requests_of_others_never_arrive(ring, address, who):
    keys, why = ring.refused[who]
    asked: list[Request] = []

    def note(request: Request) -> SettingsReply:
        asked.append(request)
        return settings_of(request)

    with (
        ControlServer(address, ring.server()) as server,
        answering(server, note),
        ControlClient(server.address, keys) as stranger,
        ControlClient(server.address, ring.client()) as known,
    ):
        with pytest.raises(TransportError, match=why):
            stranger.request(SayHello(), SOON_S)
        known.request(GetSettings(), SOON_S)
        assert [type(one) for one in asked] == [GetSettings]
        assert server.rejected == 0


def test_a_client_that_was_refused_is_told_so_again_when_it_asks_again(ring, address):
    with ControlServer(address, ring.server()) as server, ControlClient(server.address) as stranger:
        for _ in range(3):
            with pytest.raises(TransportError, match="lets in clients with keys only"):
                stranger.request(SayHello(), SOON_S)


def test_a_service_that_is_not_there_is_no_refusal(ring, tmp_path):
    with (
        ControlClient(f"ipc://{tmp_path / 'nobody'}", ring.client()) as client,
        pytest.raises(ServiceError, match="no answer"),
    ):
        client.request(SayHello(), 0.05)


# --- previews


def test_a_known_client_receives_previews(ring, address):
    with PreviewPublisher(address, ring.server()) as publisher, PreviewReceivers(ring.client()) as known:
        known.follow({"door": publisher.address})
        assert publisher.watched(SOON_S)
        publisher.send(PICTURE)
        assert wait_for_any([known], SOON_S)
        assert known.receive() == [("door", PICTURE)]


@pytest.mark.parametrize("who", REFUSED)
def test_for_others_not_even_a_picture_is_made(ring, address, who):
    keys, why = ring.refused[who]
    context = zmq.Context()
    with (
        PreviewPublisher(address, ring.server()) as publisher,
        PreviewReceivers(keys) as stranger,
        context,
        context.socket(zmq.SUB) as same,
    ):
        same.setsockopt(zmq.LINGER, 0)
        same.setsockopt(zmq.SUBSCRIBE, b"")
        stranger.follow({"door": publisher.address})
        assert why in refused(same, publisher.address, keys)
        assert not publisher.watched(0.2)
        publisher.send(PICTURE)
        assert not wait_for_any([stranger], 0.2)


# --- what is said of refusals


def test_a_refused_key_is_logged_once_with_the_remedy_and_no_secret(ring, caplog):
    keys = ring.client("stranger")
    with Publisher("tcp://127.0.0.1:*", ring.server()) as publisher:
        for _ in range(3):
            with Subscriber(publisher.address, keys=keys) as stranger, pytest.raises(TransportError):
                stranger.receive(SOON_S)
    [message] = caplog.messages
    assert f"unknown key {fingerprint(keys.public)} " in message and str(ring.clients) in message
    assert not any(secret.decode() in caplog.text for secret in (keys.secret, ring.server().secret))


def test_each_key_is_said_once_and_one_in_ten_seconds():
    refusals = Refusals()
    assert refusals.note(b"a", 0.0)
    assert not refusals.note(b"a", 100.0)
    assert refusals.note(b"b", 100.0)
    assert not refusals.note(b"c", 109.9)
    assert refusals.note(b"c", 110.0)
    assert refusals.count == 5


def test_a_flood_of_keys_is_counted_in_bounded_memory():
    refusals = Refusals()
    said = sum(refusals.note(str(number).encode(), 20.0 * number) for number in range(5000))
    assert said == refusals.count == 5000
    assert len(refusals._logged) <= 1000


def test_a_gate_lets_a_key_in_and_counts_others(ring, caplog):
    gate = ClientAuthenticator(AllowList([ring.clients]), clock=lambda: 0.0)
    assert gate.callback("any", ring.client().public)
    assert not gate.callback("any", ring.client("stranger").public)
    assert not gate.callback("any", ring.client("other").public)
    assert gate.refusals.count == 2 and len(caplog.messages) == 1


# --- one client after another


@pytest.mark.parametrize("make", [Publisher, PreviewPublisher, ControlServer])
def test_the_handler_ends_with_its_socket(
    ring, make: Callable[[str, ServerKeys], AbstractContextManager[object]], tmp_path
):
    before = set(threading.enumerate())
    with make(f"ipc://{tmp_path / 'socket'}", ring.server()):
        started = set(threading.enumerate()) - before
        [handler] = [thread for thread in started if thread.name == "zap"]
        assert handler.is_alive()
    for thread in started:
        thread.join(SOON_S)
        assert not thread.is_alive()


def test_a_socket_that_cannot_be_bound_leaves_no_handler_behind(ring, tmp_path):
    with Publisher(f"ipc://{tmp_path / 'socket'}") as taken, pytest.raises(TransportError, match="in use"):
        Publisher(taken.address, ring.server())
