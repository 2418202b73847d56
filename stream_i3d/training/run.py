"""A whole training run: building it, its output folder, validation and checkpoints.

    OUTPUT/config.yaml          all settings
    OUTPUT/steps.csv            loss, learning rate and speed of every step
    OUTPUT/validations.csv      accuracy on the validation set
    OUTPUT/tensorboard/         the same for TensorBoard
    OUTPUT/state.pt             the state that --resume continues from
    OUTPUT/best.safetensors     the best network in validation, for run, recognize and evaluate
    OUTPUT/last.safetensors     the network after the last saved step
    OUTPUT/outlook.json         calibration and live check (`live_check`)

Progress is reported to a `Watcher`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import torch
from lightning_fabric import Fabric
from msgspec import structs

from stream_i3d.errors import TrainingError
from stream_i3d.models.checkpoint import save_checkpoint
from stream_i3d.models.spec import ModelSpec
from stream_i3d.settings import to_yaml
from stream_i3d.training.calibration import fit_temperature
from stream_i3d.training.config import TrainConfig
from stream_i3d.training.datasets import Datasets, make_datasets, with_clip
from stream_i3d.training.distribution import make_deterministic, make_fabric
from stream_i3d.training.head_only import HeadTraining
from stream_i3d.training.live_check import OUTLOOK, Summary, finish, write_outlook
from stream_i3d.training.loop import StepResult, Trainer
from stream_i3d.training.metrics import mean_class_accuracy, negative_log_likelihood, top_k_accuracy
from stream_i3d.training.network import build_network, find_origin
from stream_i3d.training.optimisation import with_plan
from stream_i3d.training.run_files import Records, is_better, load_state, save_state

CONFIG_NAME = "config.yaml"
BEST, LAST = "best.safetensors", "last.safetensors"


class Watcher(Protocol):
    """Receives the progress of a run; called in the first process only."""

    def started(self, trainer: Trainer, data: Datasets, spec: ModelSpec) -> None:
        """The run is set up; the first step follows."""

    def stepped(self, result: StepResult) -> None:
        """A step is done."""

    def validated(self, metrics: dict[str, float], best: bool) -> None:
        """A validation is done; `best` if it is the best so far."""

    def working(self, what: str, done: int, total: int) -> None:
        """Work other than steps has progressed: features before them, calibration and live check after them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a run.

    Attributes:
        checkpoint: The checkpoint to use.
        step: Steps made.
        stopped: Whether it was stopped before its end; it can be resumed.
        metrics: Metrics of the best validation; empty without a validation set.
        summary: Calibration and live check; None if the run was stopped, and in other processes than the first.
    """

    checkpoint: Path
    step: int
    stopped: bool
    metrics: dict[str, float]
    summary: Summary | None = None


def train(
    config: TrainConfig, *, resume: bool, watcher: Watcher, stopping: Callable[[], bool] = lambda: False
) -> Outcome:
    """Train a network to the end, or until `stopping` returns True.

    Args:
        config: All settings.
        resume: Continue from the state in the output folder. Without it the folder must have no run.
        watcher: Receives the progress.
        stopping: Called at every step.

    Returns:
        The result.

    Raises:
        TrainingError: The loss is not finite, or the output folder does not fit `resume`.
        StreamI3DError: Weights, data or settings are missing or wrong.
    """
    folder = Path(config.output)
    if not resume and (folder / CONFIG_NAME).exists():
        raise TrainingError(
            f"{folder} holds a run already: go on with it by --resume {folder}, or give another output=FOLDER"
        )
    state = load_state(folder) if resume else None
    fabric = make_fabric(config.run)
    if config.run.deterministic:
        make_deterministic(fabric.device)
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    torch.manual_seed(config.run.seed)
    origin = find_origin(config.model)
    preprocessing = with_clip(origin.preprocessing, config.clip)
    data = make_datasets(config, preprocessing, origin.architecture.streams, origin.labels)
    model, spec = build_network(config.model, origin, data.train.labels)
    spec = structs.replace(spec, preprocessing=preprocessing)
    head = None
    if config.model.regime == "head":
        try:
            head = HeadTraining(config, fabric, model, preprocessing, data, _stop_when(stopping, watcher.working))
        except _Stopped:
            raise TrainingError(
                "stopped before the first step: features computed so far are kept, give the same command to go on"
            ) from None
        trainer = Trainer(head.config, fabric, head.head, preprocessing, head.train)
    else:
        trainer = Trainer(config, fabric, model, preprocessing, data.train)
    if state is not None:
        trainer.restore(state)
    planned = with_plan(config, trainer.plan)
    return _Run(planned, fabric, trainer, data, spec, watcher, state, head).run_to_end(stopping)


class _Stopped(Exception):
    """The run was asked to stop during work other than steps."""


def _stop_when(
    stopping: Callable[[], bool], working: Callable[[str, int, int], None]
) -> Callable[[str, int, int], None]:
    """Return a progress function that raises `_Stopped` once `stopping` returns True."""

    def report(what: str, done: int, total: int) -> None:
        working(what, done, total)
        if stopping():
            raise _Stopped

    return report


class _Run:
    """A run in progress: decides when to validate and to save, and which validation was the best."""

    def __init__(
        self,
        config: TrainConfig,
        fabric: Fabric,
        trainer: Trainer,
        data: Datasets,
        spec: ModelSpec,
        watcher: Watcher,
        state: dict[str, object] | None,
        head: HeadTraining | None,
    ) -> None:
        self._config, self._trainer, self._data, self._spec = config, trainer, data, spec
        self._head = head
        self._folder = Path(config.output)
        self._first = fabric.is_global_zero
        self._watcher = watcher
        best = None if state is None else state["best"]
        self._best: dict[str, float] = msgspec.convert(best, dict[str, float]) if best else {}
        self._records: Records | None = None

    def run_to_end(self, stopping: Callable[[], bool]) -> Outcome:
        trainer = self._trainer
        if self._first:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / CONFIG_NAME).write_text(to_yaml(self._config), encoding="utf-8")
            self._records = Records(self._folder, trainer.step, self._config.run.tensorboard)
            self._watcher.started(trainer, self._data, self._spec)
        stopped = False
        try:
            for result in trainer.steps(stopping):
                self._log_step(result)
                at_epoch_end = trainer.step % trainer.steps_per_epoch == 0
                epochs = trainer.step // trainer.steps_per_epoch
                if trainer.done or (at_epoch_end and epochs % self._config.run.validate_every == 0):
                    self._validate(result)
                every = self._config.run.save_every
                stopped = result.stopping and not trainer.done
                if stopped or trainer.done or (trainer.step % every == 0 if every else at_epoch_end):
                    self._save()
                if stopped:
                    break
        finally:
            if self._records is not None:
                self._records.close()
        best = self._folder / BEST
        checkpoint = best if best.is_file() else self._folder / LAST
        summary = None
        if self._first and trainer.done and not stopped:
            try:
                summary = finish(
                    checkpoint, self._config, self._data, self._head, _stop_when(stopping, self._watcher.working)
                )
                write_outlook(self._folder / OUTLOOK, summary)
            except _Stopped:
                stopped = True
        return Outcome(checkpoint, trainer.step, stopped, self._best, summary)

    def _log_step(self, result: StepResult) -> None:
        if self._records is None:
            return
        speed = self._trainer.plan.batch_size / max(result.seconds, 1e-9)
        self._records.step(
            {
                "step": result.step,
                "epoch": result.epoch,
                "loss": result.loss,
                "lr": result.lr,
                "seconds": result.seconds,
                "samples_per_s": speed,
            }
        )
        self._watcher.stepped(result)

    def _validate(self, result: StepResult) -> None:
        val = self._data.val if self._head is None else self._head.val
        if val is None:
            return
        logits, labels = self._trainer.validate(val)  # runs in all processes
        if not logits.isfinite().all():
            raise TrainingError(
                f"the network's output is not finite for some validation videos at step {result.step}: lower "
                "optimizer.lr, set run.clip_gradient, or train with run.precision=fp32"
            )
        if not self._first or self._records is None:
            return
        probabilities = logits.softmax(dim=1)
        metrics = {
            "step": float(result.step),
            "epoch": result.epoch,
            "loss": negative_log_likelihood(probabilities, labels),
            "acc@1": top_k_accuracy(probabilities, labels, 1),
            "acc@5": top_k_accuracy(probabilities, labels, min(5, logits.shape[1])),
            "mean_class_accuracy": mean_class_accuracy(probabilities, labels),
        }
        self._records.validation(metrics)
        better = is_better(metrics, self._best, self._config.run.metric)
        if better:
            self._best = metrics
            self._write(BEST, metrics, fit_temperature(logits, labels))
        self._watcher.validated(metrics, better)

    def _save(self) -> None:
        if not self._first:
            return
        save_state(self._folder, {**self._trainer.state(), "best": self._best})
        self._write(LAST, {}, None)

    def _write(self, name: str, metrics: dict[str, float], temperature: float | None) -> None:
        """Write a checkpoint; `temperature` is None if it was not fitted."""
        provenance = {
            "trained_by": "stream-i3d train",
            "step": str(self._trainer.step),
            "config": to_yaml(self._config),
            "metrics": msgspec.json.encode(metrics).decode(),
        }
        spec = structs.replace(
            self._spec,
            provenance=provenance,
            temperature=temperature or 1.0,
            calibration="none" if temperature is None else "validation",
            min_confidence=None,
        )
        network = self._trainer.best_network
        save_checkpoint(self._folder / name, network if self._head is None else self._head.whole(network), spec)
