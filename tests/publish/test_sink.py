from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from stream_i3d.publish import sink as sink_module
from stream_i3d.publish.jsonl import JsonLinesSink
from stream_i3d.publish.sink import QueuedSink
from stream_i3d.stage import SinkFigures
from stream_i3d.transport.wire import Published
from tests.samples import event, recognition, status
from tests.waiting import WAIT_S


class FakeSink:
    """Keeps what it is given. `failing` says of each write whether it fails; with `blocked`, writes wait."""

    def __init__(self, failing: Iterable[bool] = (), blocked: bool = False) -> None:
        self.written: list[int] = []
        self.closed = 0
        self.writing = threading.Event()
        self.free = threading.Event()
        self._failing = iter(failing)
        if not blocked:
            self.free.set()

    def write(self, message: Published) -> None:
        self.writing.set()
        assert self.free.wait(WAIT_S)
        if next(self._failing, False):
            raise OSError(28, "No space left on device")
        self.written.append(message.seq)  # type: ignore[union-attr]

    def close(self) -> None:
        self.closed += 1


def test_messages_are_written_in_order_and_all_of_them_at_close() -> None:
    target = FakeSink()
    queued = QueuedSink(target, "test")
    for seq in range(500):
        queued.write(recognition(seq=seq))
    queued.close(WAIT_S)
    assert target.written == list(range(500))
    assert (target.closed, queued.dropped) == (1, 0)


def test_a_sink_that_blocks_costs_the_newest_messages_which_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_module, "_QUEUE", 3)
    target = FakeSink(blocked=True)
    queued = QueuedSink(target, "test")
    queued.write(recognition(seq=0))
    assert target.writing.wait(WAIT_S)  # message 0 has left the queue
    for seq in range(1, 8):
        queued.write(recognition(seq=seq))  # never waits
    assert queued.dropped == 4
    target.free.set()
    queued.close(WAIT_S)
    assert target.written == [0, 1, 2, 3]


def test_the_queue_is_bounded_as_it_comes() -> None:
    target = FakeSink(blocked=True)
    queued = QueuedSink(target, "test")
    queued.write(recognition())
    assert target.writing.wait(WAIT_S)
    for _ in range(3000):
        queued.write(recognition())
    assert queued.dropped == 2000
    target.free.set()
    queued.close(WAIT_S)


def test_an_error_of_the_medium_is_counted_and_said_once_until_it_works_again(caplog: pytest.LogCaptureFixture) -> None:
    target = FakeSink(failing=[True, True, False, True, False])
    queued = QueuedSink(target, "jsonl")
    with caplog.at_level(logging.WARNING):
        for seq in range(5):
            queued.write(recognition(seq=seq))
        queued.close(WAIT_S)
    assert target.written == [2, 4]
    assert queued.dropped == 3
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2
    assert warnings[0].getMessage() == (
        "jsonl: cannot write ([Errno 28] No space left on device); messages are dropped until it works again"
    )


def test_only_what_was_asked_for_is_written() -> None:
    target = FakeSink()
    queued = QueuedSink(target, "test", what=["predictions"])
    for message in (status(), recognition(seq=7), event()):
        queued.write(message)
    queued.close(WAIT_S)
    assert target.written == [7]
    assert queued.figures() == SinkFigures(name="test", queued=0, written=1, dropped=0)


def test_that_a_medium_works_again_is_said_with_what_it_cost(caplog: pytest.LogCaptureFixture) -> None:
    queued = QueuedSink(FakeSink(failing=[True, True, False]), "jsonl")
    with caplog.at_level(logging.INFO):
        for seq in range(3):
            queued.write(recognition(seq=seq))
        queued.close(WAIT_S)
    assert caplog.messages[-1] == "jsonl: works again; messages lost meanwhile: 2"


def test_closing_does_not_wait_for_a_sink_that_blocks() -> None:
    target = FakeSink(blocked=True)
    queued = QueuedSink(target, "test")
    queued.write(recognition(seq=0))
    assert target.writing.wait(WAIT_S)
    queued.close(timeout_s=0.01)
    assert (target.written, target.closed) == ([], 0)
    target.free.set()
    queued._thread.join(WAIT_S)
    assert (target.written, target.closed) == ([0], 1)


def test_closing_does_not_wait_for_a_full_queue_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_module, "_QUEUE", 1)
    target = FakeSink(blocked=True)
    queued = QueuedSink(target, "test")
    queued.write(recognition(seq=0))
    assert target.writing.wait(WAIT_S)
    queued.write(recognition(seq=1))
    queued.close(timeout_s=0.01)
    assert target.written == []
    target.free.set()
    queued.close(WAIT_S)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_is_full_to_the_end_is_counted_and_nothing_worse(caplog: pytest.LogCaptureFixture) -> None:
    queued = QueuedSink(JsonLinesSink("/dev/full"), "jsonl")
    with caplog.at_level(logging.WARNING):
        for seq in range(50):
            queued.write(recognition(seq=seq))
        queued.close(WAIT_S)
    assert not queued._thread.is_alive()
    assert queued.dropped == 50
    assert "No space left on device" in caplog.text
