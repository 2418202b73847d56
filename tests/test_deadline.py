from __future__ import annotations

import threading

import pytest

from stream_i3d.deadline import call_within
from tests.waiting import WAIT_S, wait_until


def test_what_a_call_returns_or_raises_comes_out() -> None:
    assert call_within(WAIT_S, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        call_within(WAIT_S, lambda: 1 // 0)


def test_a_call_that_takes_too_long_is_given_up_and_few_are_left_behind() -> None:
    end, begun, given_up = threading.Event(), [], []

    def hang() -> None:
        begun.append(1)
        end.wait(WAIT_S)

    for number in range(6):
        with pytest.raises(TimeoutError, match="no answer"):
            call_within(0.01, hang, lambda: given_up.append(1), name="hanging")
        assert len(given_up) == min(number + 1, 4)
    assert len(begun) == 4
    end.set()
    wait_until(lambda: not any(one.name == "deadline-hanging" for one in threading.enumerate()))
    assert call_within(WAIT_S, lambda: "well", name="hanging") == "well"
