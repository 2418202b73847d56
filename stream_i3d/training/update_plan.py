"""Batch, accumulation, warm-up and label smoothing by the size of the training set, where they are "auto". Pure.

Forty clips in batches of 16 are two updates an epoch: after 30 epochs a new head has moved 60 times, and is still
unsure of everything. The plan keeps at least `MIN_UPDATES` updates an epoch as long as batches stay useful.
"""

from __future__ import annotations

from msgspec import Struct, structs

from stream_i3d.errors import ConfigError
from stream_i3d.training.config import TrainConfig

MIN_UPDATES = 5
"""Updates an epoch that a batch must leave."""

MAX_BATCH, MIN_BATCH = 16, 4
"""Clips behind one update."""

MAX_PART = 8
"""Clips that go through the network at once, in one process."""

WARMUP_SHARE, MAX_WARMUP_UPDATES = 0.1, 500
"""The warm-up is at most an epoch, this share of the run, and so many updates."""

SMOOTHING, MIN_SMOOTHED_CLIPS = 0.1, 500
"""Label smoothing keeps a network from being too sure; one that saw few clips is not sure enough."""


class UpdatePlan(Struct, frozen=True, kw_only=True):
    """What "auto" settings came to.

    Attributes:
        batch_size: Clips behind one update, over all processes.
        accumulate: Parts that a process takes one after another.
        warmup: In epochs.
        label_smoothing: In [0, 1).
        per_epoch: Updates an epoch.
        updates: Of the whole run.
    """

    batch_size: int
    accumulate: int
    warmup: float
    label_smoothing: float
    per_epoch: int
    updates: int

    def __str__(self) -> str:
        """Return the plan as a part of a line, for people."""
        parts = f" in {self.accumulate} parts" if self.accumulate > 1 else ""
        each = "update" if self.per_epoch == 1 else "updates"
        return (
            f"batch {self.batch_size}{parts}, {self.per_epoch} {each} an epoch, {self.updates} in all, "
            f"{self.warmup * self.per_epoch:.0f} of them to warm up, label smoothing {self.label_smoothing:g}"
        )


def plan_updates(config: TrainConfig, clips: int, processes: int = 1) -> UpdatePlan:
    """Settle what is "auto" in a training's settings; what the user gave stays.

    Args:
        config: The settings.
        clips: Items of the training set.
        processes: That train together.

    Raises:
        ConfigError: A given batch cannot be divided as given.
    """
    run = config.run
    parts = processes * (1 if run.accumulate == "auto" else run.accumulate)
    if run.batch_size == "auto":
        most = MAX_BATCH if run.accumulate == "auto" else min(MAX_BATCH, MAX_PART * parts)
        batch = _batch(clips, parts, most)
    else:
        batch = run.batch_size
    accumulate = _parts(batch, processes) if run.accumulate == "auto" else run.accumulate
    per_epoch = max(1, clips // batch)
    warmup, smoothing = config.schedule.warmup, config.loss.label_smoothing
    return UpdatePlan(
        batch_size=batch,
        accumulate=accumulate,
        warmup=min(1.0, WARMUP_SHARE * run.epochs, MAX_WARMUP_UPDATES / per_epoch) if warmup == "auto" else warmup,
        label_smoothing=(SMOOTHING if clips >= MIN_SMOOTHED_CLIPS else 0.0) if smoothing == "auto" else smoothing,
        per_epoch=per_epoch,
        updates=max(1, round(run.epochs * per_epoch)),
    )


def with_plan(config: TrainConfig, plan: UpdatePlan) -> TrainConfig:
    """Return the settings with the plan's numbers in place of "auto"."""
    return structs.replace(
        config,
        run=structs.replace(config.run, batch_size=plan.batch_size, accumulate=plan.accumulate),
        schedule=structs.replace(config.schedule, warmup=plan.warmup),
        loss=structs.replace(config.loss, label_smoothing=plan.label_smoothing),
    )


def _batch(clips: int, parts: int, most: int) -> int:
    """Return the largest batch, halving from `most`, that leaves enough updates; a multiple of `parts`."""
    size = most
    while size > MIN_BATCH and clips // size < MIN_UPDATES:
        size //= 2
    return max(parts, size - size % parts)


def _parts(batch: int, processes: int) -> int:
    """Return the fewest equal parts of at most `MAX_PART` clips; one where the batch cannot be shared evenly."""
    if batch % processes:
        raise ConfigError(
            f"run.batch_size {batch} cannot be shared by {processes} processes; give a multiple of {processes}"
        )
    share = batch // processes
    return next(parts for parts in range(1, share + 1) if share % parts == 0 and share // parts <= MAX_PART)
