from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator

import pytest

from stream_i3d.stage import CaptureOrder, Done, Failed, Stage, StageLink


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
