from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from stream_i3d.errors import TrainingError
from stream_i3d.training.run_files import (
    STATE_NAME,
    STEP_FIELDS,
    CsvLog,
    MetricName,
    Records,
    is_better,
    load_state,
    rank,
    read_rows,
    save_state,
)


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


def test_a_missing_damaged_or_foreign_state_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no run to resume in .* leave out --resume"):
        load_state(tmp_path)
    (tmp_path / STATE_NAME).write_bytes(b"no zip file")
    with pytest.raises(TrainingError, match="is damaged"):
        load_state(tmp_path)
    torch.save({"step": 1}, tmp_path / STATE_NAME)
    with pytest.raises(TrainingError, match="not the state of a training"):
        load_state(tmp_path)


def row(step: int, loss: float = 1.0) -> dict[str, float]:
    return dict.fromkeys(STEP_FIELDS, 0.5) | {"step": step, "loss": loss}


def test_rows_are_there_as_soon_as_they_are_written(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "run" / "steps.csv", STEP_FIELDS, last_step=0)
    log.write(row(1, loss=2.25))
    (read,) = read_rows(tmp_path / "run" / "steps.csv")
    assert (read["step"], read["loss"]) == ("1", "2.25")
    log.close()


def test_a_resumed_run_replaces_what_came_after_its_state(tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    log = CsvLog(path, STEP_FIELDS, last_step=0)
    for step in (1, 2, 3):
        log.write(row(step))
    log.close()
    with path.open("a") as file:
        file.write("4,0.")  # a row cut off by a kill
    log = CsvLog(path, STEP_FIELDS, last_step=2)
    log.write(row(3, loss=9))
    log.close()
    assert [(read["step"], read["loss"]) for read in read_rows(path)] == [("1", "1"), ("2", "1"), ("3", "9")]


def test_both_logs_and_tensorboards_files_are_written(tmp_path: Path) -> None:
    records = Records(tmp_path, last_step=0, tensorboard=True)
    records.step(row(1))
    records.validation(
        {"step": 1, "epoch": 1, "loss": 0.5, "acc@1": 1, "acc@5": 1, "mean_class_accuracy": 1, "more": 2}
    )
    records.close()
    assert len(read_rows(tmp_path / "steps.csv")) == 1
    assert "more" not in read_rows(tmp_path / "validations.csv")[0]
    (events,) = (tmp_path / "tensorboard").iterdir()
    content = events.read_bytes()
    assert b"train/loss" in content
    assert b"validation/acc@1" in content


def validation(step: int, acc: float, loss: float) -> dict[str, float]:
    return {"step": float(step), "acc@1": acc, "mean_class_accuracy": acc, "loss": loss}


def best_of(validations: list[dict[str, float]], metric: MetricName = "acc@1") -> int:
    """The step of the best checkpoint of a run with these validations."""
    best: dict[str, float] = {}
    for one in validations:
        if is_better(one, best, metric):
            best = one
    return int(best["step"])


def test_the_loss_and_not_the_order_decides_between_equal_accuracies() -> None:
    run = [validation(2, 0.9, 1.9), validation(4, 1.0, 1.5), validation(6, 1.0, 0.4), validation(8, 1.0, 0.6)]
    assert best_of(run) == 6


def test_the_later_of_two_equal_validations_is_kept() -> None:
    assert best_of([validation(2, 1.0, 0.5), validation(4, 1.0, 0.5)]) == 4


def test_a_higher_accuracy_goes_before_any_loss() -> None:
    assert best_of([validation(2, 0.8, 0.1), validation(4, 0.9, 3.0), validation(6, 0.85, 0.01)]) == 4


def test_by_loss_the_accuracy_breaks_ties() -> None:
    assert best_of([validation(2, 0.8, 0.5), validation(4, 0.9, 0.5), validation(6, 0.7, 0.6)], "loss") == 4


def test_a_loss_that_is_no_number_is_never_kept_before_one_that_is() -> None:
    assert best_of([validation(2, 1.0, math.nan), validation(4, 1.0, 9.0), validation(6, 1.0, math.nan)]) == 4


@pytest.mark.parametrize("metric", ["acc@1", "mean_class_accuracy", "loss"])
def test_a_run_that_an_older_version_began_goes_on(metric: MetricName) -> None:
    old = {"step": 10.0, "epoch": 5.0, "loss": 1.4, "acc@1": 1.0, "acc@5": 1.0, "mean_class_accuracy": 1.0}
    assert is_better(validation(12, 1.0, 0.9), old, metric)
    assert not is_better(validation(12, 0.9, 1.5), old, metric)
    assert is_better(validation(12, 0.9, 1.5), {}, metric)
    assert rank({"acc@1": 0.5}, "acc@1") < rank(validation(1, 0.5, 99.0), "acc@1")
