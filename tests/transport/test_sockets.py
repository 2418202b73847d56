"""Real ZeroMQ over ipc and loopback. Nothing is waited for by the clock: where a message is under way, a poll waits."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from stream_i3d.errors import TransportError
from stream_i3d.messages import ActionEvent, CameraReport, CameraStatus
from stream_i3d.transport.control_sockets import ControlServer
from stream_i3d.transport.preview import PreviewPublisher
from stream_i3d.transport.sockets import (
    FRAME_HWM,
    MAX_SUBSCRIPTION_BYTES,
    PUBLISH_HWM,
    FrameReceivers,
    FrameSender,
    Publisher,
    Subscriber,
)
from stream_i3d.transport.wire import Published, ReceivedFrame, decode_capture, decode_published, encode_published
from tests.samples import event, frame, number_of, recognition, report, status

SOON_S = 10.0
"""How long a poll may wait for what is bound to come; never waited in full but where a test fails."""

FULL_S = 0.5
"""How long a channel must take nothing to be called full."""


@pytest.fixture
def channel(tmp_path: Path) -> str:
    return f"ipc://{tmp_path / 'frames'}"


def next_message(receivers: FrameReceivers, index: int = 0) -> ReceivedFrame | CameraReport:
    assert receivers.poll(SOON_S, [index]) == [index]
    parts = receivers.receive(index)
    assert parts is not None
    return decode_capture(parts)


def next_seq(receivers: FrameReceivers, index: int = 0) -> int:
    """Return the seq of the next frame, whose picture must be its number."""
    message = next_message(receivers, index)
    assert isinstance(message, ReceivedFrame)
    assert number_of(message.pixels) == message.stamp.seq
    return message.stamp.seq


def fill(sender: FrameSender, size: int) -> int:
    """Send until the channel takes no more; return how many frames it took."""
    taken = 0
    while sender.send(frame(taken, size), FULL_S):
        taken += 1
        assert taken < 1000, "the channel is not bounded"
    return taken


def returns(close: Callable[[], None]) -> bool:
    """Close in another thread, so that a close that hangs fails the test and not the whole run."""
    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(SOON_S)
    return not closing.is_alive()


# --- frames


def test_frames_sent_before_a_worker_is_there_are_dropped_and_counted(channel):
    with FrameSender(channel) as sender:
        assert not sender.connected(0)
        assert [sender.send(frame(seq)) for seq in range(3)] == [False] * 3
        assert sender.dropped == 3
        assert not sender.report(report())
        with FrameReceivers([channel]) as receivers:
            assert sender.connected(SOON_S)
            assert sender.send(frame(3))
            assert next_seq(receivers) == 3  # nothing of before it
        assert sender.dropped == 3


def test_frames_and_reports_arrive_whole_and_in_order(channel):
    with FrameReceivers([channel]) as receivers, FrameSender(channel) as sender:
        sender.connected(SOON_S)
        for seq in range(20):
            assert sender.send(frame(seq, epoch=3, media_time=seq / 25), SOON_S)
            message = next_message(receivers)
            assert isinstance(message, ReceivedFrame)
            assert (message.stamp.seq, message.stamp.epoch, message.stamp.media_time) == (seq, 3, seq / 25)
            assert number_of(message.pixels) == seq
        sent = report(state="stopped", final=True)
        assert sender.report(sent, SOON_S)
        assert next_message(receivers) == sent
        assert receivers.poll(0, [0]) == []
        assert receivers.receive(0) is None


def test_a_channel_nobody_reads_takes_few_frames_and_then_no_more(channel):
    with FrameReceivers([channel]) as receivers, FrameSender(channel) as sender:
        sender.connected(SOON_S)
        taken = fill(sender, size=224)
        # Both high-water marks, and what the kernel holds of a local socket.
        assert FRAME_HWM <= taken <= 2 * FRAME_HWM + 8
        assert not sender.connected(0)
        dropped = sender.dropped
        assert not sender.send(frame(taken, 224))
        assert sender.dropped == dropped + 1
        assert not sender.report(report())
        assert [next_seq(receivers) for _ in range(taken)] == list(range(taken))  # what was taken is not lost
        assert sender.send(frame(taken, 224), SOON_S)
        assert next_seq(receivers) == taken


def test_channels_are_told_apart_and_only_wanted_ones_are_polled(tmp_path):
    addresses = [f"ipc://{tmp_path / name}" for name in ("one", "two", "three")]
    with contextlib.ExitStack() as stack:
        receivers = stack.enter_context(FrameReceivers(addresses))
        senders = [stack.enter_context(FrameSender(address)) for address in addresses]
        for index in (0, 2):
            assert senders[index].send(frame(index), SOON_S)
        assert receivers.poll(SOON_S, [1, 2]) == [2]
        assert receivers.poll(SOON_S, [0]) == [0]
        assert receivers.poll(0, [1]) == []
        assert receivers.receive(1) is None
        assert [next_seq(receivers, index) for index in (2, 0)] == [2, 0]


def test_a_full_channel_does_not_hold_up_another(tmp_path):
    addresses = [f"ipc://{tmp_path / name}" for name in ("one", "two")]
    with FrameReceivers(addresses) as receivers, FrameSender(addresses[0]) as full, FrameSender(addresses[1]) as free:
        fill(full, size=224)
        for seq in range(20):
            assert free.send(frame(seq), SOON_S)
            assert next_seq(receivers, 1) == seq


def test_a_worker_that_was_started_again_is_found_again(channel):
    with FrameSender(channel) as sender:
        for seq in range(2):
            with FrameReceivers([channel]) as receivers:
                assert sender.send(frame(seq), SOON_S)
                assert next_seq(receivers) == seq
            while sender.connected(0):  # until it has noticed that this one is gone: what it sends before is lost
                pass


def test_a_message_larger_than_any_frame_is_not_taken_in(channel):
    context = zmq.Context()
    stranger = context.socket(zmq.PUSH)
    stranger.setsockopt(zmq.LINGER, 0)
    try:
        with FrameReceivers([channel]) as receivers, FrameSender(channel) as sender:
            stranger.connect(channel)
            stranger.send(bytes(65 * 2**20))
            assert sender.send(frame(1), SOON_S)
            assert next_seq(receivers) == 1
            assert receivers.poll(FULL_S, [0]) == []
    finally:
        stranger.close()
        context.term()


def test_closing_a_sender_with_unsent_frames_returns(channel):
    with FrameReceivers([channel]):
        sender = FrameSender(channel)
        assert fill(sender, size=224) > 0
        assert returns(sender.close)


def test_closing_a_worker_with_unread_frames_returns(channel):
    with FrameSender(channel) as sender:
        receivers = FrameReceivers([channel])
        assert sender.connected(SOON_S)
        assert fill(sender, size=224) > 0
        assert returns(receivers.close)


# --- what is published


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
