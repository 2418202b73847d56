"""Preview sockets over ipc. A subscription that is under way is waited for by a poll."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.errors import ConfigError, WireError
from stream_i3d.transport.preview import PreviewPublisher, PreviewReceivers
from stream_i3d.transport.sockets import wait_for_any
from stream_i3d.transport.wire import MAX_PREVIEW_BYTES, Preview, decode_preview, encode_preview

SOON_S = 10.0
JPEG = b"\xff\xd8 a picture"


def preview(seq: int = 0) -> Preview:
    return Preview(JPEG, capture_ns=1_000_000_007, seq=seq)


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[PreviewPublisher]:
    with PreviewPublisher(f"ipc://{tmp_path / 'preview'}") as one:
        yield one


@pytest.fixture
def receivers() -> Iterator[PreviewReceivers]:
    with PreviewReceivers() as some:
        yield some


# --- the bytes


def test_a_preview_is_24_bytes_of_time_stamp_before_the_jpeg():
    message = encode_preview(Preview(JPEG, capture_ns=0x0102030405060708, seq=9))
    assert message[24:] == JPEG
    assert message[:24] == b"SI3P" + b"\1\0\0\0" + bytes([8, 7, 6, 5, 4, 3, 2, 1]) + b"\x09" + bytes(7)
    assert decode_preview(message) == Preview(JPEG, 0x0102030405060708, 9)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        encode_preview(preview())[:24],
        b"SI3Q" + encode_preview(preview())[4:],
        b"SI3P\2" + encode_preview(preview())[5:],
        encode_preview(Preview(b"GIF89a", 1, 1)),
        encode_preview(Preview(JPEG, -1, 1)),
        encode_preview(Preview(JPEG, 1, -1)),
        encode_preview(preview()) + bytes(MAX_PREVIEW_BYTES),
    ],
)
def test_other_bytes_are_no_preview(message: bytes):
    with pytest.raises(WireError):
        decode_preview(message)


@settings(deadline=None)
@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda end: b"SI3P\1\0\0\0" + end))
def test_any_bytes_are_a_preview_or_refused(message: bytes):
    with contextlib.suppress(WireError):
        assert encode_preview(decode_preview(message)) == message


# --- the sockets


def test_a_channel_is_watched_while_somebody_is_subscribed(publisher, receivers):
    assert not publisher.watched()
    receivers.follow({"door": publisher.address})
    assert publisher.watched(SOON_S)
    receivers.follow({})
    assert publisher._socket.poll(int(SOON_S * 1000))
    assert not publisher.watched()


def test_bytes_of_strangers_do_not_make_a_channel_watched(publisher):
    context = zmq.Context()
    with context, context.socket(zmq.XSUB) as stranger:
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.connect(publisher.address)
        for message in (b"\x01other", b"\x02", b"hello", b"\x01SI3PX", b"\x00SI3P", b"\x01SI3P"):
            stranger.send(message)
        assert publisher._socket.poll(int(SOON_S * 1000))
        while not publisher.watched(SOON_S):
            pass  # the last of them is a subscription
        assert publisher._topics == {b"SI3P"}


def test_the_newest_picture_of_each_camera_is_received(tmp_path, receivers):
    with (
        PreviewPublisher(f"ipc://{tmp_path / 'a'}") as first,
        PreviewPublisher(f"ipc://{tmp_path / 'b'}") as second,
    ):
        receivers.follow({"a": first.address, "b": second.address})
        assert first.watched(SOON_S) and second.watched(SOON_S)
        second.send(preview(5))
        assert wait_for_any([receivers], SOON_S)
        assert receivers.receive() == [("b", preview(5))]
        assert receivers.receive() == []


def test_a_watcher_that_does_not_read_finds_only_the_newest(publisher, receivers):
    receivers.follow({"door": publisher.address})
    assert publisher.watched(SOON_S)
    newest = -1
    for seq in range(200):
        publisher.send(preview(seq))  # never blocks
    while wait_for_any([receivers], 0.5):
        [(_, received)] = receivers.receive()
        assert received.seq > newest
        newest = received.seq
    assert newest >= 0


def test_a_camera_whose_address_changed_is_connected_anew_and_others_are_left_alone(tmp_path, receivers):
    with PreviewPublisher(f"ipc://{tmp_path / 'a'}") as kept, PreviewPublisher(f"ipc://{tmp_path / 'b'}") as moved:
        receivers.follow({"a": kept.address, "b": f"ipc://{tmp_path / 'old'}"})
        before = receivers.readable[0]
        receivers.follow({"a": kept.address, "b": moved.address})
        assert receivers.readable[0] is before
        assert moved.watched(SOON_S)
        receivers.follow({"a": kept.address})
        assert moved._socket.poll(int(SOON_S * 1000)) and not moved.watched()
        assert len(receivers.readable) == 1


def test_malformed_messages_are_counted_and_left_out(tmp_path, receivers):
    context = zmq.Context()
    with context, context.socket(zmq.XPUB) as stranger:
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.bind(f"ipc://{tmp_path / 'x'}")
        receivers.follow({"door": f"ipc://{tmp_path / 'x'}"})
        assert stranger.poll(int(SOON_S * 1000))
        stranger.send(b"SI3P nothing of ours")
        assert wait_for_any([receivers], SOON_S)
        assert receivers.receive() == []
        assert receivers.rejected == 1


def test_an_address_that_means_nothing_is_told(receivers):
    with pytest.raises(ConfigError, match="allowed is tcp://HOST:PORT"):
        receivers.follow({"door": "door"})
