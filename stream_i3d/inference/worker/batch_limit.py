"""How many windows an engine should run at once: on CPUs what pays there, measured as it is warmed up."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Protocol

from stream_i3d.inference.worker.batching import largest_that_pays
from stream_i3d.messages import EngineFacts

log = logging.getLogger(__name__)

MAX_BATCH = 8
LONGEST_BATCH_S = 3.0
"""A batch of more than one window that takes longer is not worth what it gains: its predictions would be old."""

_TRIES = 2


class Warmable(Protocol):
    """What is measured: any engine."""

    facts: EngineFacts

    def warm_up(self, batch_sizes: list[int]) -> None:
        """Run each batch size once."""


def measured_limit(engine: Warmable, cameras: int) -> int:
    """Return the largest batch that pays; a GPU takes all there is, since there even small networks gain several fold.

    Args:
        engine: Which runs each size three times at most, and no size beyond the first that does not pay.
        cameras: How many there are, so that no batch will be larger.
    """
    most = min(max(1, cameras), MAX_BATCH)
    if most == 1 or engine.facts.device != "cpu":
        return MAX_BATCH if most > 1 else 1

    def time_of(size: int) -> float:
        engine.warm_up([size])  # its first run compiles
        took = []
        for _ in range(_TRIES):
            before = time.perf_counter()
            engine.warm_up([size])
            took.append(time.perf_counter() - before)
        return min(took)

    limit = largest_that_pays(time_of, most, LONGEST_BATCH_S)
    log.info("at most %d windows of %d cameras run as one batch: more gain nothing here", limit, cameras)
    return limit


def measured_steps(engine: Warmable, sizes: Iterable[int]) -> dict[int, float]:
    """Return the seconds that batches of these sizes take; each runs twice."""
    seconds = {}
    for size in sizes:
        engine.warm_up([size])  # its first run compiles
        before = time.perf_counter()
        engine.warm_up([size])
        seconds[size] = time.perf_counter() - before
    return seconds


def any_batch(engine: Warmable, cameras: int) -> int:
    """Return `MAX_BATCH`: for engines that are not to be measured."""
    return MAX_BATCH
