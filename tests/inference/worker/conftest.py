from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.inference.fakes import FakeEngine
from tests.inference.worker.service import MakeService, Service


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
