"""The contract of what runs a network, whatever library, mode or device it is.

An engine is a backbone: frames, and what is carried of their streams, go in; feature maps averaged over time come out.
Window mode is the case in which nothing is carried. A head (`recognition.head`) turns features into scores. PyTorch's
engines stand in torch_engine.py and cuda_engine.py, those of other libraries in graphs/; backends.py chooses.

Imports no library that runs networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stream_i3d.inference.ring import RingMemory, RingShape
from stream_i3d.messages import EngineFacts
from stream_i3d.recognition.head import Features, PublishedHead
from stream_i3d.stage import EngineCheck

Frames = NDArray[np.uint8]
"""One clip, (T, H, W, C)."""

Batch = Any
"""Clips as an engine's `prepare` returns them."""

State = Any
"""What an engine's `run` returns to be carried along one camera's stream; None begins anew, or nothing is carried."""

ClipShape = tuple[int, int, int, int]
"""(T, H, W, C) of a clip."""


class Engine(Protocol):
    """A network without its head, ready to run. One thread uses it."""

    description: str
    """What it is and where it runs, for people."""

    facts: EngineFacts
    """Backend, device and precision, as fields."""

    clip_shape: ClipShape
    """Of the clips that it is warmed up with. In the view `whole` it takes frames of other sizes as well."""

    def make_ring(self, shape: RingShape) -> RingMemory:
        """Return memory for a camera's ring, on the engine's own device where that saves copies."""

    def prepare(self, clips: Sequence[Frames], device_frames: Sequence[object] = ()) -> Batch:
        """Take B clips; afterwards their memory may be overwritten.

        Args:
            clips: Each (T, H, W, C) uint8, all of one shape.
            device_frames: Where the same frames are in memory of `make_ring`, one for each clip; empty if they are not
                all there.
        """

    def run(self, batch: Batch, states: Sequence[State]) -> tuple[Features, list[State]]:
        """Run a prepared batch.

        Args:
            batch: What `prepare` returned; the next batch may overwrite it.
            states: Of the B cameras, as `run` returned them with each camera's last clip, which had frames of the same
                size; None where a stream begins. A state goes into one further run only, which may change it.

        Returns:
            Feature maps by input stream, (B, h, w, C) float32; and the B states after it.
        """


class Check(Protocol):
    """How a loaded model compares with float32; see `selfcheck.checked.SelfCheck`."""

    facts: EngineCheck

    def difference(self, batch_size: int = 1) -> object:
        """Return how far batches of this size are from float32, to be shown; the engine is warm at it afterwards."""

    def passes(self, batch_size: int = 1) -> bool:
        """Return whether batches of this size may be used."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A network that is ready to recognise: its engine, and the head whose predictions are published.

    Attributes:
        engine: The network without its last layer.
        head: Its last layer, labels and temperature.
        check: How the two were compared with float32; None if they were not.
    """

    engine: Engine
    head: PublishedHead
    check: Check | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """One per class."""
        return self.head.labels


def warm_up(engine: Engine, batch_sizes: Sequence[int]) -> None:
    """Run batches of these sizes once, so that the first real window is not the slow one."""
    blank = np.zeros(engine.clip_shape, np.uint8)
    for count in batch_sizes:
        engine.run(engine.prepare([blank] * count), [None] * count)
