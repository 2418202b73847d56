from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.errors import WireError
from stream_i3d.transport.relay_wire import (
    MAX_ANSWER_BYTES,
    MAX_GREETING_BYTES,
    Answer,
    Backlog,
    Greeting,
    Publication,
    decode_answer,
    decode_from_worker,
    encode_control,
    encode_publication,
    must_arrive,
)
from stream_i3d.transport.wire import encode_published
from tests.samples import event, recognition, status


def greeting(**more: Any) -> Greeting:
    given: dict[str, Any] = {
        "worker": "worker",
        "pid": 7,
        "life": 1,
        "session": 0,
        "first": 1,
        "next": 1,
        "cameras": ["door", "hall"],
    }
    return Greeting(**{**given, **more})


@pytest.mark.parametrize(("number", "message"), [(0, recognition()), (1, event()), (2**63, status())])
def test_what_is_said_comes_back_with_its_number(number: int, message: Any) -> None:
    parts = encode_publication(number, message)
    assert decode_from_worker(parts) == Publication(number, message, (parts[1], parts[2]))


def test_only_predictions_may_be_lost() -> None:
    assert [must_arrive(message) for message in (recognition(), event(), status())] == [False, True, True]


def test_greetings_and_answers_come_back() -> None:
    full = greeting(cameras=["c" * 64] * 64, leaving=True)
    assert decode_from_worker([encode_control(full)]) == full
    answer = Answer(session=5, known=True, settled=9)
    assert decode_answer(encode_control(answer)) == answer


def changed(**fields: Any) -> list[bytes]:
    return [msgspec.json.encode({**msgspec.json.decode(encode_control(greeting())), **fields})]


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([], "0 parts"),
        ([b"", b""], "2 parts"),
        ([b"", *encode_published(event())], "a number of 0 bytes"),
        (encode_publication(0, event()), "number 0 on a ActionEvent"),
        (encode_publication(1, recognition()), "number 1 on a Recognition"),
        ([b"\0" * 8, b"v1/door/event", b"{}"], "not a event message"),
        ([b""], "not a greeting of version 1"),
        ([b"[" * 9000], "not a greeting of version 1"),
        ([b" " * (MAX_GREETING_BYTES + 1)], "at most"),
        (changed(kind="answer"), "not a greeting of version 1"),
        (changed(version=2), "not a greeting of version 1"),
        (changed(worker=""), "not a greeting of version 1"),
        (changed(pid=-1), "not a greeting of version 1"),
        (changed(first=0), "not a greeting of version 1"),
        (changed(cameras=["a/b"]), "not a greeting of version 1"),
        (changed(cameras=["c"] * 257), "not a greeting of version 1"),
        (changed(more=1), "not a greeting of version 1"),
    ],
)
def test_what_is_not_ours_is_refused_with_the_reason(parts: Sequence[bytes], problem: str) -> None:
    with pytest.raises(WireError, match=problem):
        decode_from_worker(parts)


@pytest.mark.parametrize("part", [b"", b"{}", b"\xff", b" " * (MAX_ANSWER_BYTES + 1), encode_control(greeting())])
def test_an_answer_that_is_not_ours_is_refused(part: bytes) -> None:
    with pytest.raises(WireError):
        decode_answer(part)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.binary(max_size=100), max_size=4), st.integers(0, 2), st.integers(0, 400), st.binary(max_size=3))
def test_anything_at_all_is_refused_or_ours(parts: list[bytes], which: int, at: int, junk: bytes) -> None:
    ours = list(encode_publication(1, event()))
    ours[which] = ours[which][:at] + junk + ours[which][at + len(junk) :]
    for candidate in (parts, ours, [encode_control(greeting())[:at] + junk]):
        try:
            assert isinstance(decode_from_worker(candidate), Greeting | Publication)
        except WireError as error:
            assert len(str(error)) < 1000


def filled(count: int, limit: int = 100) -> Backlog:
    backlog = Backlog(limit)
    for number in range(1, count + 1):
        assert backlog.next_number == number
        backlog.keep((str(number).encode(),))
    return backlog


def numbers(backlog: Backlog, since: int = 1) -> list[int]:
    kept = list(backlog.since(since))
    assert [int(parts[0]) for _, parts in kept] == [number for number, _ in kept]
    return [number for number, _ in kept]


def test_messages_are_kept_in_order_until_they_are_settled() -> None:
    backlog = filled(5)
    backlog.settle(2)
    assert numbers(backlog) == [3, 4, 5]
    assert (len(backlog), backlog.first) == (3, 3)
    backlog.settle(5)
    assert (numbers(backlog), backlog.first, backlog.next_number) == ([], 6, 6)


def test_only_what_is_new_is_given_again() -> None:
    backlog = filled(5)
    assert [numbers(backlog, since) for since in (4, 5, 6, 9)] == [[4, 5], [5], [], []]


def test_a_full_backlog_drops_its_oldest_and_counts_them() -> None:
    backlog = filled(10, limit=3)
    assert (numbers(backlog), backlog.dropped, backlog.first) == ([8, 9, 10], 7, 8)


@given(st.lists(st.integers(0, 30), max_size=30), st.integers(1, 10))
def test_whatever_happens_what_is_kept_are_the_newest_that_are_not_settled(settled: list[int], limit: int) -> None:
    backlog, safe = Backlog(limit), 0
    for newest, number in enumerate(settled, start=1):
        backlog.keep((str(newest).encode(),))
        backlog.settle(min(number, newest))
        safe = max(safe, min(number, newest))
        kept = list(range(max(safe + 1, newest - limit + 1), newest + 1))
        assert numbers(backlog) == kept
        assert backlog.first == (kept[0] if kept else newest + 1)
