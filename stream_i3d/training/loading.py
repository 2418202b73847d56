"""Which samples make a step, and the workers that prepare them.

The order of an epoch depends on the seed and the epoch alone, and a sample on its key alone. So a run that is taken
up at a step sees what an unbroken one would have seen, and so does a run on another number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from msgspec import Struct
from torch.utils.data import DataLoader

from stream_i3d.capture.decoder_logging import silence_ffmpeg
from stream_i3d.errors import ConfigError
from stream_i3d.training.config import DataConfig
from stream_i3d.training.sample import Batch, ClipDataset, Sample, SampleKey


class Division(Struct, frozen=True, kw_only=True):
    """How a step's batch is shared out.

    Attributes:
        batch_size: Samples of a step, over all processes and parts.
        accumulate: Parts that a process takes one after another.
        processes: How many there are.
        rank: Which of them this is.
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
    """The keys of a run's parts from `first_step` on: what DataLoader calls a batch sampler.

    An epoch's items come in an order of their own; those that fill no whole batch wait for another epoch. A set
    smaller than a batch is repeated to fill it.

    Args:
        items: Items of the dataset.
        division: How a batch is shared out.
        seed: Of the order.
        first_step: Where to begin.
        steps: Where to end.
    """

    def __init__(self, items: int, division: Division, seed: int, first_step: int, steps: int) -> None:
        self._items, self._division, self._seed = items, division, seed
        self._first, self._steps = first_step, steps
        self._part = division.part_size
        self.steps_per_epoch = steps_per_epoch(items, division.batch_size)

    def __len__(self) -> int:
        """Parts that are left for this process."""
        return (self._steps - self._first) * self._division.accumulate

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Yield each part's keys."""
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
        """Return (items or batch_size,) int64: the items in the order in which the epoch shows them."""
        order = np.random.default_rng([self._seed, epoch]).permutation(self._items)
        return np.resize(order, max(self._items, self._division.batch_size))


def steps_per_epoch(items: int, batch_size: int) -> int:
    """Return how many whole batches an epoch has; at least one."""
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
    """Return a loader of batches, prepared by `config.workers` processes ahead of time.

    Args:
        dataset: Sent to the workers.
        keys: A batch sampler: iterable of lists of `SampleKey`.
        config: Workers and prefetch.
        device: For a GPU, batches are put into pinned memory, from which they are copied while it computes.
    """
    # A worker's queue is filled in steps of whole batches. spawn: a forked OpenCV or OpenMP may hang.
    more = {"prefetch_factor": config.prefetch, "multiprocessing_context": "spawn"} if config.workers else {}
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # DataLoader asks for torch's Dataset class; the protocol is enough
        batch_sampler=keys,  # type: ignore[arg-type]
        num_workers=config.workers,
        collate_fn=collate,
        worker_init_fn=quiet_worker if config.workers else None,
        pin_memory=device.type == "cuda",
        **more,  # type: ignore[arg-type]
    )


def quiet_worker(_: int) -> None:
    """Keep a worker to one thread: there is one for each core already. Keeps FFmpeg's words from between ours."""
    silence_ffmpeg()
    import cv2

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)


def fixed_parts(items: int, part_size: int, processes: int, rank: int) -> list[list[SampleKey]]:
    """Return the keys of one pass over a set in order, a process's share: equal for all, the last items repeated."""
    share = -(-items // processes)
    own = [min(rank + place * processes, items - 1) for place in range(share)]
    return [[SampleKey(0, item) for item in own[start : start + part_size]] for start in range(0, share, part_size)]
