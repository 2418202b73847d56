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
    Greeting,
    Said,
    decode_answer,
    decode_from_worker,
    encode_said,
    encode_word,
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
    assert decode_from_worker(encode_said(number, message)) == Said(number, message)


def test_only_predictions_may_be_lost() -> None:
    assert [must_arrive(message) for message in (recognition(), event(), status())] == [False, True, True]


def test_greetings_and_answers_come_back() -> None:
    full = greeting(cameras=["c" * 64] * 64, leaving=True)
    assert decode_from_worker([encode_word(full)]) == full
    answer = Answer(session=5, known=True, settled=9)
    assert decode_answer(encode_word(answer)) == answer


def changed(**fields: Any) -> list[bytes]:
    return [msgspec.json.encode({**msgspec.json.decode(encode_word(greeting())), **fields})]


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([], "0 parts"),
        ([b"", b""], "2 parts"),
        ([b"", *encode_published(event())], "a number of 0 bytes"),
        (encode_said(0, event()), "number 0 on a ActionEvent"),
        (encode_said(1, recognition()), "number 1 on a Recognition"),
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


@pytest.mark.parametrize("part", [b"", b"{}", b"\xff", b" " * (MAX_ANSWER_BYTES + 1), encode_word(greeting())])
def test_an_answer_that_is_not_ours_is_refused(part: bytes) -> None:
    with pytest.raises(WireError):
        decode_answer(part)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.binary(max_size=100), max_size=4), st.integers(0, 2), st.integers(0, 400), st.binary(max_size=3))
def test_anything_at_all_is_refused_or_ours(parts: list[bytes], which: int, at: int, junk: bytes) -> None:
    ours = list(encode_said(1, event()))
    ours[which] = ours[which][:at] + junk + ours[which][at + len(junk) :]
    for candidate in (parts, ours, [encode_word(greeting())[:at] + junk]):
        try:
            assert isinstance(decode_from_worker(candidate), Greeting | Said)
        except WireError as error:
            assert len(str(error)) < 1000
