"""The engine around a network that another library runs: clips in, logits out. Imports no torch.

The library's part is a `Runner` (openvino_runner.py, onnx_runner.py); normalisation is in the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from stream_i3d.errors import CheckpointError
from stream_i3d.messages import EngineFacts
from stream_i3d.models.spec import ModelSpec

if TYPE_CHECKING:
    from stream_i3d.inference.selfcheck.checked import SelfCheck

Clips = NDArray[np.uint8]
"""(B, T, H, W, C)."""


class Runner(Protocol):
    """A compiled graph. One thread uses it."""

    description: str
    """The library, its version, the device and the precision."""

    facts: EngineFacts
    """The same as fields."""

    int8: bool
    """Whether layers of it are int8."""

    def __call__(self, clips: Clips) -> NDArray[np.float32]:
        """(B, T, H, W, C) uint8 -> (B, num_classes) float32."""


class GraphEngine:
    """An `Engine` of a runner."""

    def __init__(self, runner: Runner, spec: ModelSpec, labels: Sequence[str]) -> None:
        """Args: `spec` of the graph; `labels`: one per output."""
        self.labels = tuple(labels)
        self.description, self.facts = runner.description, runner.facts
        self.temperature = spec.temperature
        self.int8 = runner.int8
        self.self_check: SelfCheck | None = None
        self._runner, self._spec = runner, spec

    def prepare(self, clips: Sequence[NDArray[np.uint8]]) -> Clips:
        """Take B clips of (T, H, W, C) uint8; afterwards their memory may be overwritten."""
        return np.stack(clips)

    def logits(self, batch: Clips) -> NDArray[np.float32]:
        """Run a prepared batch; return (B, num_classes) float32."""
        return self._runner(batch)

    def warm_up(self, batch_sizes: Sequence[int]) -> None:
        """Run each batch size once, so that the first real window is not the slow one."""
        for count in batch_sizes:
            self.logits(np.zeros((count, *clip_shape(self._spec)), np.uint8))


def clip_shape(spec: ModelSpec) -> tuple[int, int, int, int]:
    """Return (T, H, W, C) of a clip."""
    size = spec.preprocessing.crop_size
    return spec.preprocessing.clip_len, size, size, spec.in_channels


def check_signature(inputs: Sequence[object], outputs: Sequence[object], spec: ModelSpec, name: str) -> None:
    """Check that a graph takes and gives what its spec says.

    Args:
        inputs: The shape of its one input, without the batch; whatever the library says.
        outputs: The same of its one output.
        spec: What the file says of itself.
        name: The file's.

    Raises:
        CheckpointError: It does not.
    """
    wanted, given = (clip_shape(spec), (spec.num_classes,)), (tuple(inputs), tuple(outputs))
    if given != wanted:
        raise CheckpointError(
            f"checkpoint {name!r} says that it turns {wanted[0]} into {wanted[1]} numbers, but its graph turns "
            f"{given[0]} into {given[1]}: export it again"
        )
