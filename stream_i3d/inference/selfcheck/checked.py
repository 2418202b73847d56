"""Loads an engine that gives the right numbers: the one of choice, or the next that agrees with float32.

Window and streaming engines of every library are checked alike. What is decided is comparison.py's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.config import ModeName
from stream_i3d.errors import CheckpointError
from stream_i3d.inference.selfcheck.clips import Clip
from stream_i3d.inference.selfcheck.comparison import Attempt, Difference, Tolerance, compare, tolerance_of, worst
from stream_i3d.inference.selfcheck.reference import thinned
from stream_i3d.models.streaming_plan import STEP_FRAMES
from stream_i3d.stage import EngineCheck, RejectedEngine

log = logging.getLogger(__name__)


@runtime_checkable
class Checkable(Protocol):
    """An engine of either mode."""

    temperature: float
    self_check: SelfCheck | None
    """How it was checked; None before that."""


CheckableEngine = TypeVar("CheckableEngine", bound=Checkable)


class SelfCheck:
    """The check of one engine, batch size by batch size.

    Attributes:
        facts: What came of it when the engine was loaded, as it is published.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        reference: NDArray[np.float32] | None,
        mode: ModeName,
        tolerance: Tolerance,
        facts: EngineCheck,
    ) -> None:
        """Args: `reference`: (rows, classes) float32 of the clips, or of the one stream's steps; None for none."""
        self.facts = facts
        self._clips, self._reference, self._mode, self._tolerance = clips, reference, mode, tolerance
        self._found: dict[int, Difference] = {}

    def difference(self, engine: Checkable, batch_size: int = 1) -> Difference:
        """Run the clips through an engine, so many at once, and compare; the engine is warm at this size afterwards."""
        if batch_size not in self._found:
            run = _run_stream if self._mode == "streaming" else _run_windows
            parts = run(cast(Any, engine), self._clips, batch_size)
            self._found[batch_size] = worst(
                [compare(self._expected(rows), thinned(logits), engine.temperature) for rows, logits in parts]
            )
        return self._found[batch_size]

    def _expected(self, rows: slice) -> NDArray[np.float32] | None:
        return None if self._reference is None else self._reference[rows]

    def passes(self, engine: Checkable, batch_size: int = 1) -> bool:
        """Return whether an engine may be used with batches of this size."""
        return self.difference(engine, batch_size).within(self._tolerance)


def load_checked(
    name: str,
    ways: Sequence[Attempt],
    load: Callable[[Attempt], CheckableEngine],
    make_check: Callable[[CheckableEngine, Attempt], SelfCheck],
) -> CheckableEngine:
    """Load the first engine that agrees with float32; one WARNING names those that do not.

    Args:
        name: The checkpoint's, for messages.
        ways: In the order in which they are tried.
        load: Makes an engine.
        make_check: Makes its check, with `facts` that know of no comparison yet.

    Raises:
        CheckpointError: None agrees; or what `load` raises.
    """
    rejected: list[tuple[Attempt, Difference]] = []
    for way in ways:
        engine = load(way)
        check = make_check(engine, way)
        difference = check.difference(engine)
        if not check.passes(engine):
            rejected.append((way, difference))
            continue
        engine.self_check = check
        check.facts = structs.replace(
            check.facts,
            compared=difference.probability is not None,
            difference=_rounded(difference.probability),
            logits_difference=_rounded(difference.logits),
            rejected=[_rejected(*one) for one in rejected],
        )
        if rejected:
            log.warning("the engine of choice fails its self-check (%s): using %s instead", _told(rejected), way)
        return engine
    raise CheckpointError(
        f"no engine runs {name} as float32 does ({_told(rejected)}): give another --backend, or another file"
    )


def run_clips(engine: Checkable, clips: Sequence[Clip], mode: ModeName) -> NDArray[np.float32]:
    """Return an engine's own logits of the check's clips, one row each as `reference.make_values` keeps them."""
    run = _run_stream if mode == "streaming" else _run_windows
    return thinned(np.concatenate([logits for _, logits in run(cast(Any, engine), clips, 1)]))


def new_facts(way: Attempt, tolerance: Tolerance) -> EngineCheck:
    """Return the facts of a check that has not run yet."""
    return EngineCheck(
        backend=way.backend, precision=way.precision, device=way.device, compared=False, tolerance=tolerance.probability
    )


def make_self_check(
    way: Attempt,
    clips: Sequence[Clip],
    reference: NDArray[np.float32] | None,
    mode: ModeName,
    int8: bool = False,
) -> SelfCheck:
    """Return the check of an engine that runs one way."""
    tolerance = tolerance_of(way.precision, int8)
    return SelfCheck(clips, reference, mode, tolerance, new_facts(way, tolerance))


def _run_windows(engine: Any, clips: Sequence[Clip], batch_size: int) -> list[tuple[slice, NDArray[np.float32]]]:
    """Return logits, and which rows of the reference they are to be compared with: every clip at every batch size."""
    parts = []
    for first in range(len(clips)):
        order = [(first + place) % len(clips) for place in range(batch_size)]
        logits = engine.logits(engine.prepare([clips[number] for number in order]))
        parts += [(slice(number, number + 1), logits[place : place + 1]) for place, number in enumerate(order)]
        if batch_size >= len(clips):
            break  # every clip was in it
    return parts


def _run_stream(engine: Any, clips: Sequence[Clip], batch_size: int) -> list[tuple[slice, NDArray[np.float32]]]:
    """Carry the stream along, so many times side by side; compare what means something and what leads to it."""
    states: list[Any] = [None] * batch_size
    parts = []
    for number in range(len(clips[0]) // STEP_FRAMES):
        chunk = clips[0][number * STEP_FRAMES : (number + 1) * STEP_FRAMES]
        logits, states = engine.step(engine.prepare([chunk] * batch_size), states)
        parts += [(slice(number, number + 1), row[None]) for row in logits]
    return parts


def _rejected(way: Attempt, difference: Difference) -> RejectedEngine:
    return RejectedEngine(
        backend=way.backend,
        precision=way.precision,
        device=way.device,
        finite=difference.finite,
        difference=_rounded(difference.probability),
    )


def _told(rejected: Sequence[tuple[Attempt, Difference]]) -> str:
    return "; ".join(f"{way}: {difference}" for way, difference in rejected)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")
