"""Both ends of the relay on real sockets; what a killed end loses is played by closing it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq

from stream_i3d.transport.relay import RelayReceiver, RelaySender
from stream_i3d.transport.relay_wire import Greeting, Publication, encode_control, encode_publication
from stream_i3d.transport.wire import Published
from tests.samples import event, recognition, status
from tests.transport.test_relay_wire import greeting

WAIT_S = 30.0


class Relay:
    """A receiver, senders, and what the receiver has given out."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.address = f"ipc://{folder}/relay"
        self._stack = stack
        self.senders: list[RelaySender] = []
        self.said: list[Publication] = []
        self.greetings: list[Greeting] = []
        self.receiver = RelayReceiver(self.address)

    def sender(self, name: str = "worker", cameras: Sequence[str] = ("door",), kept: int = 1000) -> RelaySender:
        self.senders.append(self._stack.enter_context(RelaySender(self.address, name, cameras, kept)))
        return self.senders[-1]

    def turn(self, settle: bool = True) -> None:
        """Let both ends do what is due."""
        for sender in self.senders:
            sender.process_answers()
        if not self.receiver.poll(0.005):
            return
        while (taken := self.receiver.receive()) is not None:
            of, said = taken
            if isinstance(said, Greeting):
                self.greetings.append(said)
                continue
            self.said.append(said)
            if settle and said.number:
                self.receiver.settle(of.life, said.number)

    def until(self, true: Callable[[], bool], settle: bool = True) -> None:
        end = time.monotonic() + WAIT_S
        while not true():
            assert time.monotonic() < end
            self.turn(settle)

    def restart(self) -> None:
        """Put another receiver in its place, as after a kill."""
        self.receiver.close()
        self.receiver = RelayReceiver(self.address)

    def ids(self) -> list[str]:
        return [one.message.id for one in self.said if hasattr(one.message, "id")]


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with ExitStack() as stack:
        relay = Relay(tmp_path, stack)
        yield relay
        relay.receiver.close()


def welcome(relay: Relay) -> RelaySender:
    sender = relay.sender()
    relay.until(lambda: bool(relay.greetings))
    return sender


def test_what_a_worker_says_comes_in_order_and_is_settled(relay: Relay) -> None:
    sender = welcome(relay)
    messages: list[Published] = [recognition(), event(id="a"), recognition(seq=23), status(), event(id="b")]
    for message in messages:
        sender.write(message)
    relay.until(lambda: len(relay.said) == 5 and not sender.waiting)
    assert [one.message for one in relay.said] == messages
    assert [one.number for one in relay.said] == [0, 1, 0, 2, 3]
    assert sender.dropped == 0


def test_without_a_publisher_predictions_are_dropped_and_events_wait(relay: Relay) -> None:
    relay.receiver.close()
    sender = relay.sender()
    for number in range(5):
        sender.write(recognition())
        sender.write(event(id=str(number)))
        sender.process_answers()
    assert (sender.dropped, sender.waiting) == (5, 5)
    relay.receiver = RelayReceiver(relay.address)
    relay.until(lambda: not sender.waiting)
    assert relay.ids() == ["0", "1", "2", "3", "4"]
    assert sender.dropped == 5


def test_a_publisher_that_is_killed_loses_no_event_and_none_comes_out_of_order(relay: Relay) -> None:
    sender = welcome(relay)
    sent = 0
    for _ in range(4):
        for _ in range(50):  # some of them are read by the receiver that goes, settled or not, and some by nobody
            sender.write(event(id=str(sent)))
            sent += 1
            if sent % 7 == 0:
                relay.turn(settle=sent % 2 == 0)
        relay.restart()
        for _ in range(10):
            sender.write(event(id=str(sent)))
            sent += 1
    relay.until(lambda: not sender.waiting)
    first_seen = list(dict.fromkeys(relay.ids()))
    assert first_seen == [str(number) for number in range(sent)]
    assert sender.dropped == 0


def test_what_was_settled_is_not_sent_again(relay: Relay) -> None:
    sender = welcome(relay)
    for number in range(20):
        sender.write(event(id=str(number)))
    relay.until(lambda: not sender.waiting)
    relay.restart()
    sender.write(event(id="20"))
    relay.until(lambda: not sender.waiting)
    assert relay.ids() == [str(number) for number in range(21)]


