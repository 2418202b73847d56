from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream_i3d.transport.backlog import Backlog


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
