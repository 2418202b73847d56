"""The engine around a network that another library carries along streams. Imports no torch.

What engine.py is to windows. Cameras are stepped one after another: see docs/decisions.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stream_i3d.inference.graphs.engine import Clips
from stream_i3d.messages import EngineFacts
from stream_i3d.models.spec import ModelSpec
from stream_i3d.models.streaming_plan import STEP_FRAMES

if TYPE_CHECKING:
    from stream_i3d.inference.selfcheck.checked import SelfCheck

FRAMES, STEPS, CONTEXT, NEXT_CONTEXT = "frames", "steps", "context_{}", "next_context_{}"
"""What a graph of one step calls its inputs, and its outputs beside the logits."""


class Stepper(Protocol):
    """A compiled graph of one step, and the memories of the streams that it is carried along. One thread uses it."""

    description: str
    """The library, its version, the device and the precision."""

    facts: EngineFacts
    """The same as fields."""

    int8: bool
    """Whether layers of it are int8."""

    def begin(self) -> Any:
        """Return the memory of a stream before its first frame."""

    def __call__(self, frames: Clips, memory: Any) -> NDArray[np.float32]:
        """(1, 8, H, W, 3) uint8 -> (num_classes,) float32; `memory` is changed."""


class GraphStreamEngine:
    """A `StreamEngine` of a stepper."""

    def __init__(self, stepper: Stepper, spec: ModelSpec, labels: Sequence[str]) -> None:
        """Args: `spec` of the graph; `labels`: one per output."""
        self.labels = tuple(labels)
        self.description, self.facts = f"{stepper.description}, streaming", stepper.facts
        self.temperature = spec.temperature
        self.int8 = stepper.int8
        self.self_check: SelfCheck | None = None
        self._stepper, self._size = stepper, spec.preprocessing.crop_size

    def prepare(self, chunks: Sequence[NDArray[np.uint8]]) -> Clips:
        """Take B chunks of (8, H, W, 3) uint8; afterwards their memory may be overwritten."""
        return np.stack(chunks)

    def step(self, batch: Clips, states: Sequence[Any]) -> tuple[NDArray[np.float32], list[Any]]:
        """Feed each camera its chunk, see `StreamEngine.step`."""
        memories = [self._stepper.begin() if state is None else state for state in states]
        rows = [self._stepper(batch[at : at + 1], memory) for at, memory in enumerate(memories)]
        return np.stack(rows), memories

    def warm_up(self, batch_sizes: Sequence[int]) -> None:
        """Step batches of these sizes once, so that the first real step is not the slow one."""
        for count in batch_sizes:
            self.step(np.zeros((count, STEP_FRAMES, self._size, self._size, 3), np.uint8), [None] * count)
