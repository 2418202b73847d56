"""Engines under a test's control, in place of a network."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from stream_i3d.messages import EngineFacts
from tests.samples import number_of

LABELS = ("wave", "clap", "jump")

FACTS = EngineFacts(backend="torch", device="cpu", precision="fp32")


class FakeEngine:
    """Remembers every batch; says the label that `choose` gives (by default: that of the newest frame's number).

    With `gated`, each batch waits in `logits` until the test calls `release`.
    """

    def __init__(self, gated: bool = False, choose: Callable[[NDArray[np.uint8]], int] | None = None) -> None:
        self.labels = LABELS
        self.description, self.facts = "a fake", FACTS
        self.temperature = 1.0
        self.batches: list[list[NDArray[np.uint8]]] = []
        self.warmed: list[int] = []
        self.while_preparing: Callable[[], None] = lambda: None
        self.while_running: Callable[[], None] = lambda: None
        self._choose = choose or (lambda clip: number_of(clip[-1]) % len(self.labels))
        self._begun: queue.Queue[list[NDArray[np.uint8]]] = queue.Queue()
        self._gate = threading.Semaphore(0) if gated else None

    def prepare(self, clips: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        batch = [clip.copy() for clip in clips]
        self.while_preparing()
        return batch

    def logits(self, batch: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        self.batches.append(batch)
        self._begun.put(batch)
        if self._gate is not None:
            assert self._gate.acquire(timeout=30), "the test never released this batch"
        self.while_running()
        logits = np.zeros((len(batch), len(self.labels)), np.float32)
        for row, clip in zip(logits, batch, strict=True):
            row[self._choose(clip)] = 5.0
        return logits

    def warm_up(self, batch_sizes: Sequence[int]) -> None:
        self.warmed = list(batch_sizes)

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
        self.temperature = 1.0
        self.fed: list[tuple[int, ...]] = []
        self.batches: list[int] = []
        self.warmed: list[int] = []
        self.while_preparing: Callable[[], None] = lambda: None
        self.while_running: Callable[[], None] = lambda: None
        self._choose = choose or (lambda numbers: numbers[-1] % len(self.labels))

    def prepare(self, chunks: Sequence[NDArray[np.uint8]]) -> list[tuple[int, ...]]:
        assert all(chunk.shape[0] == 8 for chunk in chunks)
        batch = [tuple(number_of(picture) for picture in chunk) for chunk in chunks]
        self.while_preparing()
        return batch

    def step(
        self, batch: list[tuple[int, ...]], states: Sequence[tuple[int, ...] | None]
    ) -> tuple[NDArray[np.float32], list[tuple[int, ...]]]:
        after = [(state or ()) + chunk for state, chunk in zip(states, batch, strict=True)]
        self.fed += after
        self.batches.append(len(batch))
        self.while_running()
        logits = np.zeros((len(batch), len(self.labels)), np.float32)
        for row, numbers in zip(logits, after, strict=True):
            row[self._choose(numbers)] = 5.0
        return logits, after

    def warm_up(self, batch_sizes: Sequence[int]) -> None:
        self.warmed = list(batch_sizes)
