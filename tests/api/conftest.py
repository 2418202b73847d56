from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stream_i3d import Recognizer

Make = Callable[..., Recognizer]


@pytest.fixture
def make_recognizer(tiny_checkpoint: Path) -> Make:
    """Return a function that makes a recognizer of the tiny network, which recognises everything."""

    def make(**options: Any) -> Recognizer:
        given = {"device": "cpu", "backend": "torch", "precision": "fp32", "smoothing": "none"}
        open_to_all = {"min_confidence": 0, "min_motion": 0, "top_k": 10}
        return Recognizer(tiny_checkpoint, **{**given, **open_to_all, **options})

    return make
