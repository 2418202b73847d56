"""What a stage's main function is given, without a parent process."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator

from stream_i3d.stage import StageMessage, Summary, WorkerOrder

WAIT_S = 30.0


class FakeStage:
    """The child's side of a link without a parent; what it says and its heartbeats can be waited for."""

    def __init__(self, name: str = "worker") -> None:
        self.name = name
        self.stopping = threading.Event()
        self.said: list[StageMessage] = []
        self.beats = 0
        self.orders: queue.SimpleQueue[WorkerOrder] = queue.SimpleQueue()
        self._changed = threading.Condition()

    def order(self) -> WorkerOrder | None:
        return None if self.orders.empty() else self.orders.get()

    def beat(self) -> None:
        with self._changed:
            self.beats += 1
            self._changed.notify_all()

    @contextlib.contextmanager
    def long_call(self, limit_s: float) -> Iterator[None]:
        yield

    def say(self, message: StageMessage) -> None:
        with self._changed:
            self.said.append(message)
            self._changed.notify_all()

    def comes_true(self, true: Callable[[], bool]) -> bool:
        """Wait for it, at most `WAIT_S`; return whether it came."""
        with self._changed:
            return self._changed.wait_for(true, WAIT_S)

    def wait_until(self, true: Callable[[], bool]) -> None:
        assert self.comes_true(true)

    @property
    def summary(self) -> Summary:
        """The last figures."""
        return [Summary(), *(message for message in self.said if isinstance(message, Summary))][-1]
