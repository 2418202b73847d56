"""Real ZeroMQ over ipc and loopback. Nothing is waited for by the clock: where a message is under way, a poll waits."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable

import pytest
import zmq

from stream_i3d.errors import TransportError
from stream_i3d.messages import ActionEvent, CameraStatus
from stream_i3d.transport.control_sockets import ControlServer
from stream_i3d.transport.frames import FrameReceivers
from stream_i3d.transport.preview import PreviewPublisher
from stream_i3d.transport.sockets import (
    MAX_SUBSCRIPTION_BYTES,
    PUBLISH_HWM,
    Publisher,
    Subscriber,
)
from stream_i3d.transport.wire import Published, decode_published, encode_published
from tests.samples import event, recognition, status

SOON_S = 10.0
"""How long a poll may wait for what is bound to come; never waited in full but where a test fails."""

FULL_S = 0.5
"""How long a channel must take nothing to be called full."""


def returns(close: Callable[[], None]) -> bool:
    """Close in another thread, so that a close that hangs fails the test and not the whole run."""
    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(SOON_S)
    return not closing.is_alive()


def subscribe(publisher: Publisher, subscriber: Subscriber) -> None:
    """Return once the subscription (to events of the door, at least) has reached the publisher."""
    for _ in range(1000):
        publisher.send(encode_published(event(id="sync")))
        if subscriber.receive(0.02) is not None:
            return
    raise AssertionError("nothing was heard")


def heard(subscriber: Subscriber, last: Published) -> list[Published]:
    """Return what comes up to `last`, without what `subscribe` said."""
    messages: list[Published] = []
    while last not in messages:
        parts = subscriber.receive(SOON_S)
        assert parts is not None, "the last message never came"
        message = decode_published(parts)
        if not (isinstance(message, ActionEvent) and message.id == "sync"):
            messages.append(message)
    return messages


def test_a_subscriber_hears_what_is_published_in_order():
    sent = [recognition(), event(), status(), event(event="end", end_time=9.0)]
    with Publisher("tcp://127.0.0.1:0") as publisher, Subscriber(publisher.address) as subscriber:
        assert not publisher.address.endswith(":0")
        subscribe(publisher, subscriber)
        for message in sent:
            publisher.send(encode_published(message))
        assert heard(subscriber, sent[-1]) == sent


def test_a_subscriber_hears_only_the_topics_it_asked_for(tmp_path):
    address = f"ipc://{tmp_path / 'words'}"
    with Publisher(address) as publisher, Subscriber(address, ["v1/door/event", "v1/yard/"]) as subscriber:
        subscribe(publisher, subscriber)
        for camera in ("door", "gate", "yard"):
            for message in (recognition(camera=camera), event(camera=camera), status(camera=camera)):
                publisher.send(encode_published(message))
        messages = heard(subscriber, status(camera="yard"))
    assert messages == [event(), recognition(camera="yard"), event(camera="yard"), status(camera="yard")]


def test_several_subscribers_each_hear_everything(tmp_path):
    with (
        Publisher(f"ipc://{tmp_path / 'words'}") as publisher,
        Subscriber(publisher.address) as one,
        Subscriber(publisher.address) as other,
    ):
        for subscriber in (one, other):
            subscribe(publisher, subscriber)
        for message in (status(), event()):
            publisher.send(encode_published(message))
        assert heard(one, event()) == heard(other, event()) == [status(), event()]


def test_without_a_word_receiving_gives_nothing(tmp_path):
    with Publisher(f"ipc://{tmp_path / 'words'}") as publisher, Subscriber(publisher.address) as subscriber:
        assert subscriber.receive(0.01) is None


def test_publishing_to_nobody_and_to_a_subscriber_that_does_not_read_never_blocks(tmp_path):
    publisher = Publisher(f"ipc://{tmp_path / 'words'}")
    parts = encode_published(recognition())
    publisher.send(parts)
    with Subscriber(publisher.address) as subscriber:
        subscribe(publisher, subscriber)
        for _ in range(20 * PUBLISH_HWM):
            publisher.send(parts)
        assert returns(publisher.close)


def test_a_subscriber_that_does_not_read_loses_the_newest_messages(tmp_path):
    with Publisher(f"ipc://{tmp_path / 'words'}") as publisher, Subscriber(publisher.address) as subscriber:
        subscribe(publisher, subscriber)
        detail = "x" * 1000  # so that the kernel holds few of them
        for number in range(20 * PUBLISH_HWM):
            publisher.send(encode_published(status(frames_dropped=number, detail=detail)))
        numbers = []
        while (parts := subscriber.receive(FULL_S)) is not None:
            message = decode_published(parts)
            numbers += [message.frames_dropped] if isinstance(message, CameraStatus) else []
    assert PUBLISH_HWM / 2 <= len(numbers) < 10 * PUBLISH_HWM
    assert numbers[: PUBLISH_HWM // 2] == list(range(PUBLISH_HWM // 2))


def test_a_subscription_longer_than_any_topic_is_cut_off(tmp_path):
    with Publisher(f"ipc://{tmp_path / 'out'}") as publisher, zmq.Context() as context, context.socket(zmq.XSUB) as end:
        end.setsockopt(zmq.LINGER, 0)
        monitor = end.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        end.connect(publisher.address)
        end.send(b"\x01" + b"v" * 2 * MAX_SUBSCRIPTION_BYTES)
        assert monitor.poll(SOON_S * 1000)
        end.disable_monitor()
        monitor.close()


def test_the_last_words_before_closing_are_heard(tmp_path):
    publisher = Publisher(f"ipc://{tmp_path / 'words'}")
    detail = "x" * 50_000  # more than the kernel holds
    said = [status(state="stopped", frames_dropped=number, detail=detail) for number in range(100)]
    with Subscriber(publisher.address) as subscriber:
        subscribe(publisher, subscriber)
        for message in said:
            publisher.send(encode_published(message))
        publisher.close()
        assert heard(subscriber, said[-1]) == said


# --- addresses that cannot be had


def test_a_port_in_use_is_said_with_the_remedy():
    with Publisher("tcp://127.0.0.1:0") as first:
        with pytest.raises(TransportError, match="in use by another process") as caught:
            Publisher(first.address)
        assert first.address in str(caught.value)
        assert "--publish" in str(caught.value)
    with Publisher(first.address):
        pass  # free again, so the failed one left nothing behind


def test_frame_channels_that_cannot_all_be_bound_leave_none_behind():
    with Publisher("tcp://127.0.0.1:0") as taken, Publisher("tcp://127.0.0.1:0") as other:
        free = other.address
        other.close()
        with pytest.raises(TransportError, match="in use"):
            FrameReceivers([free, taken.address])
        with Publisher(free):
            pass


def test_a_folder_that_does_not_exist_is_one_clear_line(tmp_path):
    with pytest.raises(TransportError, match=r"cannot bind ipc://.*: No such file or directory"):
        Publisher(f"ipc://{tmp_path / 'none' / 'words'}")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1", "words", "tcp://127.0.0.1:port", "carrier-pigeon://coo"])
def test_an_address_that_is_none_is_one_clear_line(address):
    for make in (Publisher, Subscriber):
        with pytest.raises(TransportError, match=r"^cannot (bind|connect to) ") as caught:
            make(address)
        assert address in str(caught.value)


def test_an_ipc_path_that_is_served_is_not_taken_over(tmp_path):
    address = f"ipc://{tmp_path / 'words'}"
    with Publisher(address), pytest.raises(TransportError, match="in use"):
        Publisher(address)


def test_an_ipc_path_left_by_a_crash_is_bound_again(tmp_path):
    path = tmp_path / "words"
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(path))
    assert path.exists()
    with Publisher(f"ipc://{path}") as publisher:
        assert publisher.address == f"ipc://{path}"


@pytest.mark.skipif(os.name != "posix", reason="ipc is for POSIX")
def test_only_this_user_can_use_an_ipc_socket_whatever_the_umask(tmp_path):
    address = f"ipc://{tmp_path / 'words'}"
    before = os.umask(0)
    try:
        for make in (Publisher, PreviewPublisher, ControlServer, lambda address: FrameReceivers([address])):
            with make(address):
                assert (tmp_path / "words").stat().st_mode & 0o777 == 0o600
        assert os.umask(0) == 0  # as it was before
    finally:
        os.umask(before)


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
def test_loopback_of_ipv6_can_be_bound_and_heard():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with Publisher("tcp://[::1]:*") as publisher, Subscriber(publisher.address) as subscriber:
        subscribe(publisher, subscriber)
        publisher.send(encode_published(status()))
        assert heard(subscriber, status()) == [status()]
