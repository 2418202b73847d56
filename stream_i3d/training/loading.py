"""Samples, the order in which a training uses them, and the DataLoader that prepares them.

The order of an epoch depends only on the seed and the epoch, and a sample only on its key. A resumed run therefore
sees the same samples as an uninterrupted one, and so does a run on another number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol, TypedDict

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor
from torch.utils.data import DataLoader

from stream_i3d.capture.ffmpeg_options import silence_ffmpeg
from stream_i3d.errors import ConfigError
from stream_i3d.training.config import DataConfig


class SampleKey(NamedTuple):
    """Identifies a sample: the same key gives the same clip, crop and jitter in every process."""

    epoch: int
    index: int  # type: ignore[assignment]  # replaces tuple.index, which a key does not need


class Sample(TypedDict):
    """One sample of a dataset.

    Attributes:
        clips: By stream ("rgb", "flow"), in the order in which the network takes them: (N, T, H, W, C) uint8, N clips
            or crops of one video; RGB, or optical flow codes.
        label: The class.
        index: Index of the item in its dataset.
    """

    clips: dict[str, Tensor]
    label: int
    index: int


class Batch(TypedDict):
    """A batch of B samples.

    Attributes:
        clips: By stream: (B, N, T, H, W, C) uint8.
        label: (B,) int64.
        index: (B,) int64.
    """

    clips: dict[str, Tensor]
    label: Tensor
    index: Tensor


class ClipDataset(Protocol):
    """A map-style dataset of clips for torch.utils.data.DataLoader."""

    labels: tuple[str, ...]
    """The classes, in the order of the network's outputs."""

    targets: tuple[int, ...]
    """The class of each item."""

    def __len__(self) -> int:
        """Return the number of items in an epoch."""
        ...

    def __getitem__(self, key: SampleKey) -> Sample:
        """Return the sample of a key."""
        ...


class Division(Struct, frozen=True, kw_only=True):
    """How the batch of a step is divided.

    Attributes:
        batch_size: Samples of a step, over all processes and parts.
        accumulate: Parts that a process runs one after another.
        processes: Number of processes.
        rank: Index of this process.
    """

    batch_size: int
    accumulate: int = 1
    processes: int = 1
    rank: int = 0

    @property
    def part_size(self) -> int:
        """Samples that go through the network at once.

        Raises:
            ConfigError: The batch cannot be divided evenly.
        """
        parts = self.accumulate * self.processes
        if self.batch_size % parts:
            raise ConfigError(
                f"run.batch_size {self.batch_size} cannot be shared by {self.processes} processes in "
                f"{self.accumulate} parts each; give a multiple of {parts}"
            )
        return self.batch_size // parts


class StepSampler:
    """A batch sampler: yields the keys of this process's parts from `first_step` on.

    Each epoch has its own order; items that do not fill a whole batch are left out of that epoch. A set smaller than a
    batch is repeated to fill it.

    Args:
        items: Number of items of the dataset.
        division: How a batch is divided.
        seed: Seed of the order.
        first_step: First step.
        steps: Total steps of the run.
    """

    def __init__(self, items: int, division: Division, seed: int, first_step: int, steps: int) -> None:
        self._items, self._division, self._seed = items, division, seed
        self._first, self._steps = first_step, steps
        self._part = division.part_size
        self.steps_per_epoch = steps_per_epoch(items, division.batch_size)

    def __len__(self) -> int:
        """Return the number of parts left for this process."""
        return (self._steps - self._first) * self._division.accumulate

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Yield the keys of each part."""
        size, processes = self._division.batch_size, self._division.processes
        order, ordered = np.empty(0, np.int64), -1
        for step in range(self._first, self._steps):
            epoch, place = divmod(step, self.steps_per_epoch)
            if epoch != ordered:
                order, ordered = self.order(epoch), epoch
            batch = order[place * size : (place + 1) * size]
            for part in range(self._division.accumulate):
                start = (part * processes + self._division.rank) * self._part
                yield [SampleKey(epoch, int(item)) for item in batch[start : start + self._part]]

    def order(self, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return the order of an epoch: (max(items, batch_size),) int64 item indices."""
        order = np.random.default_rng([self._seed, epoch]).permutation(self._items)
        return np.resize(order, max(self._items, self._division.batch_size))


def steps_per_epoch(items: int, batch_size: int) -> int:
    """Return the number of whole batches in an epoch, at least one."""
    return max(1, items // batch_size)


def collate(samples: list[Sample]) -> Batch:
    """Stack samples: clips become (B, N, T, H, W, C), label and index (B,) int64."""
    streams = samples[0]["clips"]
    return {
        "clips": {stream: torch.stack([sample["clips"][stream] for sample in samples]) for stream in streams},
        "label": torch.tensor([sample["label"] for sample in samples]),
        "index": torch.tensor([sample["index"] for sample in samples]),
    }


def make_loader(dataset: ClipDataset, keys: object, config: DataConfig, device: torch.device) -> DataLoader[Batch]:
    """Return a DataLoader whose batches are prepared ahead by `config.workers` processes.

    Args:
        dataset: The dataset; it is pickled for the workers.
        keys: A batch sampler: iterable of lists of `SampleKey`.
        config: Number of workers and prefetched batches.
        device: For a GPU, batches are put into pinned memory, so that copying overlaps with computing.
    """
    # "spawn", because a forked OpenCV or OpenMP may hang.
    more = {"prefetch_factor": config.prefetch, "multiprocessing_context": "spawn"} if config.workers else {}
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # DataLoader is typed for torch's Dataset class
        batch_sampler=keys,  # type: ignore[arg-type]
        num_workers=config.workers,
        collate_fn=collate,
        worker_init_fn=quiet_worker if config.workers else None,
        pin_memory=device.type == "cuda",
        **more,  # type: ignore[arg-type]
    )


def quiet_worker(_: int) -> None:
    """Limit a worker process to one thread, because there are several workers, and silence FFmpeg's log."""
    silence_ffmpeg()
    import cv2

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)


def fixed_parts(items: int, part_size: int, processes: int, rank: int) -> list[list[SampleKey]]:
    """Return a process's keys for one ordered pass over a set; all shares are equal, the last item is repeated."""
    share = -(-items // processes)
    own = [min(rank + place * processes, items - 1) for place in range(share)]
    return [[SampleKey(0, item) for item in own[start : start + part_size]] for start in range(0, share, part_size)]
