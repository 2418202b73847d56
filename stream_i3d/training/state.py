"""The file from which a training is taken up again: weights, optimiser, average, and how far it has come.

Random numbers are not in it: every step draws its own from the seed and its number (loop.py), and every sample
likewise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from stream_i3d.errors import TrainingError, brief

STATE_NAME = "state.pt"
"""The file's name in a run's folder."""

_FORMAT = "stream-i3d/training/1"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write a run's state; the file is the old one or the new one at any time, also when the process is killed.

    Raises:
        TrainingError: It cannot be written.
    """
    partial = folder / f".{STATE_NAME}.partial"
    try:
        torch.save({"format": _FORMAT, **state}, partial)
        partial.replace(folder / STATE_NAME)
    except (OSError, RuntimeError) as error:  # the latter: torch's word for a full disk
        partial.unlink(missing_ok=True)
        raise TrainingError(
            f"the run's state cannot be written to {folder} ({brief(error)}): make room there, then go on with --resume"
        ) from error


def load_state(folder: Path) -> dict[str, Any]:
    """Read what `save_state` wrote, onto the CPU.

    Raises:
        TrainingError: There is none, or it is damaged.
    """
    path = folder / STATE_NAME
    if not path.is_file():
        raise TrainingError(f"no run to resume in {folder} (no file {STATE_NAME}); leave out --resume to start one")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything for a damaged file
        raise TrainingError(f"{path} is damaged ({brief(error)}): start the run again in another folder") from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise TrainingError(f"{path} is not the state of a training of this version: start the run again")
    return state
