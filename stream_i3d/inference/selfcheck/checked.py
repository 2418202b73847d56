"""Loads an engine that gives the right numbers: the one of choice, or the next that agrees with float32.

Engines of every library and mode are checked alike. What is decided is comparison.py's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.errors import CheckpointError
from stream_i3d.inference.engine import LoadedModel, State
from stream_i3d.inference.selfcheck.clips import Clip
from stream_i3d.inference.selfcheck.comparison import Attempt, Difference, Tolerance, compare, tolerance_of, worst
from stream_i3d.inference.selfcheck.reference import thinned
from stream_i3d.stage import EngineCheck, RejectedEngine

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]


class SelfCheck:
    """The check of one engine and its head, batch size by batch size.

    Attributes:
        facts: What came of it when the engine was loaded, as it is published.
    """

    facts: EngineCheck

    def __init__(
        self,
        model: LoadedModel,
        clips: Sequence[Clip],
        reference: Floats | None,
        tolerance: Tolerance,
        facts: EngineCheck,
    ) -> None:
        """Prepare it.

        Args:
            model: What is checked.
            clips: Each is fed from its first frame on, in as many runs as it has clips of the engine's length.
            reference: (rows, classes) float32, a row for each run of each clip; None for none.
            tolerance: How far the engine may be from it.
            facts: What is known before the comparison.
        """
        self.facts = facts
        self._model, self._clips, self._reference, self._tolerance = model, clips, reference, tolerance
        self._found: dict[int, Difference] = {}

    def difference(self, batch_size: int = 1) -> Difference:
        """Run the clips, so many at once, and compare; the engine is warm at this batch size afterwards."""
        if batch_size not in self._found:
            temperature = self._model.head.temperature
            self._found[batch_size] = worst(
                [
                    compare(self._expected(row), thinned(logits[None]), temperature)
                    for row, logits in _rows(self._model, self._clips, batch_size)
                ]
            )
        return self._found[batch_size]

    def _expected(self, row: int) -> Floats | None:
        return None if self._reference is None else self._reference[row : row + 1]

    def passes(self, batch_size: int = 1) -> bool:
        """Return whether batches of this size may be used."""
        return self.difference(batch_size).within(self._tolerance)


def load_checked(
    name: str,
    ways: Sequence[Attempt],
    load: Callable[[Attempt], LoadedModel],
    make_check: Callable[[LoadedModel, Attempt], SelfCheck],
) -> LoadedModel:
    """Load the first model that agrees with float32; one WARNING names those that do not.

    Args:
        name: The checkpoint's, for messages.
        ways: In the order in which they are tried.
        load: Loads a model.
        make_check: Makes its check, with `facts` that know of no comparison yet.

    Raises:
        CheckpointError: None agrees; or what `load` raises.
    """
    rejected: list[tuple[Attempt, Difference]] = []
    for way in ways:
        model = load(way)
        check = make_check(model, way)
        difference = check.difference()
        if not check.passes():
            rejected.append((way, difference))
            continue
        check.facts = structs.replace(
            check.facts,
            compared=difference.probability is not None,
            difference=_rounded(difference.probability),
            logits_difference=_rounded(difference.logits),
            rejected=[_rejected(*one) for one in rejected],
        )
        if rejected:
            log.warning("the engine of choice fails its self-check (%s): using %s instead", _told(rejected), way)
        return LoadedModel(model.engine, model.head, check)
    raise CheckpointError(
        f"no engine runs {name} as float32 does ({_told(rejected)}): give another --backend, or another file"
    )


def run_clips(model: LoadedModel, clips: Sequence[Clip]) -> Floats:
    """Return a model's own logits of the check's clips, one row each as `reference.make_values` keeps them."""
    return thinned(np.stack([logits for _, logits in _rows(model, clips, 1)]))


def make_self_check(model: LoadedModel, way: Attempt, clips: Sequence[Clip], reference: Floats | None) -> SelfCheck:
    """Return the check of a model that runs one way; it has not run yet. Arguments as for `SelfCheck`."""
    tolerance = tolerance_of(way.precision, model.engine.facts.int8)
    facts = EngineCheck(
        backend=way.backend, precision=way.precision, device=way.device, compared=False, tolerance=tolerance.probability
    )
    return SelfCheck(model, clips, reference, tolerance, facts)


def _rows(model: LoadedModel, clips: Sequence[Clip], batch_size: int) -> Iterator[tuple[int, Floats]]:
    """Yield row numbers of the reference and (num_classes,) logits: every clip at every batch size."""
    frames = model.engine.clip_shape[0]
    runs = len(clips[0]) // frames
    for first in range(len(clips)):
        order = [(first + place) % len(clips) for place in range(batch_size)]
        states: list[State] = [None] * batch_size
        for number in range(runs):
            parts = [clips[clip][number * frames : (number + 1) * frames] for clip in order]
            features, states = model.engine.run(model.engine.prepare(parts), states)
            scores = model.head(features)
            yield from ((clip * runs + number, row) for clip, row in zip(order, scores.logits, strict=True))
        if batch_size >= len(clips):
            break  # every clip was in it


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
