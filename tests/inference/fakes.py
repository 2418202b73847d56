"""Engines under a test's control, in place of a network."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_i3d.inference.engine import LoadedModel
from stream_i3d.inference.ring import HostMemory, RingShape
from stream_i3d.messages import EngineFacts
from stream_i3d.recognition.head import Features, PublishedHead, make_head
from tests.samples import number_of

LABELS = ("wave", "clap", "jump")

FACTS = EngineFacts(backend="torch", device="cpu", precision="fp32")

Floats = NDArray[np.float32]


def as_features(logits: Floats, stream: str = "rgb") -> Features:
    """(B, labels) logits as maps of one place, on which `plain_head` gives them back."""
    return {stream: logits[:, None, None]}


def plain_head(labels: Sequence[str] = LABELS, temperature: float = 1.0) -> PublishedHead:
    """A head whose logits are the features."""
    count = len(labels)
    head = make_head(np.eye(count, dtype=np.float32), np.zeros(count, np.float32), labels, temperature)
    return PublishedHead({"rgb": head})


class FakeEngine:
    """Remembers every batch; says the label that `choose` gives (by default: that of the newest frame's number).

    With `gated`, each batch waits in `logits` until the test calls `release`. Batches of black clips warm it up.
    """

    def __init__(self, gated: bool = False, choose: Callable[[NDArray[np.uint8]], int] | None = None) -> None:
        self.labels = LABELS
        self.description, self.facts = "a fake", FACTS
        self.clip_shape = (8, 32, 32, 3)
        self.temperature = 1.0
        self.batches: list[list[NDArray[np.uint8]]] = []
        self.warmed: list[int] = []
        self.while_preparing: Callable[[], None] = lambda: None
        self.while_running: Callable[[], None] = lambda: None
        self._choose = choose or (lambda clip: number_of(clip[-1]) % len(self.labels))
        self._begun: queue.Queue[list[NDArray[np.uint8]]] = queue.Queue()
        self._gate = threading.Semaphore(0) if gated else None

    @property
    def model(self) -> LoadedModel:
        """The engine with a head that gives its logits."""
        return LoadedModel(self, plain_head(self.labels, self.temperature))

    def make_ring(self, shape: RingShape) -> HostMemory:
        return HostMemory(shape)

    def prepare(
        self, clips: Sequence[NDArray[np.uint8]], device_frames: Sequence[object] = ()
    ) -> list[NDArray[np.uint8]]:
        batch = [clip.copy() for clip in clips]
        if not _black(batch):
            self.while_preparing()
        return batch

    def run(self, batch: list[NDArray[np.uint8]], states: Sequence[object]) -> tuple[Features, list[Any]]:
        if _black(batch):
            self.warmed.append(len(batch))
            return as_features(np.zeros((len(batch), len(self.labels)), np.float32)), [None] * len(batch)
        return as_features(self.logits(batch)), [None] * len(batch)

    def logits(self, batch: list[NDArray[np.uint8]]) -> Floats:
        self.batches.append(batch)
        self._begun.put(batch)
        if self._gate is not None:
            assert self._gate.acquire(timeout=30), "the test never released this batch"
        self.while_running()
        logits = np.zeros((len(batch), len(self.labels)), np.float32)
        for row, clip in zip(logits, batch, strict=True):
            row[self._choose(clip)] = 5.0
        return logits

    def begun(self) -> list[int]:
        """Wait for the next batch to begin; return the number of each clip's newest frame."""
        return [number_of(clip[-1]) for clip in self._begun.get(timeout=30)]

    def release(self, batches: int = 1) -> None:
        """Let batches that wait, or will, go on."""
        assert self._gate is not None
        self._gate.release(batches)

    @property
    def newest(self) -> list[int]:
        """The number of the newest frame of every clip so far."""
        return [number_of(clip[-1]) for batch in self.batches for clip in batch]


class FakeStreamEngine:
    """Its state of a camera is the numbers of the frames it was fed; says the label of the newest frame's number.

    `fed` has, of every chunk, the numbers of all frames that the network has seen of this stream.
    """

    def __init__(self, choose: Callable[[Sequence[int]], int] | None = None) -> None:
        self.labels = LABELS
        self.description, self.facts = "a fake that streams", FACTS
        self.clip_shape = (8, 32, 32, 3)
        self.temperature = 1.0
        self.fed: list[tuple[int, ...]] = []
        self.batches: list[int] = []
        self.warmed: list[int] = []
        self.while_preparing: Callable[[], None] = lambda: None
        self.while_running: Callable[[], None] = lambda: None
        self._choose = choose or (lambda numbers: numbers[-1] % len(self.labels))

    @property
    def model(self) -> LoadedModel:
        """The engine with a head that gives its logits."""
        return LoadedModel(self, plain_head(self.labels, self.temperature))

    def make_ring(self, shape: RingShape) -> HostMemory:
        return HostMemory(shape)

    def prepare(
        self, clips: Sequence[NDArray[np.uint8]], device_frames: Sequence[object] = ()
    ) -> list[tuple[int, ...]]:
        assert all(clip.shape[0] == 8 for clip in clips)
        batch = [tuple(number_of(picture) for picture in clip) for clip in clips]
        if any(map(any, batch)):
            self.while_preparing()
        return batch

    def run(self, batch: list[tuple[int, ...]], states: Sequence[tuple[int, ...] | None]) -> tuple[Features, list[Any]]:
        if not any(map(any, batch)):
            self.warmed.append(len(batch))
            return as_features(np.zeros((len(batch), len(self.labels)), np.float32)), list(batch)
        logits, after = self.step(batch, states)
        return as_features(logits), after

    def step(
        self, batch: list[tuple[int, ...]], states: Sequence[tuple[int, ...] | None]
    ) -> tuple[Floats, list[tuple[int, ...]]]:
        after = [(state or ()) + chunk for state, chunk in zip(states, batch, strict=True)]
        self.fed += after
        self.batches.append(len(batch))
        self.while_running()
        logits = np.zeros((len(batch), len(self.labels)), np.float32)
        for row, numbers in zip(logits, after, strict=True):
            row[self._choose(numbers)] = 5.0
        return logits, after


def _black(batch: Sequence[NDArray[np.uint8]]) -> bool:
    return not any(clip.any() for clip in batch)
