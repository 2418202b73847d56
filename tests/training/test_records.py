from __future__ import annotations

from pathlib import Path

from stream_i3d.training.records import STEP_FIELDS, CsvLog, Records, read_rows


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
