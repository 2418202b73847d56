from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stream_i3d.errors import TrainingError
from stream_i3d.training.state import STATE_NAME, load_state, save_state


def test_what_was_saved_is_read_back_and_no_partial_file_stays(tmp_path: Path) -> None:
    save_state(tmp_path, {"step": 3, "network": {"w": torch.ones(2)}})
    save_state(tmp_path, {"step": 4, "network": {"w": torch.zeros(2)}})
    state = load_state(tmp_path)
    assert state["step"] == 4
    assert state["network"]["w"].tolist() == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == [STATE_NAME]


def test_a_failed_save_keeps_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, {"step": 3})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match=r"No space left on device.*make room there"):
        save_state(tmp_path, {"step": 4})
    assert load_state(tmp_path)["step"] == 3


def test_a_missing_damaged_or_foreign_state_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no run to resume in .* leave out --resume"):
        load_state(tmp_path)
    (tmp_path / STATE_NAME).write_bytes(b"no zip file")
    with pytest.raises(TrainingError, match="is damaged"):
        load_state(tmp_path)
    torch.save({"step": 1}, tmp_path / STATE_NAME)
    with pytest.raises(TrainingError, match="not the state of a training"):
        load_state(tmp_path)
