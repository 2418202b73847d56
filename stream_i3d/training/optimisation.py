"""Optimiser, learning-rate schedule, loss and moving average, and the values of settings that are "auto".

The learning rate is a function of the step, so it need not be saved. "auto" settings depend on the size of the
training set (`plan_updates`): 40 clips in batches of 16 give two updates an epoch, so after 30 epochs a new head has
been updated only 60 times and is unsure of every class. The plan keeps at least `MIN_UPDATES` updates an epoch while
the batch is large enough to be useful.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from msgspec import Struct, structs
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from stream_i3d.errors import ConfigError, did_you_mean
from stream_i3d.training.config import LossConfig, OptimizerConfig, ScheduleConfig, TrainConfig, settled


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return an optimiser of the trainable parameters; each group has a "factor" on the learning rate.

    Raises:
        ConfigError: No parameter is trainable, or a prefix in `lr_factors` matches no parameter.
    """
    groups = _groups(model, config)
    if not groups:
        raise ConfigError("nothing of the network learns: choose another model.regime, or lr_factors above 0")
    if config.name == "sgd":
        return torch.optim.SGD(
            groups,
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.nesterov and config.momentum > 0,
            weight_decay=config.weight_decay,
        )
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=config.lr, weight_decay=config.weight_decay)


def _groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, object]]:
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for prefix in config.lr_factors:
        if not any(name.startswith(prefix) for name, _ in model.named_parameters()):
            parts = {name.split(".")[0] for name, _ in model.named_parameters()}
            raise ConfigError(
                f"optimizer.lr_factors: no parameter's name begins with {prefix!r}{did_you_mean(prefix, parts)}; "
                f"the network's parts are {', '.join(sorted(parts))}"
            )
    factors = {name: rate_factor(name, config.lr_factors) for name in names}
    parameters = dict(model.named_parameters())
    return [
        {"params": [parameters[name] for name in names if factors[name] == factor], "factor": factor}
        for factor in sorted(set(factors.values()))
        if factor > 0
    ]


def rate_factor(name: str, factors: dict[str, float]) -> float:
    """Return the factor on a parameter's learning rate: that of its longest prefix in `factors`, else 1."""
    longest = max((prefix for prefix in factors if name.startswith(prefix)), key=len, default=None)
    return 1.0 if longest is None else factors[longest]


def rate_at(config: ScheduleConfig, epoch: float, epochs: float) -> float:
    """Return the learning rate as a share of its peak, in [0, 1].

    Args:
        config: The schedule; milestones and warm-up in epochs.
        epoch: Epochs done, may be fractional.
        epochs: Epochs of the whole run.
    """
    warmup = settled(config.warmup)
    if epoch < warmup:
        return config.warmup_start + (1 - config.warmup_start) * epoch / warmup
    if config.name == "step":
        return config.gamma ** sum(epoch >= milestone for milestone in config.milestones)
    done = min(1.0, (epoch - warmup) / max(epochs - warmup, 1e-9))
    if config.name == "linear":
        return 1.0 - done
    return 0.5 * (1 + math.cos(math.pi * done)) if config.name == "cosine" else 1.0


def set_rate(optimizer: torch.optim.Optimizer, config: OptimizerConfig, share: float) -> float:
    """Set the learning rate of every group for the next step; return that of parameters with factor 1."""
    for group in optimizer.param_groups:
        group["lr"] = config.lr * share * group["factor"]
    return config.lr * share


