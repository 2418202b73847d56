"""A time limit for calls that have none of their own: name lookups, TLS handshakes, answers that come byte by byte.

Libraries limit each wait for data, so another end that sends a byte now and then can hold a caller for ever.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from stream_i3d.thread_names import name_background_thread

_T = TypeVar("_T")

_MOST_LEFT_BEHIND = 4


def call_within(
    seconds: float, call: Callable[[], _T], give_up: Callable[[], None] | None = None, name: str = "call"
) -> _T:
    """Return what `call` returns, if it does so in time.

    Args:
        seconds: The limit.
        call: Runs in a thread of its own, which is left behind where it takes longer.
        give_up: Called then, before the error is raised: should close what `call` waits for, so that its thread ends.
        name: Of the thread. While four of a name are left behind, no further one is started.

    Raises:
        TimeoutError: It took longer.
        BaseException: Whatever `call` raises.
    """
    thread_name = f"deadline-{name}"
    if sum(one.name == thread_name for one in threading.enumerate()) >= _MOST_LEFT_BEHIND:
        raise TimeoutError(f"no answer: {_MOST_LEFT_BEHIND} earlier tries still wait for theirs")
    outcome: queue.SimpleQueue[tuple[bool, _T | BaseException]] = queue.SimpleQueue()

    def run() -> None:
        name_background_thread(name)
        try:
            outcome.put((True, call()))
        except BaseException as error:
            outcome.put((False, error))

    threading.Thread(target=run, name=thread_name, daemon=True).start()
    try:
        worked, result = outcome.get(timeout=seconds)
    except queue.Empty:
        if give_up is not None:
            give_up()
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if worked:
        return result  # type: ignore[return-value]
    assert isinstance(result, BaseException)
    try:
        raise result
    finally:
        del result  # whose traceback holds this frame: what the call left open would wait for the garbage collector
