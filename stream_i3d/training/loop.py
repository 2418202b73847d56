"""The training loop: steps, validation, and the state to resume from.

Every step seeds its random numbers from the run's seed and the step number, and every sample from its key, so a step
depends only on the state before it, and a resumed run continues exactly. Autocast is used here (by Fabric) and in the
inference engine only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from stream_i3d.errors import TrainingError
from stream_i3d.inference.two_stream import stream_preprocessing
from stream_i3d.models.folding import lay_out
from stream_i3d.preprocess import Preprocessing, normalise
from stream_i3d.training.config import TrainConfig
from stream_i3d.training.distribution import synchronise_batch_norm, training_precision
from stream_i3d.training.loading import (
    Batch,
    ClipDataset,
    Division,
    StepSampler,
    fixed_parts,
    make_loader,
    steps_per_epoch,
)
from stream_i3d.training.network import set_regime, set_training
from stream_i3d.training.optimisation import (
    ClipLoss,
    make_average,
    make_optimizer,
    plan_updates,
    rate_at,
    set_rate,
    with_plan,
)


@dataclass(frozen=True, slots=True)
class StepResult:
    """Result of one step.

    Attributes:
        step: Steps made so far, including this one.
        epoch: The same in epochs.
        loss: Mean over the batch of all processes.
        lr: Learning rate of parameters with factor 1.
        seconds: Wall time, including waiting for data.
        stopping: Whether a process was asked to stop.
    """

    step: int
    epoch: float
    loss: float
    lr: float
    seconds: float
    stopping: bool


class Trainer:
    """Trains a network step by step.

    Args:
        config: Settings of the training.
        fabric: Device, precision and processes.
        model: The network, on the CPU; trained in place.
        preprocessing: Normalisation of the clips.
        train: The training set.

    Raises:
        ConfigError: A setting does not fit the network, the data or the number of processes.
    """

    def __init__(
        self, config: TrainConfig, fabric: Fabric, model: nn.Module, preprocessing: Preprocessing, train: ClipDataset
    ) -> None:
        self.plan = plan_updates(config, len(train), fabric.world_size)
        config = with_plan(config, self.plan)
        self.config, self.fabric, self.network = config, fabric, model
        self._preprocessing, self._train = preprocessing, train
        set_regime(model, config.model)
        if fabric.world_size > 1:
            self.network = synchronise_batch_norm(model)
        # Measured on a CPU: 0.7 of the time in fp32, and 0.65 in bf16 (docs/decisions.md, "Training in bf16").
        self._memory_format = lay_out(self.network)
        self._optimizer = make_optimizer(self.network, config.optimizer)
        self._wrapped: Any
        self._wrapped, self._stepper = fabric.setup(self.network, self._optimizer)
        self.average: AveragedModel | None = None
        if config.run.ema is not None:
            self.average = make_average(self.network, config.run.ema)
        self._loss = ClipLoss(config.loss, train.labels, train.targets)
        self._precision = training_precision(config.run.precision, fabric.device)
        self._division = Division(
            batch_size=self.plan.batch_size,
            accumulate=self.plan.accumulate,
            processes=fabric.world_size,
            rank=fabric.global_rank,
        )
        _ = self._division.part_size  # raises ConfigError now instead of at the first step
        self.steps_per_epoch = steps_per_epoch(len(train), self.plan.batch_size)
        self.total_steps = max(1, round(config.run.epochs * self.steps_per_epoch))
        self.step = 0

    @property
    def done(self) -> bool:
        """Whether all steps have been made."""
        return self.step >= self.total_steps

    @property
    def epoch(self) -> float:
        """Progress of the run in epochs."""
        return self.step / self.steps_per_epoch

    @property
    def best_network(self) -> nn.Module:
        """The network to validate and to save: the moving average if there is one."""
        if self.average is None:
            return self.network
        averaged: nn.Module = self.average.module
        return averaged

    def steps(self, stopping: Callable[[], bool] = lambda: False) -> Iterator[StepResult]:
        """Make the remaining steps; yield the result of each.

        Args:
            stopping: Called at every step; if it returns True in any process, the results of all processes tell.

        Raises:
            TrainingError: The loss is not finite; the weights are those before the step.
        """
        run = self.config.run
        sampler = StepSampler(len(self._train), self._division, run.seed, self.step, self.total_steps)
        parts = iter(make_loader(self._train, sampler, self.config.data, self.fabric.device))
        while not self.done:
            began = time.perf_counter()
            share = rate_at(self.config.schedule, self.epoch, run.epochs)
            lr = set_rate(self._optimizer, self.config.optimizer, share)
            loss, stop = self._make_step(parts, stopping())
            self.step += 1
            yield StepResult(self.step, self.epoch, loss, lr, time.perf_counter() - began, stop)

    def _make_step(self, parts: Iterator[Batch], stopping: bool) -> tuple[float, bool]:
        run = self.config.run
        seed_step(run.seed, self.step, self.fabric.global_rank)
        set_training(self.network, self.config.model)
        total = torch.zeros((), device=self.fabric.device)
        accumulate = self.plan.accumulate
        for part in range(accumulate):
            batch = next(parts)
            with self.fabric.no_backward_sync(self._wrapped, enabled=part < accumulate - 1):
                loss = self._part_loss(batch) / accumulate
                self.fabric.backward(loss)
            total += loss.detach()
        shared = torch.stack([total, total.new_tensor(float(stopping))])
        mean, stops = (float(value) for value in torch.as_tensor(self.fabric.all_reduce(shared, reduce_op="mean")))
        if not math.isfinite(mean):
            raise TrainingError(
                f"the loss became {mean} at step {self.step + 1} (epoch {self.epoch:.2f}): lower optimizer.lr, set "
                "run.clip_gradient or a longer schedule.warmup, or train with run.precision=fp32"
            )
        if run.clip_gradient is not None:
            self._clip(run.clip_gradient)
        self._stepper.step()
        self._stepper.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return mean, stops > 0

    def _clip(self, most: float) -> None:
        """Clip the gradient norm to `most`; raise if it is not finite, which clipping would hide."""
        norm = self.fabric.clip_gradients(self._wrapped, self._stepper, max_norm=most, error_if_nonfinite=False)
        if self._precision != "fp16" and norm is not None and not torch.isfinite(norm):  # fp16's scaler skips the step
            raise TrainingError(
                f"the gradient became {float(norm)} at step {self.step + 1} (epoch {self.epoch:.2f}): lower "
                "optimizer.lr, set a longer schedule.warmup, or train with run.precision=fp32"
            )

    def _part_loss(self, batch: Batch) -> Tensor:
        inputs = self._inputs(batch, side_at(self.config.run.resize_from, self.step / self.total_steps))
        label = batch["label"].to(self.fabric.device, non_blocking=True)
        clips = next(iter(batch["clips"].values())).shape[1]
        return self._loss(self._wrapped(*inputs), label.repeat_interleave(clips))

    def _inputs(self, batch: Batch, side: int | None = None) -> list[Tensor]:
        """Return the network's inputs, each (B * N, C, T, H, W) float32, or (B * N, C) features."""
        inputs = []
        for stream, clips in batch["clips"].items():
            flat = clips.flatten(0, 1).to(self.fabric.device, non_blocking=True)  # (B * N, T, H, W, C)
            if flat.is_floating_point():  # features, (B * N, C), when only the head is trained
                inputs.append(flat)
                continue
            pixels = normalise(flat, stream_preprocessing(stream, self._preprocessing))
            if side is not None and side != pixels.shape[-1]:
                pixels = functional.interpolate(pixels, size=(pixels.shape[2], side, side), mode="area")
            inputs.append(pixels.contiguous(memory_format=self._memory_format))
        return inputs

    @torch.no_grad()
    def validate(self, dataset: ClipDataset) -> tuple[Tensor, Tensor]:
        """Run the best network over a set; the processes divide the work, and each gets all results.

        Returns:
            (items, num_classes) float32 logits, averaged over each item's clips, and (items,) int64 classes; on the
            CPU.
        """
        fabric = self.fabric
        network = self.best_network.eval()
        part_size = self._division.part_size
        parts = fixed_parts(len(dataset), part_size, fabric.world_size, fabric.global_rank)
        logits = []
        for batch in make_loader(dataset, parts, self.config.data, fabric.device):
            clips = next(iter(batch["clips"].values())).shape[1]
            with fabric.autocast():
                outputs = network(*self._inputs(batch))
            logits.append(outputs.float().unflatten(0, (-1, clips)).mean(1))
        gathered = torch.as_tensor(fabric.all_gather(torch.cat(logits)))
        if fabric.world_size > 1:  # (processes, share, num_classes); process r took the items r, r + processes, ...
            gathered = gathered.transpose(0, 1).flatten(0, 1)
        return gathered[: len(dataset)].cpu(), torch.tensor(dataset.targets)

    def state(self) -> dict[str, Any]:
        """Return the state that the next step depends on."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state` returned.

        Raises:
            TrainingError: The state is that of another network or optimiser.
        """
        try:
            self.network.load_state_dict(state["network"])
            self._optimizer.load_state_dict(state["optimizer"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.step = int(state["step"])
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise TrainingError(
                "the run's state is of another network or optimiser than its settings say: resume it with the settings "
                "it was started with"
            ) from error


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch's random numbers (dropout) for one step of one process."""
    torch.manual_seed((seed * 1_000_003 + step) * 1_009 + rank)


def side_at(stages: Sequence[tuple[float, int]], progress: float) -> int | None:
    """Return the side in pixels to which clips are reduced; None for their full size.

    Args:
        stages: Pairs of (share of the run at which the stage begins, side), in increasing order.
        progress: Share of the run that is done, in [0, 1].
    """
    begun = [side for share, side in stages if share <= progress]
    return begun[-1] if begun else None
