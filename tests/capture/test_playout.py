"""The queue of what is passed on later."""

from __future__ import annotations

from stream_i3d.capture.playout import PlayoutQueue


def test_things_leave_in_order_when_they_are_due() -> None:
    queue: PlayoutQueue[str] = PlayoutQueue(100)
    assert queue.wait_s(0.0) is None and queue.pop(0.0) is None
    for name, due in (("a", 1.0), ("b", 2.0)):
        queue.push(name, lambda due=due: due, 10)  # type: ignore[misc]
    assert queue.wait_s(0.25) == 0.75 and queue.pop(0.25) is None
    assert queue.pop(1.0) == "a" and queue.pop(1.5) is None
    assert queue.pop(5.0) == "b"
    assert (len(queue), queue.bytes, queue.early, queue.dropped) == (0, 0, 0, 0)


def test_when_a_thing_is_due_may_change_while_it_waits() -> None:
    queue: PlayoutQueue[str] = PlayoutQueue(100)
    due = [9.0]
    queue.push("a", lambda: due[0], 10)
    assert queue.pop(5.0) is None
    due[0] = 4.0
    assert queue.pop(5.0) == "a"


def test_a_full_queue_passes_its_oldest_on_early_and_loses_nothing() -> None:
    queue: PlayoutQueue[int] = PlayoutQueue(100)
    for number in range(15):
        queue.push(number, lambda: 1000.0, 10)
    early = []
    while (item := queue.pop(0.0)) is not None:
        early.append(item)
    assert early == [0, 1, 2, 3, 4]
    assert (queue.early, queue.dropped, queue.bytes) == (5, 0, 100)


def test_where_nobody_takes_them_the_oldest_are_dropped_and_counted() -> None:
    queue: PlayoutQueue[int] = PlayoutQueue(100)
    for number in range(1000):
        queue.push(number, lambda: 0.0, 10)
        assert queue.bytes <= 200
    assert queue.dropped == 980
    assert queue.pop(0.0) == 980
