from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from stream_i3d.service.hang import Activity, HangLimits, HangWatch, look_at_activity
from tests.waiting import wait_until

LIMITS = HangLimits(idle_s=8.0, silent_s=60.0)


class Followed:
    """A process whose heartbeat and activity the test says, looked at twenty times a second."""

    def __init__(self, start: float = 1000.0) -> None:
        self.now = start
        self.beat_at = start
        self.looks = 0
        self.watch = HangWatch()

    def until_hung(
        self,
        activity: Callable[[float], Activity | None],
        seconds: float = 200.0,
        limits: HangLimits = LIMITS,
        beats: bool = False,
    ) -> tuple[float, str]:
        """Return after how many seconds it is taken for one that hangs, and the reason; or the seconds and ""."""
        start = self.now

        def look() -> Activity | None:
            self.looks += 1
            return activity(self.now - start)

        while self.now - start < seconds:
            self.now += 0.05
            if beats:
                self.beat_at = self.now
            if why := self.watch.judge(self.now, self.beat_at, limits, look):
                return round(self.now - start, 1), why
        return seconds, ""


def idle(_: float) -> Activity:
    return Activity(stopped=False, working=False, busy_s=5.0)


def busy(seconds: float) -> Activity:
    return Activity(stopped=False, working=True, busy_s=seconds)


def starved(seconds: float) -> Activity:
    """Never seen running, as on a machine with twenty times too much to do: its threads wait for a core."""
    return Activity(stopped=False, working=False, busy_s=seconds)


def test_a_process_that_neither_beats_nor_works_hangs() -> None:
    assert Followed().until_hung(idle) == (8.0, "was silent and idle for over 8 s")


def test_a_process_that_was_stopped_hangs_sooner() -> None:
    seconds, why = Followed().until_hung(lambda _: Activity(stopped=True, working=False, busy_s=5.0))
    assert seconds <= 8.0 and why == "was stopped for over 5 s"


@pytest.mark.parametrize("activity", [busy, starved])
def test_a_process_that_works_or_waits_for_a_core_is_slow_and_does_not_hang(
    activity: Callable[[float], Activity],
) -> None:
    assert Followed().until_hung(activity) == (60.0, "was silent for over 60 s")


def test_a_process_that_ends_its_work_hangs_from_then_on() -> None:
    seconds, why = Followed().until_hung(lambda s: busy(s) if s < 20 else idle(s))
    assert 27.0 <= seconds <= 30.0 and why == "was silent and idle for over 8 s"


def test_a_declared_call_may_wait_for_as_long_as_it_says_and_no_longer() -> None:
    assert Followed().until_hung(idle, limits=LIMITS.within(38.0)) == (38.0, "was silent and idle for over 38 s")
    assert LIMITS.within(0.0) == LIMITS and LIMITS.within(300.0) == HangLimits(300.0, 300.0)


def test_a_process_that_beats_is_never_looked_at() -> None:
    followed = Followed()
    assert followed.until_hung(idle, beats=True) == (200.0, "")
    assert followed.looks == 0


def test_a_process_that_cannot_be_looked_at_is_not_taken_for_idle() -> None:
    assert Followed().until_hung(lambda _: None) == (60.0, "was silent for over 60 s")


def test_a_machine_that_slept_has_nobody_killed() -> None:
    """All heartbeats are an hour old when it wakes."""
    followed = Followed()
    followed.until_hung(idle, 1.0, beats=True)
    followed.now += 3600.0
    assert followed.until_hung(idle, 3.0) == (3.0, "")
    assert followed.until_hung(idle, 60.0, beats=True) == (60.0, "")


def test_a_short_stop_is_none() -> None:
    followed = Followed()
    stopped = Activity(stopped=True, working=False, busy_s=1.0)
    assert followed.until_hung(lambda _: stopped, 5.0) == (5.0, "")
    assert followed.until_hung(idle, 60.0, beats=True) == (60.0, "")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what threads do is told by Linux")
def test_what_a_process_does_is_seen() -> None:
    """Of a process that waits beside a thread which works in the background, of a busy one and of a stopped one."""
    beside = (
        "import threading; from stream_i3d.thread_names import name_background_thread as name\n"
        "def work():\n    name('work'); print(flush=True)\n    while True: pass\n"
        "threading.Thread(target=work, daemon=True).start(); threading.Event().wait()"
    )
    waiting = "import threading; print(flush=True); threading.Event().wait()"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        for code in (beside, "print(flush=True)\nwhile True: pass", waiting)
    ]
    try:
        for one in processes:
            assert one.stdout is not None and one.stdout.readline() == b"\n"
        waits, computes, stopped = (one.pid for one in processes)
        os.kill(stopped, signal.SIGSTOP)
        wait_until(lambda: (seen := look_at_activity(stopped)) is not None and seen.stopped)
        first, first_busy = look_at_activity(waits), look_at_activity(computes)
        assert first is not None and first_busy is not None

        def computed() -> bool:
            seen = look_at_activity(computes)
            return seen is not None and seen.busy_s > first_busy.busy_s + 0.5

        wait_until(computed)
        second = look_at_activity(waits)
        assert second is not None and not second.stopped
        assert second.busy_s - first.busy_s < 0.1  # of its main thread alone
    finally:
        for one in processes:
            one.kill()
            one.communicate()
    assert look_at_activity(stopped) is None
