"""Runs a network that is carried along streams: uint8 chunks and each camera's state in, float32 logits and states out.

`StreamEngine` is to streaming mode what `engine.Engine` is to windows. Autocast stays in engine.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.config import Precision
from stream_i3d.inference.engine import MixedPrecision, choose_device, choose_precision, set_threads
from stream_i3d.inference.setup import ModelSetup, check_carried, label_names
from stream_i3d.messages import EngineFacts
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.i3d import I3D
from stream_i3d.models.spec import ModelSpec
from stream_i3d.models.streaming_i3d import StreamingI3D, StreamState, stack
from stream_i3d.models.streaming_plan import STEP_FRAMES

if TYPE_CHECKING:
    from stream_i3d.inference.selfcheck.checked import SelfCheck


class StreamEngine(Protocol):
    """What carries a network along the streams of several cameras. One thread uses it.

    A camera's state is whatever `step` returned for it last; it is opaque, and goes into one further step only, which
    may change it.
    """

    labels: tuple[str, ...]
    """One per output of the network."""

    description: str
    """What it is and where it runs, for people."""

    facts: EngineFacts
    """The same as fields."""

    temperature: float
    """What logits are divided by before the softmax, so that probabilities mean what they say."""

    def prepare(self, chunks: Sequence[NDArray[np.uint8]]) -> Any:
        """Take B chunks of (8, H, W, 3) uint8, as `Chunk.frames`; afterwards their memory may be overwritten."""

    def step(self, batch: Any, states: Sequence[Any]) -> tuple[NDArray[np.float32], list[Any]]:
        """Feed each camera its prepared chunk.

        Args:
            batch: What `prepare` returned.
            states: Of the B cameras, in the order of their chunks; None where a camera's stream begins.

        Returns:
            (B, num_classes) float32 logits, which mean something from a stream's chunk `WARM_UP_STEPS` on; and the B
            states after it.
        """

    def warm_up(self, batch_sizes: Sequence[int]) -> None:
        """Run each batch size once, so that the first real chunk is not the slow one."""


class TorchStreamEngine:
    """Eager PyTorch with mixed precision."""

    def __init__(
        self,
        model: I3D,
        spec: ModelSpec,
        labels: Sequence[str],
        device: torch.device,
        precision: Precision,
    ) -> None:
        """Args: as `TorchEngine`."""
        self.labels = tuple(labels)
        self.temperature = spec.temperature
        self.self_check: SelfCheck | None = None
        self._preprocessing = spec.preprocessing
        self._network = MixedPrecision(model, device, precision)
        self._streaming = StreamingI3D(cast(I3D, self._network.model))  # in the form in which it runs
        self._blank: StreamState | None = None
        self.description, self.facts = f"{self._network.description}, streaming", self._network.facts

    def prepare(self, chunks: Sequence[NDArray[np.uint8]]) -> torch.Tensor:  # noqa: D102 (the protocol says it)
        stacked = chunks[0][None] if len(chunks) == 1 else np.stack(chunks)
        return self._network.inputs(torch.from_numpy(stacked), self._preprocessing)

    def step(  # noqa: D102
        self, batch: torch.Tensor, states: Sequence[StreamState | None]
    ) -> tuple[NDArray[np.float32], list[StreamState]]:
        logits, after = self._run(batch, stack([state or self._fresh() for state in states]))
        return logits, after.split()

    def warm_up(self, batch_sizes: Sequence[int]) -> None:  # noqa: D102
        size = self._preprocessing.crop_size
        chunk = np.zeros((STEP_FRAMES, size, size, 3), np.uint8)
        for count in batch_sizes:
            self.step(self.prepare([chunk] * count), [None] * count)

    def _fresh(self) -> StreamState:
        """Return the state of a camera before its first frame; its sizes and types are found by one step."""
        if self._blank is None:
            size = self._preprocessing.crop_size
            still = self.prepare([np.zeros((STEP_FRAMES, size, size, 3), np.uint8)])
            self._blank = self._run(still, None)[1].blank()
        return self._blank

    def _run(self, batch: torch.Tensor, state: StreamState | None) -> tuple[NDArray[np.float32], StreamState]:
        after: list[StreamState] = []

        def last_logits(frames: torch.Tensor) -> torch.Tensor:
            emitted, new = self._streaming(frames, state)
            after.append(new)
            logits: torch.Tensor = emitted.logits[:, :, -1]
            return logits

        return self._network.run(last_logits, batch), after[0]


def load_stream_engine(setup: ModelSetup) -> TorchStreamEngine:
    """Load the weights of an Inception I3D and put them on the device, to be carried along streams.

    Raises:
        CheckpointError, LabelsError, DeviceError, ConfigError: What was asked for is not to be had.
    """
    device = choose_device(setup.config.device)
    precision = choose_precision(setup.config.precision, device)
    set_threads(setup.config.threads)
    model, spec = load_checkpoint(setup.path, setup.spec, setup.config.name)
    check_carried(spec, setup.preprocessing, setup.model_name.checkpoint)  # other programs' files tell only now
    assert isinstance(model, I3D)
    spec = structs.replace(spec, preprocessing=setup.preprocessing)
    return TorchStreamEngine(model, spec, label_names(setup.labels, spec), device, precision)