def test_what_waits_for_a_publisher_is_bounded_and_counted(relay: Relay) -> None:
    relay.receiver.close()
    sender = relay.sender(kept=3)
    for number in range(10):
        sender.write(event(id=str(number)))
    assert (sender.waiting, sender.dropped) == (3, 7)
    relay.receiver = RelayReceiver(relay.address)
    relay.until(lambda: not sender.waiting)
    assert relay.ids() == ["7", "8", "9"]


def test_a_publisher_that_does_not_read_never_blocks_the_worker(relay: Relay) -> None:
    sender = welcome(relay)
    sent = 0
    while not sender.dropped:
        sender.write(recognition(seq=sent))
        sent += 1
        assert sent < 100_000
    sender.write(event(id="kept"))
    relay.until(lambda: not sender.waiting)
    assert relay.ids() == ["kept"]


def test_workers_are_told_apart_and_each_has_its_own_settled(relay: Relay) -> None:
    one, two = relay.sender("one", ["a"]), relay.sender("two", ["b"])
    relay.until(lambda: {greeted.worker for greeted in relay.greetings} == {"one", "two"})
    one.write(event(id="1", camera="a"))
    two.write(event(id="2", camera="b"))
    relay.until(lambda: len(relay.said) == 2, settle=False)
    assert (one.waiting, two.waiting) == (1, 1)
    life = next(greeted.life for greeted in relay.greetings if greeted.worker == "one")
    relay.receiver.settle(life, 1)
    relay.until(lambda: not one.waiting)
    assert two.waiting == 1


def test_another_life_of_a_worker_counts_from_one_again(relay: Relay) -> None:
    sender = welcome(relay)
    sender.write(event(id="before"))
    relay.until(lambda: not sender.waiting)
    relay.senders.pop().close()
    after = relay.sender()
    after.write(event(id="after"))
    relay.until(lambda: not after.waiting)
    assert relay.ids() == ["before", "after"]
    assert len({greeted.life for greeted in relay.greetings}) == 2


def test_cameras_that_change_are_told_at_once(relay: Relay) -> None:
    sender = welcome(relay)
    relay.senders.clear()  # nobody attends to it from here on: the change alone has to be told
    sender.set_cameras(["door", "hall"])
    relay.until(lambda: relay.greetings[-1].cameras != ["door"])
    assert relay.greetings[-1].cameras == ["door", "hall"]


def test_one_that_leaves_says_so_and_waits_until_all_is_safe(relay: Relay) -> None:
    sender = welcome(relay)
    sender.write(event())
    assert not sender.leave(0.0)
    relay.until(lambda: not sender.waiting)
    assert sender.leave(0.0)
    relay.until(lambda: relay.greetings[-1].leaving)


def test_arriving_waits_for_the_publisher(relay: Relay) -> None:
    relay.receiver.close()
    sender = relay.sender()
    assert not sender.arrive(0.05)


def test_strangers_are_counted_and_do_no_harm(relay: Relay, caplog: pytest.LogCaptureFixture) -> None:
    sender = welcome(relay)
    context = zmq.Context()
    stranger = context.socket(zmq.DEALER)
    stranger.setsockopt(zmq.LINGER, 0)
    stranger.connect(relay.address)
    junk: list[list[bytes]] = [[b""], [b"x", b"y"], [b"\xff" * 8, b"v1/door/event", b"{}"], [b"[" * 5000]]
    for parts in junk:
        stranger.send_multipart(parts)
    stranger.send_multipart(encode_publication(5, event(id="unasked")))  # from somebody who did not greet
    stranger.send_multipart([encode_control(greeting(session=1))])  # and means another publisher
    stranger.send_multipart(encode_publication(1, event(id="unasked")))
    relay.until(lambda: relay.receiver.rejected == len(junk))
    sender.write(event(id="ours"))
    relay.until(lambda: not sender.waiting)
    assert relay.ids() == ["ours"]
    assert len(caplog.records) == 1
    stranger.close()
    context.term()


def test_what_runs_is_told_once_all_that_was_said_before_has_come(relay: Relay) -> None:
    sender = welcome(relay)
    sender.write(event(id="1"))
    sender.write(event(id="2", camera="hall"))
    sender.write(event(id="2", camera="hall", event="end", end_time=9.0))
    relay.until(lambda: len(relay.said) == 3, settle=False)
    relay.restart()
    relay.greetings.clear()
    relay.until(lambda: len(relay.said) == 6)
    assert relay.greetings[0].running is None
    relay.until(lambda: relay.greetings[-1].running is not None)
    assert relay.greetings[-1].running == [event(id="1")]
