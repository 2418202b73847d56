from __future__ import annotations

import logging
import multiprocessing
import pickle
from collections.abc import Iterator

import pytest

from stream_i3d.config import Config
from stream_i3d.message_pipe import MessagePipe
from stream_i3d.stage import (
    CameraNews,
    CameraSlot,
    CaptureOrder,
    Done,
    Failed,
    Stage,
    StageLink,
    Summary,
    WorkerOrder,
)
from tests.samples import status


@pytest.fixture
def link() -> Iterator[StageLink]:
    made = StageLink(multiprocessing.get_context("spawn"))
    yield made
    made.close()


GARBAGE = [b"", b"\0", b"{", b'{"type":"nothing"}', b'{"type":"done","number":"x"}', b"[" * 5000, b'"\xff"']


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_a_word_that_is_none_is_told_and_left_out(
    link: StageLink, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    child = Stage("camera", *link.child_side())
    with caplog.at_level(logging.ERROR, "stream_i3d"):
        child.say(Done(number=1))
        child._pipe.put(garbage)
        child.say(Failed(message="last"))
        assert [*link.receive(), *link.receive()] == [Done(number=1), Failed(message="last")]
    [record] = caplog.records
    assert len(record.getMessage().splitlines()) == 1


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_an_order_that_is_none_is_left_out(link: StageLink, garbage: bytes) -> None:
    child = Stage("camera", *link.child_side())
    link._pipe.put(garbage)
    link.order(CaptureOrder(number=2, paused=True))
    heard = [child.order(), child.order()]
    assert CaptureOrder(number=2, paused=True) in heard


BIG = 100_000
"""Figures; more than a pipe holds."""


def test_orders_to_a_child_that_hangs_hold_nobody_up_and_are_there_when_it_goes_on(link: StageLink) -> None:
    """Forty cameras that cannot go on, each with a long reason: the order is larger than a pipe."""
    child = Stage("worker", *link.child_side())
    slots = [CameraSlot(name=f"c{n}", channel="ipc://x", lossless=False, failure="ä" * 5000) for n in range(40)]
    link.order(WorkerOrder(number=1, cameras=slots, config=Config()))  # would never return
    heard = None
    for _ in range(100):
        link.receive()  # at every turn of the supervisor
        heard = child.order() or heard
    assert isinstance(heard, WorkerOrder) and heard.cameras == slots


def test_a_supervisor_that_does_not_read_holds_no_child_up_and_the_failure_is_not_lost(link: StageLink) -> None:
    child = Stage("worker", *link.child_side())
    for number in range(50):
        child.say(Summary(frames=number, windows_dropped={"x" * BIG: number}))  # would never return
    child.say(CameraNews(status=status(camera="door")))
    child.say(Failed(message="the last word"))
    assert not child.leave(0.0)
    heard: list[object] = []
    for _ in range(100):
        heard += link.receive()
        child.beat()
    assert Failed(message="the last word") in heard
    assert [one.frames for one in heard if isinstance(one, Summary)][-1] == 49
    assert child.leave(0.0)


def test_a_job_larger_than_a_pipe_is_given_without_waiting_for_the_child(link: StageLink) -> None:
    link.give_job({"job": "x" * BIG * 10})  # the child has not begun to read
    end = MessagePipe(link.child_side()[0])
    job = None
    while job is None:
        link.receive()
        job = end.receive_one(0.0)
    assert pickle.loads(job) == {"job": "x" * BIG * 10}


def test_a_long_call_is_declared_while_it_lasts(link: StageLink) -> None:
    child = Stage("camera", *link.child_side())
    before = link.beat_at
    with child.long_call(38.0):
        assert link.long_call_s == 38.0
        with child.long_call(12.0):
            assert link.long_call_s == 38.0  # the outer one lasts longer
    assert link.long_call_s == 0.0 and link.beat_at > before
