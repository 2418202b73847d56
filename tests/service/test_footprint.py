from __future__ import annotations

import errno
import os

import psutil
import pytest

from stream_i3d.service import footprint as footprint_module
from stream_i3d.service.footprint import Footprint, FootprintWatch, measure_footprint

MIB = 2**20


class Watched:
    """A watch of a process whose memory the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held_mb = 0
        self.looks = 0
        self.watch = FootprintWatch()
        monkeypatch.setattr(footprint_module, "measure_footprint", self._measure)

    def _measure(self, pid: int) -> Footprint:
        self.looks += 1
        return Footprint(self.held_mb * MIB, 30)

    def too_much(self, now: float, limit_mb: float | None = 500.0) -> bool:
        return self.watch.holds_too_much(now, "worker", 7, limit_mb)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def test_memory_and_open_files_are_those_of_the_process_and_of_one_that_has_ended_unknown() -> None:
    gone = 2**22 + 1  # beyond the largest number that Linux gives
    here, ended = measure_footprint(os.getpid()), measure_footprint(gone)
    assert here.rss_bytes is not None and here.rss_bytes > 10_000_000
    assert here.open_files is not None and here.open_files >= 3
    assert (ended.rss_bytes, ended.open_files) == (None, None)


def test_a_process_is_looked_at_once_a_second_and_a_new_one_at_once(watched: Watched) -> None:
    for now in (100.0, 100.05, 100.9, 101.0, 101.5):
        watched.too_much(now)
    assert (watched.looks, watched.watch.footprint) == (2, Footprint(0, 30))
    watched.watch.forget()
    assert watched.watch.footprint == Footprint(None, None)
    watched.too_much(101.6)
    assert watched.looks == 3


def test_only_what_is_beyond_the_limit_is_too_much(watched: Watched) -> None:
    watched.held_mb = 500
    assert not watched.too_much(100.0)
    watched.held_mb = 501
    assert watched.too_much(101.0)


def test_without_a_limit_nothing_is_too_much(watched: Watched) -> None:
    watched.held_mb = 10**6
    assert not watched.too_much(100.0, limit_mb=None)


def test_one_that_needs_its_memory_is_not_started_again_over_and_over(watched: Watched) -> None:
    watched.held_mb = 700
    said = [now for now in range(100, 400) if watched.too_much(float(now))]
    first, second, third = said[:3]
    assert first == 100
    assert 24 <= second - first <= 37  # 30 s, and a fifth more or less
    assert 48 <= third - second <= 73


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO])
def test_a_look_that_the_system_does_not_allow_just_now_says_that_nothing_is_known(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(pid: int) -> psutil.Process:
        raise OSError(number, os.strerror(number), "/proc/7/stat")

    monkeypatch.setattr(psutil, "Process", fails)
    assert measure_footprint(7) == Footprint(None, None)
    watch = FootprintWatch()
    assert not watch.holds_too_much(100.0, "worker", 7, 500.0)
