"""How many windows an engine should run at once: on CPUs what pays there, measured as it is warmed up."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from stream_i3d.inference.engine import Engine, warm_up
from stream_i3d.inference.worker.batching import largest_that_pays

log = logging.getLogger(__name__)

MAX_BATCH = 8
LONGEST_BATCH_S = 3.0
"""A batch of more than one window that takes longer is not worth what it gains: its predictions would be old."""

_TRIES = 2


def measured_limit(engine: Engine, cameras: int) -> int:
    """Return the largest batch that pays; a GPU takes all there is, since there even small networks gain several fold.

    Args:
        engine: Which runs each size three times at most, and no size beyond the first that does not pay.
        cameras: How many there are, so that no batch will be larger.
    """
    most = min(max(1, cameras), MAX_BATCH)
    if most == 1 or engine.facts.device != "cpu":
        return MAX_BATCH if most > 1 else 1

    def time_of(size: int) -> float:
        warm_up(engine, [size])  # its first run compiles
        took = []
        for _ in range(_TRIES):
            before = time.perf_counter()
            warm_up(engine, [size])
            took.append(time.perf_counter() - before)
        return min(took)

    limit = largest_that_pays(time_of, most, LONGEST_BATCH_S)
    log.info("at most %d windows of %d cameras run as one batch: more gain nothing here", limit, cameras)
    return limit


def measured_steps(engine: Engine, sizes: Iterable[int]) -> dict[int, float]:
    """Return the seconds that batches of these sizes take; each runs twice."""
    seconds = {}
    for size in sizes:
        warm_up(engine, [size])  # its first run compiles
        before = time.perf_counter()
        warm_up(engine, [size])
        seconds[size] = time.perf_counter() - before
    return seconds


def any_batch(engine: Engine, cameras: int) -> int:
    """Return `MAX_BATCH`: for engines that are not to be measured."""
    return MAX_BATCH
