"""The control channel: its messages, and its two ends over ipc."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_i3d.errors import ConfigError, ServiceError, TransportError, WireError
from stream_i3d.transport.control import (
    MAX_REQUEST_BYTES,
    AddCamera,
    CameraInfo,
    CamerasReply,
    ChangeSettings,
    ErrorReply,
    GetSettings,
    HelloReply,
    ListCameras,
    RemoveCamera,
    Reply,
    Request,
    SayHello,
    SettingsReply,
    decode_reply,
    decode_request,
    encode_control,
)
from stream_i3d.transport.control_sockets import ControlClient, ControlServer

SOON_S = 10.0


def answer(request: Request) -> Reply:
    """Give back a part of the question."""
    if isinstance(request, AddCamera):
        return ErrorReply(message=f"no {request.source}")
    if isinstance(request, ListCameras):
        return CamerasReply(cameras=[])
    return SettingsReply(settings={"asked": request.id})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlServer]:
    with ControlServer(f"ipc://{tmp_path / 'control'}") as one:
        yield one


@contextmanager
def answering(server: ControlServer, how: Callable[[Request], Reply] = answer) -> Iterator[None]:
    """Serve in a thread, as the supervisor does in its own, until the block ends."""
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.is_set():
            server.serve(0.01, how)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


# --- the messages


def test_a_request_says_what_it_wants_and_which_it_is():
    sent = json.loads(encode_control(ChangeSettings(id=7, settings={"window.stride": 4})))
    assert sent == {
        "request": "set",
        "schema": "stream-i3d/control/1",
        "id": 7,
        "settings": {"window.stride": 4},
    }


@pytest.mark.parametrize(
    "request_",
    [SayHello(), ListCameras(id=3), AddCamera(source="0"), RemoveCamera(camera="a"), ChangeSettings(settings={})],
)
def test_requests_come_out_as_they_went_in(request_: Request):
    assert decode_request(encode_control(request_)) == request_


def test_schema_and_id_may_be_left_out_by_a_client_that_asks_one_thing_at_a_time():
    assert decode_request(b'{"request": "get"}') == GetSettings()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"request": "format"}',
        b'{"request": "hello", "schema": "stream-i3d/control/2"}',
        b'{"request": "hello", "id": -1}',
        b'{"request": "remove", "camera": "a/b"}',
        b'{"request": "add", "source": ""}',
        b'{"request": "add", "source": 0}',
        b'{"request": "set", "settings": [1]}',
        b'{"reply": "hello"}',
        b'{"request": "set", "settings": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        b'{"request": "get", "more": "' + b"x" * MAX_REQUEST_BYTES + b'"}',
    ],
)
def test_what_is_no_request_is_refused(body: bytes):
    with pytest.raises(WireError):
        decode_request(body)


@settings(deadline=None)
@given(st.binary(max_size=80) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_a_message_or_refused(body: bytes):
    for decode in (decode_request, decode_reply):
        with pytest.raises(WireError):
            decode(body)


# --- the two ends


def test_a_request_gets_its_reply(server):
    with answering(server), ControlClient(server.address) as client:
        assert client.request(GetSettings(), SOON_S) == SettingsReply(id=1, settings={"asked": 1})
        assert client.request(ListCameras(), SOON_S) == CamerasReply(id=2, cameras=[])


def test_a_refusal_is_an_error_with_its_line(server):
    with answering(server), ControlClient(server.address) as client:
        with pytest.raises(ServiceError, match=r"^no /dev/x$"):
            client.request(AddCamera(source="/dev/x"), SOON_S)
        number = client.send(AddCamera(source="y"))
        assert client.receive(SOON_S) == ErrorReply(id=number, message="no y")


def test_no_answer_in_time_is_an_error_that_says_what_to_do(tmp_path):
    with (
        ControlClient(f"ipc://{tmp_path / 'nobody'}") as client,
        pytest.raises(ServiceError, match=r"no answer from ipc:.* within 0\.05 s; is the service running\?"),
    ):
        client.request(SayHello(), 0.05)


def test_a_request_waits_for_a_service_that_is_not_there_yet(tmp_path):
    address = f"ipc://{tmp_path / 'later'}"
    with ControlClient(address) as client:
        number = client.send(GetSettings())
        with ControlServer(address) as server, answering(server):
            assert client.receive(SOON_S) == SettingsReply(id=number, settings={"asked": number})


def test_requests_that_wait_for_nobody_are_bounded(tmp_path):
    with ControlClient(f"ipc://{tmp_path / 'nobody'}") as client:
        with pytest.raises(ServiceError, match="100 requests wait for a service"):
            for _ in range(1000):
                client.send(GetSettings())
        assert client._sent <= 102


def test_a_late_reply_is_not_taken_for_the_next_ones(server):
    with ControlClient(server.address) as client:
        client.send(GetSettings())
        with answering(server):
            assert client.request(ListCameras(), SOON_S) == CamerasReply(id=2, cameras=[])


def test_addresses_in_replies_are_such_as_the_client_can_reach():
    def tell(request: Request) -> Reply:
        if isinstance(request, SayHello):
            return HelloReply(version="1", pid=1, started_at=0.0, ready=True, publish="tcp://0.0.0.0:5556")
        previews = {"a": "tcp://0.0.0.0:5558", "b": "ipc:///b", "c": None}
        cameras = [
            CameraInfo(name=name, source="0", paused=False, preview=at, status=None) for name, at in previews.items()
        ]
        return CamerasReply(cameras=cameras)

    with (
        ControlServer("tcp://127.0.0.1:*") as server,
        answering(server, tell),
        ControlClient(server.address.replace("127.0.0.1", "localhost")) as client,
    ):
        hello, cameras = client.request(SayHello(), SOON_S), client.request(ListCameras(), SOON_S)
    assert isinstance(hello, HelloReply) and hello.publish == "tcp://localhost:5556"
    assert isinstance(cameras, CamerasReply)
    assert [camera.preview for camera in cameras.cameras] == ["tcp://localhost:5558", "ipc:///b", None]


def test_several_clients_get_each_their_own(server):
    with answering(server), ControlClient(server.address) as one, ControlClient(server.address) as two:
        one.send(GetSettings())
        two.send(ListCameras())
        assert isinstance(one.receive(SOON_S), SettingsReply)
        assert isinstance(two.receive(SOON_S), CamerasReply)


def test_a_plain_req_socket_in_any_language_will_do(server):
    context = zmq.Context()
    with answering(server), context, context.socket(zmq.REQ) as asker:
        asker.setsockopt(zmq.LINGER, 0)
        asker.setsockopt(zmq.RCVTIMEO, int(SOON_S * 1000))
        asker.connect(server.address)
        asker.send(b'{"request": "cameras"}')
        assert json.loads(asker.recv())["reply"] == "cameras"


def test_an_address_in_use_is_told_with_the_flag_that_chooses_another(server):
    with pytest.raises(
        TransportError, match="in use by another process; stop it or choose another path with --control"
    ):
        ControlServer(server.address)


def test_an_address_that_means_nothing_is_told():
    with pytest.raises(ConfigError, match="allowed is tcp://HOST:PORT"):
        ControlClient("5557")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.binary(max_size=200), min_size=1, max_size=4))
def test_hostile_messages_are_answered_or_counted_and_break_nothing(server, parts):
    context = zmq.Context()
    before = server.rejected
    with context, context.socket(zmq.DEALER) as stranger:
        stranger.setsockopt(zmq.LINGER, 1000)
        stranger.connect(server.address)
        stranger.send_multipart(parts)
        server.serve(SOON_S, answer)
        assert server.rejected == before + 1
        if len(parts) == 1 or (len(parts) == 2 and not parts[0]):
            assert stranger.poll(int(SOON_S * 1000))
            assert json.loads(stranger.recv_multipart()[-1])["reply"] == "error"


def test_a_message_beyond_the_limit_ends_its_senders_connection_and_no_others(server):
    context = zmq.Context()
    with context, context.socket(zmq.DEALER) as stranger, ControlClient(server.address) as client:
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.connect(server.address)
        stranger.send(bytes(MAX_REQUEST_BYTES + 1))
        with answering(server):
            assert isinstance(client.request(ListCameras(), SOON_S), CamerasReply)
            assert not stranger.poll(200)


def test_a_client_that_never_reads_hurts_only_itself(server):
    context = zmq.Context()
    with context, context.socket(zmq.DEALER) as mute, ControlClient(server.address) as client, answering(server):
        mute.setsockopt(zmq.LINGER, 0)
        mute.setsockopt(zmq.RCVHWM, 1)
        mute.setsockopt(zmq.SNDTIMEO, int(SOON_S * 1000))
        mute.connect(server.address)
        for _ in range(3000):
            mute.send(b'{"request": "cameras"}')
        assert isinstance(client.request(ListCameras(), SOON_S), CamerasReply)
