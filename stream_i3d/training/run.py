"""A whole training run: what it starts from, its folder, its validations, the checkpoints it leaves.

    OUTPUT/config.yaml          the settings, whole
    OUTPUT/steps.csv            loss, learning rate and speed of every step
    OUTPUT/validations.csv      accuracy on the validation set
    OUTPUT/tensorboard/         the same for TensorBoard
    OUTPUT/state.pt             what --resume goes on from
    OUTPUT/best.safetensors     the network that did best in validation: give it to run, recognize, evaluate
    OUTPUT/last.safetensors     the network as it is now
    OUTPUT/outlook.json         how it was calibrated, and what live use will be like (`outlook`)

Does not know the terminal: what happens is told to a `Watcher`.
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
from stream_i3d.training.ending import OUTLOOK, Ending, finish, write_outlook
from stream_i3d.training.head_only import HeadTraining
from stream_i3d.training.loop import StepResult, Trainer
from stream_i3d.training.metrics import mean_class_accuracy, negative_log_likelihood, top_k_accuracy
from stream_i3d.training.network import build_network, find_origin
from stream_i3d.training.records import Records
from stream_i3d.training.selection import is_better
from stream_i3d.training.state import load_state, save_state
from stream_i3d.training.update_plan import with_plan

CONFIG_NAME = "config.yaml"
BEST, LAST = "best.safetensors", "last.safetensors"


class Watcher(Protocol):
    """Who is told how a run goes; called in the first process only."""

    def started(self, trainer: Trainer, data: Datasets, spec: ModelSpec) -> None:
        """All is settled; the first step comes next."""

    def stepped(self, result: StepResult) -> None:
        """A step was made."""

    def validated(self, metrics: dict[str, float], best: bool) -> None:
        """The validation set was looked at; `best` where it went better than ever before."""

    def working(self, what: str, done: int, total: int) -> None:
        """Something besides the steps is under way: features before them, calibration and live check after them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        checkpoint: The file to use.
        step: Steps made.
        stopped: It was stopped before its end, and can be resumed.
        metrics: Of the best validation; empty without a validation set.
        ending: Its calibration and what live use will be like; None where it was stopped, and in other processes.
    """

    checkpoint: Path
    step: int
    stopped: bool
    metrics: dict[str, float]
    ending: Ending | None = None


def train(
    config: TrainConfig, *, resume: bool, watcher: Watcher, stopping: Callable[[], bool] = lambda: False
) -> Outcome:
    """Train a network to the end, or until told to stop.

    Args:
        config: Everything about it.
        resume: Go on from the state in the output folder, which must have one; else the folder must have none.
        watcher: Is told how it goes.
        stopping: Asked at every step.

    Raises:
        TrainingError: The loss is no number any more, or the output folder does not fit `resume`.
        StreamI3DError: Weights, data or settings are not to be had.
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
            head = HeadTraining(config, fabric, model, preprocessing, data, _until(stopping, watcher.working))
        except _StopAsked:
            raise TrainingError(
                "stopped before the first step: features computed so far are kept, give the same command to go on"
            ) from None
        trainer = Trainer(head.config, fabric, head.head, preprocessing, head.train)
    else:
        trainer = Trainer(config, fabric, model, preprocessing, data.train)
    if state is not None:
        trainer.restore(state)
    settled = with_plan(config, trainer.plan)
    return _Run(settled, fabric, trainer, data, spec, watcher, state, head).to_the_end(stopping)


class _StopAsked(Exception):
    """Work beside the steps was cut short, since the run was told to stop."""


def _until(stopping: Callable[[], bool], working: Callable[[str, int, int], None]) -> Callable[[str, int, int], None]:
    """Return a report of progress that ends the work once the run is told to stop."""

    def report(what: str, done: int, total: int) -> None:
        working(what, done, total)
        if stopping():
            raise _StopAsked

    return report


class _Run:
    """A run under way: when to validate and to save, and what was best."""

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

    def to_the_end(self, stopping: Callable[[], bool]) -> Outcome:
        trainer = self._trainer
        if self._first:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / CONFIG_NAME).write_text(to_yaml(self._config), encoding="utf-8")
            self._records = Records(self._folder, trainer.step, self._config.run.tensorboard)
            self._watcher.started(trainer, self._data, self._spec)
        stopped = False
        try:
            for result in trainer.steps(stopping):
                self._note(result)
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
        ending = None
        if self._first and trainer.done and not stopped:
            try:
                ending = finish(
                    checkpoint, self._config, self._data, self._head, _until(stopping, self._watcher.working)
                )
                write_outlook(self._folder / OUTLOOK, ending)
            except _StopAsked:
                stopped = True
        return Outcome(checkpoint, trainer.step, stopped, self._best, ending)

    def _note(self, result: StepResult) -> None:
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
        logits, labels = self._trainer.validate(val)  # all processes take part
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
        """Write a checkpoint; `temperature` is None where the validation set is too small for one, or was not asked."""
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
