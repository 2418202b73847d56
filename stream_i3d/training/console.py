"""Shows a training on the terminal: a progress bar, or lines at intervals if the output is not a terminal."""

from __future__ import annotations

import shlex
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from stream_i3d.display_text import clean_text
from stream_i3d.training.head_only import FeatureHead

if TYPE_CHECKING:
    from stream_i3d.models.spec import ModelSpec
    from stream_i3d.training.datasets import Datasets
    from stream_i3d.training.live_check import Summary
    from stream_i3d.training.loop import StepResult, Trainer
    from stream_i3d.training.run import Outcome

_LINE_EVERY_S = 10.0


def live_command(checkpoint: Path, summary: Summary) -> str:
    """Return the command that tries a trained network live."""
    file = shlex.quote(str(checkpoint))
    if summary.streams == ("flow",):
        return f"stream-i3d run --source 0 --model two-stream --checkpoint RGB.safetensors --flow-checkpoint {file}"
    named = "" if summary.architecture == "i3d" else f" --model {summary.architecture}"
    return f"stream-i3d run --source 0{named} --checkpoint {file}"


class ConsoleWatcher:
    """A `training.run.Watcher` that writes to standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._others: dict[str, TaskID] = {}
        self._shown_at = 0.0
        self._loss = float("nan")
        self._open = ExitStack()

    def __enter__(self) -> ConsoleWatcher:
        self._open.enter_context(self._progress)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def started(self, trainer: Trainer, data: Datasets, spec: ModelSpec) -> None:  # noqa: D102 (documented in the protocol)
        learning = sum(parameter.numel() for parameter in trainer.network.parameters() if parameter.requires_grad)
        total = sum(parameter.numel() for parameter in trainer.network.parameters())
        share = "of the head alone" if isinstance(trainer.network, FeatureHead) else f"of {total / 1e6:.2f} M"
        held = "no validation set" if data.val is None else f"{len(data.val)} for validation"
        clip = spec.preprocessing
        skipped = f", {len(data.skipped)} videos skipped" if data.skipped else ""
        self._print(
            f"{spec.architecture}, {learning / 1e6:.2f} M parameters, {share}, learn; "
            f"{len(data.train)} clips an epoch, {held}{skipped}; {spec.num_classes} classes; {clip.clip_len} frames of "
            f"{clip.crop_size} x {clip.crop_size} at {clip.sample_fps:g} frames/s; {trainer.fabric.device}, "
            f"{trainer.fabric.world_size} process(es)"
        )
        self._print(f"{len(data.train)} clips: {trainer.plan}")
        if trainer.step:
            self._print(f"going on after step {trainer.step} of {trainer.total_steps}")
        self._task = self._progress.add_task("training", total=trainer.total_steps, completed=trainer.step)

    def stepped(self, result: StepResult) -> None:  # noqa: D102
        self._loss = result.loss if self._loss != self._loss else 0.9 * self._loss + 0.1 * result.loss
        text = f"epoch {result.epoch:.2f} loss {self._loss:.3f}"
        if self._task is not None:
            self._progress.update(self._task, completed=result.step, description=text)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._shown_at > _LINE_EVERY_S:
            self._shown_at = now
            self._print(f"step {result.step}, {text}, {result.seconds:.2f} s a step")

    def validated(self, metrics: dict[str, float], best: bool) -> None:  # noqa: D102
        mark = ", the best so far" if best else ""
        self._print(
            f"validation after epoch {metrics['epoch']:.2f}: acc@1 {metrics['acc@1']:.4f}, mean class accuracy "
            f"{metrics['mean_class_accuracy']:.4f}, loss {metrics['loss']:.3f}{mark}"
        )

    def working(self, what: str, done: int, total: int) -> None:  # noqa: D102
        if what not in self._others:
            self._others[what] = self._progress.add_task(what, total=total)
        self._progress.update(self._others[what], completed=done)
        now = time.monotonic()
        if not self._console.is_terminal and (done == total or now - self._shown_at > _LINE_EVERY_S):
            self._shown_at = now
            self._print(f"{what}: {done} of {total}")

    def ended(self, outcome: Outcome, folder: Path) -> None:
        """Print where the result is and what to do with it."""
        if outcome.stopped:
            self._print(f"stopped after step {outcome.step}; go on with: stream-i3d train --resume {folder}")
            return
        reached = f", acc@1 {outcome.metrics['acc@1']:.4f} in validation" if outcome.metrics else ""
        self._print(f"done after step {outcome.step}{reached}: {outcome.checkpoint}")
        if outcome.summary is None:
            return
        for line in outcome.summary.lines():
            self._print(line)
        self._print(f"try it live: {live_command(outcome.checkpoint, outcome.summary)}")

    def _print(self, text: str) -> None:
        self._console.print(clean_text(text), soft_wrap=True, markup=False)