class ClipLoss:
    """Cross-entropy with label smoothing and class weights, averaged over a batch.

    Class weights are scaled to a mean of 1 over the training set, and the sum is divided by the number of samples. The
    loss of a batch is therefore the mean of the losses of its equal parts.

    Args:
        config: Smoothing and weights.
        labels: The classes.
        targets: The class of each training item, for `balanced`.

    Raises:
        ConfigError: A weight names an unknown class, or all weights are zero.
    """

    def __init__(self, config: LossConfig, labels: Sequence[str], targets: Sequence[int]) -> None:
        self._smoothing = settled(config.label_smoothing)
        self.weights = _class_weights(config, labels, targets)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(B, num_classes) float logits, (B,) int64 -> scalar float32."""
        losses = functional.cross_entropy(
            logits.float(), targets, reduction="none", label_smoothing=self._smoothing
        )  # (B,)
        if self.weights is not None:
            losses = losses * self.weights.to(losses.device)[targets]
        return losses.mean()


def _class_weights(config: LossConfig, labels: Sequence[str], targets: Sequence[int]) -> Tensor | None:
    if config.class_weights is None:
        return None
    counts = Counter(targets)
    if config.class_weights == "balanced":
        weights = [
            len(targets) / (len(labels) * counts[index]) if counts[index] else 0.0 for index in range(len(labels))
        ]
    else:
        for label in config.class_weights:
            if label not in labels:
                raise ConfigError(
                    f"loss.class_weights: no class {label!r}{did_you_mean(label, labels)}; "
                    f"the classes are {', '.join(labels[:20])}"
                )
        weights = [config.class_weights.get(label, 1.0) for label in labels]
    mean = sum(weights[target] for target in targets) / max(len(targets), 1)
    if mean <= 0:
        raise ConfigError("loss.class_weights: every class that has videos weighs 0; give one of them more")
    return torch.tensor([weight / mean for weight in weights], dtype=torch.float32)


def make_average(model: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential moving average of a network's weights and statistics, initialised with a copy.

    The decay rises from 0.1 to `decay` as (1 + n) / (10 + n), as in TensorFlow's ExponentialMovingAverage, so that the
    first weights do not dominate the average of a short run.
    """

    def blend(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        steps = int(count)
        kept = min(decay, (1 + steps) / (10 + steps))
        if not averaged.is_floating_point():
            return current
        return averaged.lerp(current, 1 - kept)

    return AveragedModel(model, avg_fn=blend, use_buffers=True)


MIN_UPDATES = 5
"""Least updates an epoch; the automatic batch size is reduced to reach it."""

MAX_BATCH, MIN_BATCH = 16, 4
"""Limits of the automatic batch size, in clips per update."""

MAX_PART = 8
"""Most clips that go through the network at once, in one process."""

WARMUP_SHARE, MAX_WARMUP_UPDATES = 0.1, 500
"""Limits of the automatic warm-up, which is also at most one epoch."""

SMOOTHING, MIN_SMOOTHED_CLIPS = 0.1, 500
"""Automatic label smoothing. It makes a network less confident, so it is not used for small sets."""


class UpdatePlan(Struct, frozen=True, kw_only=True):
    """The numbers that replace "auto" settings.

    Attributes:
        batch_size: Clips per update, over all processes.
        accumulate: Parts that a process runs one after another.
        warmup: Warm-up in epochs.
        label_smoothing: Label smoothing in [0, 1).
        per_epoch: Updates per epoch.
        updates: Updates of the whole run.
    """

    batch_size: int
    accumulate: int
    warmup: float
    label_smoothing: float
    per_epoch: int
    updates: int

    def __str__(self) -> str:
        """Return the plan as text."""
        parts = f" in {self.accumulate} parts" if self.accumulate > 1 else ""
        each = "update" if self.per_epoch == 1 else "updates"
        return (
            f"batch {self.batch_size}{parts}, {self.per_epoch} {each} an epoch, {self.updates} in all, "
            f"{self.warmup * self.per_epoch:.0f} of them to warm up, label smoothing {self.label_smoothing:g}"
        )


def plan_updates(config: TrainConfig, clips: int, processes: int = 1) -> UpdatePlan:
    """Choose numbers for "auto" settings; given numbers are kept.

    Args:
        config: The settings.
        clips: Items of the training set.
        processes: Processes that train together.

    Raises:
        ConfigError: The given batch size cannot be divided among the processes.
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
    """Return the settings with the numbers of the plan in place of "auto"."""
    return structs.replace(
        config,
        run=structs.replace(config.run, batch_size=plan.batch_size, accumulate=plan.accumulate),
        schedule=structs.replace(config.schedule, warmup=plan.warmup),
        loss=structs.replace(config.loss, label_smoothing=plan.label_smoothing),
    )


def _batch(clips: int, parts: int, most: int) -> int:
    """Return the largest batch, halving from `most`, with enough updates an epoch; a multiple of `parts`."""
    size = most
    while size > MIN_BATCH and clips // size < MIN_UPDATES:
        size //= 2
    return max(parts, size - size % parts)


def _parts(batch: int, processes: int) -> int:
    """Return the fewest equal parts of at most `MAX_PART` clips."""
    if batch % processes:
        raise ConfigError(
            f"run.batch_size {batch} cannot be shared by {processes} processes; give a multiple of {processes}"
        )
    share = batch // processes
    return next(parts for parts in range(1, share + 1) if share % parts == 0 and share // parts <= MAX_PART)
