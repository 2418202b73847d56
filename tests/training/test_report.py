from __future__ import annotations

import csv
import io
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch
from rich.console import Console, Group

from stream_i3d.errors import ConfigError
from stream_i3d.models.labels import load_labels
from stream_i3d.training.metrics import ClassResult
from stream_i3d.training.report import (
    classes_table,
    draw_confusion,
    metrics_table,
    streaming_tables,
    worst_first,
    write_report,
)
from stream_i3d.training.results import Evaluation, Protocol, video_results
from stream_i3d.training.streaming_report import SmoothingResult, StreamingReport

LABELS = ("wave", "clap, twice", "jump")


def evaluation(clips: int = 10) -> Evaluation:
    """Two waves, of which one is taken for a jump, two claps and no jump."""
    scores = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.1, 0.7], [0.1, 0.8, 0.1], [0.1, 0.9, 0.0]])
    return Evaluation(
        checkpoint="tiny.safetensors",
        architecture="i3d",
        data="val.csv",
        protocol=Protocol(clips=clips, crops=1, average="prob"),
        labels=LABELS,
        metrics={"acc@1": 0.75, "nll": 0.4321},
        clip_metrics={"acc@1": 0.5, "nll": 0.6},
        videos=video_results(list("abcd"), scores, torch.tensor([0, 0, 1, 1]), LABELS),
    )


def shown(*tables: Group) -> str:
    console = Console(file=io.StringIO(), width=160)
    for table in tables:
        console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_three_files_stand_beside_the_results(tmp_path: Path) -> None:
    files = write_report(evaluation(), tmp_path / "result.json")
    assert [file.name for file in files] == ["result.confusion.csv", "result.confusion.png", "result.classes.csv"]
    assert sorted(files) == sorted(tmp_path.iterdir())


def test_confusion_has_the_truth_in_rows_and_labels_around(tmp_path: Path) -> None:
    write_report(evaluation(), tmp_path / "result.json")
    assert rows_of(tmp_path / "result.confusion.csv") == [
        ["label", "wave", "clap, twice", "jump"],
        ["wave", "1", "0", "1"],
        ["clap, twice", "0", "2", "0"],
        ["jump", "0", "0", "0"],
    ]


def test_classes_are_listed_worst_first_and_shares_of_nothing_left_empty(tmp_path: Path) -> None:
    write_report(evaluation(), tmp_path / "result.json")
    assert rows_of(tmp_path / "result.classes.csv") == [
        ["label", "videos", "predicted", "correct", "accuracy", "precision"],
        ["wave", "2", "1", "1", "0.5000", "1.0000"],
        ["clap, twice", "2", "2", "2", "1.0000", "1.0000"],
        ["jump", "0", "1", "0", "", "0.0000"],
    ]


def test_of_equally_bad_classes_the_larger_comes_first() -> None:
    def one(label: str, count: int, accuracy: float | None) -> ClassResult:
        return ClassResult(label=label, count=count, predicted=0, correct=0, accuracy=accuracy, precision=None)

    found = worst_first([one("a", 5, 0.5), one("none", 0, None), one("b", 9, 0.5), one("c", 1, 0.0)])
    assert [row.label for row in found] == ["c", "b", "a", "none"]


def test_an_unwritable_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write beside .*result\.json: "):
        write_report(evaluation(), tmp_path / "file" / "result.json")


@pytest.mark.parametrize("classes", [2, 4, 51, 400])
def test_a_picture_is_readable_for_few_and_for_many_classes(tmp_path: Path, classes: int) -> None:
    counts = 20 * torch.eye(classes, dtype=torch.int64)
    counts[0, classes - 1] = 10  # one mistake, in the right upper corner
    path = tmp_path / "confusion.png"
    draw_confusion(path, counts, load_labels("kinetics400")[:classes])
    picture = cv2.imread(str(path))
    assert picture is not None
    height, width = picture.shape[:2]
    assert 250 <= height <= 3200
    assert 250 <= width <= 3200
    dark = (picture.max(axis=2) < 160) & (picture[..., 0] > picture[..., 2] + 40)  # the diagonal's deep blue
    ys, xs = np.nonzero(dark[:, : int(0.88 * width)])
    assert np.ptp(ys) > 0.4 * height  # from one corner to the other
    assert np.ptp(xs) > 0.4 * width
    if classes > 20:  # downwards to the right; of few, numbers and the scale weigh as much
        assert np.corrcoef(xs, ys)[0, 1] > 0.8


