"""The limits of subscriptions, on bytes as they cross the wire."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_i3d.errors import WireError
from stream_i3d.transport.subscriptions import (
    CONNECTION_BYTES,
    FREE_BYTES,
    MAX_FRAME_BYTES,
    TOPIC_BYTES,
    SubscriptionFilter,
    SubscriptionPool,
    TokenBucket,
)


def greeting(mechanism: bytes = b"NULL") -> bytes:
    return b"\xff" + bytes(8) + b"\x7f\x03\x01" + mechanism.ljust(20, b"\0") + bytes(32)


def frame(body: bytes, flags: int = 0) -> bytes:
    if len(body) > 255:
        return bytes([flags | 2]) + len(body).to_bytes(8, "big") + body
    return bytes([flags, len(body)]) + body


def subscription(topic: bytes) -> bytes:
    return frame(b"\x01" + topic)


READY = frame(b"\x05READY\x0bSocket-Type\0\0\0\x03SUB", 4)


def greeted(pool: SubscriptionPool | None = None, mechanism: bytes = b"NULL") -> SubscriptionFilter:
    one = SubscriptionFilter(pool or SubscriptionPool())
    assert one.feed(greeting(mechanism)) == greeting(mechanism)
    return one


def test_a_usual_subscriber_is_passed_on_to_the_byte_however_its_bytes_arrive():
    sent = greeting() + READY + subscription(b"v1/") + frame(b"\x09SUBSCRIBEv1/door/", 4) + frame(b"\x04PING\0\0", 4)
    assert SubscriptionFilter(SubscriptionPool()).feed(sent) == sent
    one = SubscriptionFilter(SubscriptionPool())
    assert b"".join(one.feed(sent[at : at + 1]) for at in range(len(sent))) == sent
    assert one.subscribed and one.used == 3 + 8 + 2 * TOPIC_BYTES


def test_a_subscription_beyond_the_connections_limit_is_left_out_and_counted_and_the_rest_passes():
    pool = SubscriptionPool()
    one = greeted(pool)
    topics = [b"%04d" % number + bytes(896) for number in range(100)]
    passed = one.feed(b"".join(map(subscription, topics)))
    kept = CONNECTION_BYTES // (900 + TOPIC_BYTES)
    assert passed == b"".join(map(subscription, topics[:kept]))
    assert pool.refused == 100 - kept
    assert one.feed(frame(b"\x04PING\0\0", 4)) == frame(b"\x04PING\0\0", 4)


def test_all_connections_together_have_a_limit_and_each_has_its_free_part():
    pool = SubscriptionPool(limit=4000)
    greedy, other, usual = greeted(pool), greeted(pool), greeted(pool)
    size = 100 - TOPIC_BYTES
    greedy.feed(b"".join(subscription(b"g%03d" % number + bytes(size - 4)) for number in range(100)))
    assert greedy.used <= FREE_BYTES + 4000
    other.feed(b"".join(subscription(b"o%03d" % number + bytes(size - 4)) for number in range(100)))
    assert other.used <= FREE_BYTES + 100
    assert usual.feed(subscription(b"v1/")) == subscription(b"v1/")
    greedy.close()
    more = subscription(bytes(200))
    assert other.feed(more) == more


def test_a_duplicate_costs_nothing_and_an_end_gives_back():
    pool = SubscriptionPool()
    one = greeted(pool)
    assert one.feed(subscription(b"v1/") * 1000) == subscription(b"v1/")
    assert one.used == 3 + TOPIC_BYTES
    assert one.feed(frame(b"\x00v1/") * 2) == frame(b"\x00v1/")
    assert one.feed(frame(b"\x06CANCELv1/", 4)) == b""
    assert (one.used, pool.refused) == (0, 0)


def test_256_topics_of_one_byte_are_within_the_limits():
    one = greeted()
    sent = b"".join(subscription(bytes([number])) for number in range(256))
    assert one.feed(sent) == sent


def test_what_is_no_subscription_never_reaches_the_socket():
    assert greeted().feed(frame(b"hello") + frame(b"") + frame(b"\x07")) == b""


def test_encrypted_frames_longer_than_heartbeats_are_counted_and_bounded():
    pool = SubscriptionPool()
    one = greeted(pool, b"CURVE")
    handshake = frame(bytes(200), 4) + frame(bytes(400), 4)
    heartbeat = frame(b"\x07MESSAGE" + bytes(32))
    assert one.feed(handshake + heartbeat * 100) == handshake + heartbeat * 100
    assert one.used == 0 and one.subscribed
    passed = one.feed(frame(b"\x07MESSAGE" + bytes(900)) * 200)
    assert len(passed) < CONNECTION_BYTES + 20_000 and one.used <= CONNECTION_BYTES
    assert pool.refused > 100


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" + bytes(8) + b"\x7e",
        b"\xff" + bytes(8) + b"\x7f\x01",
        greeting() + b"\x80\x01x",
        greeting() + b"\x02" + (MAX_FRAME_BYTES + 1).to_bytes(8, "big"),
        greeting() + b"\x02" + b"\xff" * 8,
    ],
)
def test_what_is_not_zmtp_3_or_too_long_ends_the_connection(sent: bytes):
    with pytest.raises(WireError):
        SubscriptionFilter(SubscriptionPool()).feed(sent)


@given(st.lists(st.binary(max_size=300), max_size=20), st.sampled_from([b"NULL", b"CURVE", b"PLAIN", b""]))
def test_any_bytes_leave_the_counts_right(parts: list[bytes], mechanism: bytes):
    pool = SubscriptionPool(limit=500)
    one = greeted(pool, mechanism)
    with contextlib.suppress(WireError):
        for part in parts:
            assert len(one.feed(part)) <= MAX_FRAME_BYTES + len(b"".join(parts)) + 9
            assert 0 <= one.used <= FREE_BYTES + 500
    one.close()
    assert pool.take(0, FREE_BYTES + 500)  # all was given back


def test_a_bucket_lets_a_burst_through_and_then_its_rate():
    bucket = TokenBucket(burst=100, rate=10)
    bucket.take(100, now=0.0)
    assert bucket.wait_s(0.0) == 0
    bucket.take(20, now=0.0)
    assert bucket.wait_s(0.0) == pytest.approx(2.0)
    assert bucket.wait_s(1.5) == pytest.approx(0.5)
    assert bucket.wait_s(2.0) == 0
    bucket.take(100, now=100.0)
    assert bucket.wait_s(100.0) == 0
