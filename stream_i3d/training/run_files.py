"""The files of a training run: the state to resume from, CSV and TensorBoard logs, and which checkpoint is the best.

The state holds weights, optimiser, moving average and step. It holds no random state: every step seeds its own random
numbers from the run's seed and the step number (`loop.seed_step`), and so does every sample. A resumed run continues
the same log files after the step that was saved.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from stream_i3d.errors import TrainingError, brief

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


STATE_NAME = "state.pt"
"""File name in the run's folder."""

_FORMAT = "stream-i3d/training/1"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write a run's state, replacing the old file atomically.

    Raises:
        TrainingError: It cannot be written.
    """
    partial = folder / f".{STATE_NAME}.partial"
    try:
        torch.save({"format": _FORMAT, **state}, partial)
        partial.replace(folder / STATE_NAME)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError on a full disk
        partial.unlink(missing_ok=True)
        raise TrainingError(
            f"the run's state cannot be written to {folder} ({brief(error)}): make room there, then go on with --resume"
        ) from error


def load_state(folder: Path) -> dict[str, Any]:
    """Read what `save_state` wrote, onto the CPU.

    Raises:
        TrainingError: The file is missing or damaged.
    """
    path = folder / STATE_NAME
    if not path.is_file():
        raise TrainingError(f"no run to resume in {folder} (no file {STATE_NAME}); leave out --resume to start one")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of errors for a damaged file
        raise TrainingError(f"{path} is damaged ({brief(error)}): start the run again in another folder") from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise TrainingError(f"{path} is not the state of a training of this version: start the run again")
    return state


STEP_FIELDS = ("step", "epoch", "loss", "lr", "seconds", "samples_per_s")
VALIDATION_FIELDS = ("step", "epoch", "loss", "acc@1", "acc@5", "mean_class_accuracy")


class CsvLog:
    """A CSV file of numbers; each row is flushed at once.

    Args:
        path: The file; it and its folder are created. Rows after `last_step` are removed.
        fields: The columns, including "step".
        last_step: The step to continue from.
    """

    def __init__(self, path: Path, fields: tuple[str, ...], last_step: int) -> None:
        kept = [row for row in read_rows(path) if int(row["step"]) <= last_step]
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, fields, extrasaction="ignore")
        self._writer.writeheader()
        self._writer.writerows(kept)
        self._file.flush()

    def write(self, row: Mapping[str, float]) -> None:
        """Add a row; keys that are not columns are ignored."""
        self._writer.writerow({key: f"{value:.7g}" for key, value in row.items()})
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the complete rows of a CSV log; an empty list if there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        # The last row may be incomplete after a kill.
        return [row for row in reader if None not in row.values() and str(row.get("step", "")).isdigit()]


class Records:
    """A run's logs in its folder: steps.csv, validations.csv, and TensorBoard's event files.

    Args:
        folder: The run's folder.
        last_step: The step to continue from; 0 for a new run.
        tensorboard: Whether to write TensorBoard's event files too.
    """

    def __init__(self, folder: Path, last_step: int, tensorboard: bool) -> None:
        self._steps = CsvLog(folder / "steps.csv", STEP_FIELDS, last_step)
        self._validations = CsvLog(folder / "validations.csv", VALIDATION_FIELDS, last_step)
        self._board: SummaryWriter | None = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=last_step + 1)

    def step(self, row: Mapping[str, float]) -> None:
        """Log a step; the keys are `STEP_FIELDS`."""
        self._steps.write(row)
        self._show("train", row)

    def validation(self, row: Mapping[str, float]) -> None:
        """Log a validation; the keys are `VALIDATION_FIELDS`."""
        self._validations.write(row)
        self._show("validation", row)

    def close(self) -> None:
        """Close all files."""
        self._steps.close()
        self._validations.close()
        if self._board is not None:
            self._board.close()

    def _show(self, group: str, row: Mapping[str, float]) -> None:
        if self._board is None:
            return
        for key, value in row.items():
            if key not in ("step", "epoch"):
                self._board.add_scalar(f"{group}/{key}", value, int(row["step"]))


MetricName = Literal["acc@1", "mean_class_accuracy", "loss"]

Rank = tuple[float, ...]
"""Sort key of a validation; larger is better."""


def rank(metrics: Mapping[str, float], metric: MetricName) -> Rank:
    """Return the sort key of a validation: by `metric`, then lower loss, then higher accuracy, then later step.

    On a small validation set many epochs have the same accuracy. The first of them has the least trained head, whose
    confidence is too low for live use, so the loss decides between equal accuracies.

    Args:
        metrics: Metrics of one validation: "acc@1", "mean_class_accuracy", "loss" and "step". Missing values (in a run
            of an older version) and NaN are worse than any number.
        metric: The metric that counts first.
    """
    loss = -_number(metrics, "loss", math.inf)
    first = loss if metric == "loss" else _number(metrics, metric, -math.inf)
    return (first, loss, _number(metrics, "acc@1", -math.inf), _number(metrics, "step", -math.inf))


def is_better(metrics: Mapping[str, float], best: Mapping[str, float], metric: MetricName) -> bool:
    """Return whether a validation is better than the best so far; an empty `best` means there is none."""
    return not best or rank(metrics, metric) > rank(best, metric)


def _number(metrics: Mapping[str, float], name: str, missing: float) -> float:
    value = metrics.get(name, missing)
    return missing if math.isnan(value) else value