def test_a_mistake_is_seen_in_the_picture(tmp_path: Path) -> None:
    right = 20 * torch.eye(4, dtype=torch.int64)
    wrong = right.clone()
    wrong[0, 3] = 5
    pictures = []
    for counts in (right, wrong):
        draw_confusion(tmp_path / "confusion.png", counts, ("a", "b", "c", "d"))
        pictures.append(cv2.imread(str(tmp_path / "confusion.png")).astype(int))
    changed = np.abs(pictures[0] - pictures[1]).max(axis=2) > 30
    assert changed.mean() > 0.005
    ys, xs = np.nonzero(changed)
    assert xs.max() > 0.6 * changed.shape[1]  # of the first class, at the top, taken for the last
    assert ys.max() < 0.5 * changed.shape[0]


def test_metrics_are_shown_with_those_of_single_clips_beside_them() -> None:
    text = shown(metrics_table(evaluation()))
    assert "tiny.safetensors on val.csv" in text
    assert "top-1 accuracy" in text and "75.0 %" in text and "50.0 %" in text
    assert "negative log likelihood" in text and "0.432" in text
    assert "10 x 1 clips, prob" in text
    assert "50.0 %" not in shown(metrics_table(evaluation(clips=1)))


def test_the_terminal_shows_the_worst_classes_and_what_they_are_taken_for() -> None:
    text = shown(classes_table(evaluation()))
    assert text.index("wave") < text.index("clap, twice")
    assert "jump (1 of 2)" in text
    assert "left out" not in text
    many = tuple(f"class {number}" for number in range(20))
    scores = torch.eye(20)
    all_right = Evaluation(
        checkpoint="a",
        architecture="i3d",
        data="b",
        protocol=Protocol(clips=1, crops=1, average="prob"),
        labels=many,
        metrics={},
        videos=video_results(many, scores, torch.arange(20), many),
    )
    assert "5 better ones left out" in shown(classes_table(all_right))


def test_a_stream_is_shown_beside_offline_and_by_way_of_smoothing() -> None:
    smoothing = SmoothingResult(
        smoothing="ema 1 s",
        window_accuracy=0.875,
        switches=4,
        reaction_median_s=0.72,
        reaction_p90_s=None,
        never=0.25,
        events=9,
        wrong_events_per_minute=1.5,
    )
    report = StreamingReport(
        videos=5,
        seconds=61.2,
        stride=8,
        windows=90,
        whole_windows=80,
        window_accuracy=0.8,
        judged_videos=4,
        video_accuracy=1.0,
        offline_window_accuracy=0.79,
        offline_video_accuracy=0.99,
        largest_difference=2.5e-7,
        smoothings=[smoothing],
    )
    text = shown(streaming_tables(report))
    for part in (
        "window mode, a prediction every 8 frames",
        "80 of 90 windows",
        "80.0 %",
        "79.0 %",
        "99.0 %",
        "2.5e-07",
        "ema 1 s",
        "87.5 %",
        "0.72 s",
        "25.0 %",
    ):
        assert part in text


def test_a_checkpoint_that_is_not_calibrated_is_marked() -> None:
    marked = msgspec.structs.replace(evaluation(), calibrated=False)
    assert "tiny.safetensors (not calibrated) on val.csv" in shown(metrics_table(marked))
    assert "not calibrated" not in shown(metrics_table(evaluation()))
