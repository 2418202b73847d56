"""What moves the weights: optimiser with per-part learning rates, its schedule, the loss, and a moving average.

Pure but for the tensors it is given: the learning rate is a function of the step, so nothing of it needs to be saved.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from stream_i3d.errors import ConfigError, did_you_mean
from stream_i3d.training.config import LossConfig, OptimizerConfig, ScheduleConfig, settled


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return an optimiser of the parameters that learn, in groups that carry their "factor" on the learning rate.

    Raises:
        ConfigError: Nothing learns, or a name in `lr_factors` begins no parameter's name.
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
    """Return the factor on a parameter's learning rate: that of the longest prefix of its name, else 1."""
    longest = max((prefix for prefix in factors if name.startswith(prefix)), key=len, default=None)
    return 1.0 if longest is None else factors[longest]


def rate_at(config: ScheduleConfig, epoch: float, epochs: float) -> float:
    """Return the learning rate as a share of its peak, in [0, 1].

    Args:
        config: The schedule; milestones and warm-up in epochs.
        epoch: How much of the run is done, in epochs.
        epochs: The run's length.
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
    """Set every group's learning rate for the next step; return that of parts with factor 1."""
    for group in optimizer.param_groups:
        group["lr"] = config.lr * share * group["factor"]
    return config.lr * share


class ClipLoss:
    """Cross-entropy of clips, averaged over a batch so that parts of it add up to the whole.

    With class weights a sample counts by its class's; they are scaled to a mean of 1 over the training set, and the
    sum is divided by the number of samples: so the loss of a batch is the mean of those of its equal parts, whatever
    is in them.

    Args:
        config: Smoothing and weights.
        labels: The classes.
        targets: The class of each training item, for `balanced`.

    Raises:
        ConfigError: A weight for a class that is none, or all weights are zero.
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
    """Return an exponential moving average of a network's weights and statistics, which starts as their copy.

    The decay rises from 0.1 to `decay` as (1 + n) / (10 + n), as in TensorFlow's ExponentialMovingAverage, so that a
    short run's average is not its first weights.
    """

    def blend(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        steps = int(count)
        kept = min(decay, (1 + steps) / (10 + steps))
        if not averaged.is_floating_point():
            return current
        return averaged.lerp(current, 1 - kept)

    return AveragedModel(model, avg_fn=blend, use_buffers=True)
