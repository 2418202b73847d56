from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from stream_i3d import message_pipe
from stream_i3d.message_pipe import MessagePipe

BIG = b"x" * 400_000  # more than a socket of the system holds

Ends = tuple[MessagePipe, MessagePipe]


@pytest.fixture
def ends() -> Iterator[Ends]:
    one, other = (MessagePipe(end) for end in socket.socketpair())
    yield one, other
    one.close()
    other.close()


def all_of(reader: MessagePipe, writer: MessagePipe, count: int) -> list[bytes]:
    """Read until so many messages have come, the writer sending what it still has."""
    received: list[bytes] = []
    for _ in range(1000):
        received += reader.receive()
        if len(received) >= count:
            break
        writer.flush()
    return received


def test_messages_come_whole_and_in_order_whatever_their_size(ends: Ends) -> None:
    sent = [b"", b"one", BIG, b"two"]
    for message in sent:
        ends[0].put(message)
    assert all_of(ends[1], ends[0], len(sent)) == sent


def test_a_peer_that_does_not_read_holds_nobody_up_and_gets_the_newest_of_each_kind(ends: Ends) -> None:
    ends[0].put(BIG)  # under way
    for number in range(1000):
        ends[0].put(b"figures %d" % number, key="figures")
        ends[0].put(b"door %d" % number, key="door")
    ends[0].put(b"done")
    assert not ends[0].flush()
    assert all_of(ends[1], ends[0], 4) == [BIG, b"figures 999", b"door 999", b"done"]


def test_the_last_word_goes_before_all_that_waits(ends: Ends) -> None:
    ends[0].put(BIG)
    ends[0].put(b"figures", key="figures")
    ends[0].put(b"failed", first=True)
    assert all_of(ends[1], ends[0], 3) == [BIG, b"failed", b"figures"]


def test_what_waits_is_bounded_and_what_must_arrive_is_kept(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_pipe, "_MAX_WAITING_BYTES", 100)
    ends[0].put(BIG)
    ends[0].put(b"must arrive")
    for camera in range(50):
        ends[0].put(b"news of 10", key=camera)
    assert ends[0].dropped > 30
    received = all_of(ends[1], ends[0], 2 + 50 - ends[0].dropped)
    assert received[:2] == [BIG, b"must arrive"] and len(received) == 52 - ends[0].dropped


def test_half_a_message_is_waited_for_without_blocking() -> None:
    raw, end = socket.socketpair()
    with raw:
        reader = MessagePipe(end)
        raw.sendall(b"\0\0\0\5he")
        assert reader.receive() == []
        raw.sendall(b"llo\0\0")
        assert reader.receive() == [b"hello"]
        raw.close()
        assert reader.receive() == [] and reader.closed
        reader.close()


def test_what_a_peer_sent_before_it_ended_is_read_though_nothing_can_be_sent_to_it(ends: Ends) -> None:
    ends[0].put(b"failed")
    ends[1].put(b"an order that it never reads")
    ends[0].close()
    ends[1].put(b"another")
    assert ends[1].closed
    assert ends[1].receive() == [b"failed"]


def test_a_length_that_no_message_has_ends_the_reading() -> None:
    raw, end = socket.socketpair()
    reader = MessagePipe(end)
    with raw:
        raw.sendall(b"\xff\xff\xff\xff and more")
        assert reader.receive() == [] and reader.closed
    reader.close()


def test_the_first_message_is_taken_alone(ends: Ends) -> None:
    ends[0].put(b"the job")
    ends[0].put(b"an order")
    assert ends[1].receive_one(1.0) == b"the job"
    assert ends[1].receive() == [b"an order"]
    assert ends[1].receive_one(0.0) is None


def test_draining_ends_at_its_deadline(ends: Ends) -> None:
    ends[0].put(b"small")
    assert ends[0].drain(0.0)
    ends[0].put(BIG)
    assert not ends[0].drain(0.0)
