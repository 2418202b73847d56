from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.inference.fakes import FakeEngine
from tests.inference.worker_service import MakeService, Service


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Layers of a few channels are slower on many threads, and much slower on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeService]:
    """Return a function that makes a worker in a thread; it is ended with the test."""
    made: list[Service] = []

    def build(engine: FakeEngine | None = None, **given: Any) -> Service:
        made.append(Service(tmp_path, monkeypatch, engine or FakeEngine(), **given))
        return made[-1]

    yield build
    for service in made:
        service.close()
