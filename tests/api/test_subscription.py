from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream_i3d import subscribe
from stream_i3d.api.subscription import Subscription
from stream_i3d.errors import ConfigError, TransportError
from stream_i3d.transport.sockets import Publisher
from stream_i3d.transport.wire import Published, encode_published
from tests.samples import event, recognition, status

SOON_S = 10.0
LAST = event(id="last")


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    with Publisher(f"ipc://{tmp_path}/pub") as publisher:
        yield publisher


def reach(publisher: Publisher, subscription: Subscription) -> None:
    """Return once the subscription has reached the publisher."""
    for _ in range(1000):
        publisher.send(encode_published(event(id="sync")))
        if subscription.receive(0.02) is not None:
            return
    raise AssertionError("nothing was heard")


def heard(subscription: Subscription) -> list[Published]:
    """What comes up to `LAST`, without what `reach` sent."""
    messages: list[Published] = []
    for message in subscription:
        if message == LAST:
            return messages
        if message != event(id="sync"):
            messages.append(message)
    raise AssertionError("the last message never came")


def test_messages_come_typed_and_in_order(publisher: Publisher) -> None:
    with subscribe(publisher.address, timeout_s=SOON_S) as subscription:
        reach(publisher, subscription)
        sent = [recognition(), event(id="door-1-1"), status(), recognition(camera="yard")]
        for message in (*sent, LAST):
            publisher.send(encode_published(message))
        assert heard(subscription) == sent


def test_only_the_wanted_kinds_and_cameras_come(publisher: Publisher) -> None:
    with subscribe(publisher.address, cameras=["door"], kinds=["event", "status"], timeout_s=SOON_S) as subscription:
        reach(publisher, subscription)
        for message in (recognition(), status(camera="yard"), status(), recognition(), LAST):
            publisher.send(encode_published(message))
        assert heard(subscription) == [status()]


def test_kinds_of_all_cameras_are_sorted_out(publisher: Publisher) -> None:
    with subscribe(publisher.address, kinds=["event"], timeout_s=SOON_S) as subscription:
        reach(publisher, subscription)
        for message in (recognition(), status(camera="yard"), event(camera="yard", id="1"), LAST):
            publisher.send(encode_published(message))
        assert heard(subscription) == [event(camera="yard", id="1")]


def test_junk_is_counted_and_left_out(publisher: Publisher) -> None:
    with subscribe(publisher.address, timeout_s=SOON_S) as subscription:
        reach(publisher, subscription)
        for parts in ((b"v1/door/event", b"{}"), (b"v1/door/secret", b"{}"), encode_published(LAST)):
            publisher.send(parts)
        assert heard(subscription) == []
        assert subscription.rejected == 2


def test_silence_is_an_error_where_a_timeout_is_given(tmp_path: Path) -> None:
    with (
        subscribe(f"ipc://{tmp_path}/nobody", timeout_s=0) as subscription,
        pytest.raises(TransportError, match=r"no message from ipc://.*nobody within 0 s: check the address"),
    ):
        next(subscription)


def test_receive_returns_none_after_its_own_time(tmp_path: Path) -> None:
    with subscribe(f"ipc://{tmp_path}/nobody") as subscription:
        assert subscription.receive(0.0) is None


def test_a_closed_subscription_has_ended(tmp_path: Path) -> None:
    subscription = subscribe(f"ipc://{tmp_path}/nobody")
    subscription.close()
    subscription.close()
    assert list(subscription) == []
    assert subscription.receive(SOON_S) is None


def test_leaving_the_loop_closes_the_connection(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    from stream_i3d.api import subscription as module

    closed = []

    class Watched(module.Subscriber):  # type: ignore[name-defined, misc]
        def close(self) -> None:
            closed.append(True)
            super().close()

    monkeypatch.setattr(module, "Subscriber", Watched)

    def follow() -> None:
        subscription = subscribe(publisher.address, timeout_s=SOON_S)
        reach(publisher, subscription)
        publisher.send(encode_published(LAST))
        for _ in subscription:
            break

    follow()
    assert closed == [True]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"address": "nowhere"}, r"address 'nowhere': allowed is tcp://HOST:PORT"),
        ({"kinds": ["predictions"]}, r"'predictions' \(did you mean 'prediction'\?\); allowed are prediction, event"),
        ({"kinds": "event"}, r"kinds='event': give a list, such as kinds=\['event'\]"),
        ({"cameras": "door"}, r"cameras='door': give a list"),
        ({"cameras": ["door\udcff"]}, r"no text \(UTF-8\)"),
        ({"timeout_s": -1}, "timeout_s -1: give a number of seconds"),
        ({"timeout_s": float("nan")}, "timeout_s nan: give a number of seconds"),
        ({"key": "me.key_secret"}, "--key and --server-key belong together"),
        ({"key": "none", "server_key": "none"}, "cannot read the key none"),
    ],
)
def test_what_cannot_be_subscribed_to_is_told(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        subscribe(**given)
