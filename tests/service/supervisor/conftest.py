"""Every test here has a log of its own, restarts at once, and leaves no process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_i3d.backoff import Backoff
from stream_i3d.service import child as child_module


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.touch()
    return path


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    yield
    left = multiprocessing.active_children()
    for process in left:
        process.kill()
        process.join()
    assert left == []


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start again at once what has failed."""
    monkeypatch.setattr(child_module, "Backoff", lambda rng, *_, **__: Backoff(rng, first_s=0.01, limit_s=0.02))
