"""What a training leaves behind to look at: a CSV file of its steps and validations, and TensorBoard's files.

A run that is taken up again goes on in the same files, from the step at which it was saved. Does not know the terminal.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

STEP_FIELDS = ("step", "epoch", "loss", "lr", "seconds", "samples_per_s")
VALIDATION_FIELDS = ("step", "epoch", "loss", "acc@1", "acc@5", "mean_class_accuracy")


class CsvLog:
    """Rows of numbers in a CSV file, each written at once.

    Args:
        path: Made with its folder; rows after `last_step` of an earlier run are taken out.
        fields: The columns; "step" is one of them.
        last_step: The step to go on from.
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
        """Add a row; what is no column is left out."""
        self._writer.writerow({key: f"{value:.7g}" for key, value in row.items()})
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return a CSV log's whole rows; none where there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        # A row that was cut off by a kill lacks columns.
        return [row for row in reader if None not in row.values() and str(row.get("step", "")).isdigit()]


class Records:
    """A run's logs in its folder: steps.csv, validations.csv, and TensorBoard's event files.

    Args:
        folder: Of the run.
        last_step: The step to go on from; 0 for a new run.
        tensorboard: Whether to write TensorBoard's files as well.
    """

    def __init__(self, folder: Path, last_step: int, tensorboard: bool) -> None:
        self._steps = CsvLog(folder / "steps.csv", STEP_FIELDS, last_step)
        self._validations = CsvLog(folder / "validations.csv", VALIDATION_FIELDS, last_step)
        self._board: SummaryWriter | None = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=last_step + 1)

    def step(self, row: Mapping[str, float]) -> None:
        """Note a step: the keys are `STEP_FIELDS`."""
        self._steps.write(row)
        self._show("train", row)

    def validation(self, row: Mapping[str, float]) -> None:
        """Note a validation: the keys are `VALIDATION_FIELDS`."""
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
