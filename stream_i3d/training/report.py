"""Reports of an evaluation: the confusion matrix as CSV and PNG, the classes as CSV and table, and the metrics.

Pictures are drawn with matplotlib's Agg canvas, without pyplot, so no display is needed and no global state changes.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import Tensor

from stream_i3d.display_text import rich_text
from stream_i3d.errors import ConfigError
from stream_i3d.training.metrics import ClassResult, confusion_matrix, per_class
from stream_i3d.training.results import Evaluation
from stream_i3d.training.streaming_report import HOLD_S, StreamingReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NUMBERED = 20
"""Most classes with which cells have their counts."""

_NAMED = 110
"""Most classes with which all rows and columns are named; with more, only those with the most mistakes are."""

_SHOWN_CLASSES = 15

_TITLES = {
    "acc@1": "top-1 accuracy",
    "acc@5": "top-5 accuracy",
    "mean_class_accuracy": "mean class accuracy",
    "nll": "negative log likelihood",
    "ece": "calibration error (ECE)",
}
_PER_CENT = ("acc@1", "acc@5", "mean_class_accuracy", "ece")


def confusion_of(evaluation: Evaluation) -> Tensor:
    """Return the (C, C) int64 confusion matrix of an evaluation's videos: rows are true, columns predicted classes."""
    return confusion_matrix(evaluation.scores, evaluation.targets)


def write_report(evaluation: Evaluation, out: Path) -> list[Path]:
    """Write NAME.confusion.csv, NAME.confusion.png and NAME.classes.csv beside the result file NAME.json.

    Returns:
        The files.

    Raises:
        ConfigError: A file cannot be written.
    """
    confusion = confusion_of(evaluation)
    files = [out.with_suffix(suffix) for suffix in (".confusion.csv", ".confusion.png", ".classes.csv")]
    try:
        write_confusion_csv(files[0], confusion, evaluation.labels)
        draw_confusion(files[1], confusion, evaluation.labels)
        write_classes_csv(files[2], per_class(confusion, evaluation.labels))
    except OSError as error:
        raise ConfigError(f"cannot write beside {out}: {error.strerror}; give a file in a folder of yours") from None
    return files


def write_confusion_csv(path: Path, confusion: Tensor, labels: Sequence[str]) -> None:
    """Write (C, C) counts with the predicted classes as header and the true class first in each row."""
    _write_csv(path, ("label", *labels), ([label, *row] for label, row in zip(labels, confusion.tolist(), strict=True)))


def write_classes_csv(path: Path, classes: Iterable[ClassResult]) -> None:
    """Write the result of each class, lowest accuracy first; undefined shares are empty."""
    rows = (
        (one.label, one.count, one.predicted, one.correct, one.accuracy, one.precision) for one in worst_first(classes)
    )
    _write_csv(path, ("label", "videos", "predicted", "correct", "accuracy", "precision"), rows)


def worst_first(classes: Iterable[ClassResult]) -> list[ClassResult]:
    """Sort classes by accuracy, lowest first, then by frequency; classes without videos are last."""
    return sorted(classes, key=lambda one: (one.accuracy is None, one.accuracy or 0.0, -one.count))


def metrics_table(evaluation: Evaluation) -> Group:
    """Return a table of the metrics of videos, and of single clips if videos have several clips."""
    protocol = evaluation.protocol
    several = protocol.clips * protocol.crops > 1
    columns = [evaluation.metrics, *([evaluation.clip_metrics] if several and evaluation.clip_metrics else [])]
    table = Table()
    table.add_column("")
    how = f"{protocol.clips} x {protocol.crops} clips, {protocol.average}" if several else "1 clip each"
    table.add_column(f"{len(evaluation.videos)} videos\n{how}", justify="right")
    if len(columns) > 1:
        table.add_column("single clips\n(as live windows)", justify="right")
    for key in evaluation.metrics:
        table.add_row(_TITLES.get(key, key), *(_shown(key, one.get(key)) for one in columns))
    note = " (not calibrated)" if evaluation.calibrated is False else ""
    return Group(rich_text(f"{evaluation.checkpoint}{note} on {evaluation.data}"), table)


def classes_table(evaluation: Evaluation) -> Group:
    """Return a table of the classes with the lowest accuracy and their most frequent mistakes."""
    confusion = confusion_of(evaluation)
    rows = worst_first(per_class(confusion, evaluation.labels))
    rows = [row for row in rows if row.count]
    more = len(rows) - _SHOWN_CLASSES
    table = Table()
    for name in ("class", "videos", "accuracy", "precision", "mostly taken for"):
        table.add_column(name, justify="left" if name in ("class", "mostly taken for") else "right")
    for row in rows[:_SHOWN_CLASSES]:
        mistaken = _mostly_taken_for(confusion, evaluation.labels, evaluation.labels.index(row.label))
        shares = (_percent(row.accuracy), _percent(row.precision))
        table.add_row(rich_text(row.label), str(row.count), *shares, rich_text(mistaken))
    return Group(Text("classes, worst first" + (f" ({more} better ones left out)" if more > 0 else "")), table)


def streaming_tables(report: StreamingReport) -> Group:
    """Return tables of live and offline accuracy, and of the smoothing methods."""
    title = (
        f"one camera's stream of {report.videos} videos, {report.seconds:.0f} s, {report.mode} mode, "
        f"a prediction every {report.stride} frames"
    )
    same = Table()
    for name in (f"{report.whole_windows} of {report.windows} windows, those within one video", "live", "offline"):
        same.add_column(name, justify="left" if " " in name else "right")
    same.add_row("windows right", _percent(report.window_accuracy), _percent(report.offline_window_accuracy))
    by_video = f"videos right, of {report.judged_videos}, by their windows' mean"
    same.add_row(by_video, _percent(report.video_accuracy), _percent(report.offline_video_accuracy))
    same.add_row("largest difference of a probability", f"{report.largest_difference:.1e}", "")
    ways = Table()
    caption = (
        "reacts: from a change of the video to the first window that publishes its class and after which, for "
        f"{HOLD_S:g} s or until the video ends, all do; stream time, without computing"
    )
    for name in (
        "smoothing",
        "windows\nright",
        "reacts\n(median)",
        "reacts\n(90 %)",
        "never",
        "wrong events\na minute",
    ):
        ways.add_column(name, justify="left" if name == "smoothing" else "right")
    for one in report.smoothings:
        seconds = ["" if value is None else f"{value:.2f} s" for value in (one.reaction_median_s, one.reaction_p90_s)]
        right, never = _percent(one.window_accuracy), _percent(one.never)
        ways.add_row(one.smoothing, right, *seconds, never, f"{one.wrong_events_per_minute:.1f}")
    return Group(Text(title), same, Text("how smoothing changes it"), ways, Text(caption))


def draw_confusion(path: Path, confusion: Tensor, labels: Sequence[str]) -> None:
    """Draw (C, C) counts as PNG, each row as shares, so that rare classes are as visible as common ones."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    classes = len(labels)
    cell = 0.42 if classes <= _NUMBERED else 0.2 if classes <= _NAMED else 18 / classes  # inches
    side, names = max(2.0, cell * classes), 0.3 + 0.085 * max(len(_cut(label)) for label in labels)
    figure = Figure(figsize=(side + names + 1.2, side + names + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shares = (confusion.double() / confusion.sum(dim=1, keepdim=True).clamp_min(1)).numpy()
    # Square root of the share, so that one mistake in a hundred is visible.
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, fraction=0.12, aspect=6 * side, pad=0.02, ticks=(0, 0.05, 0.2, 0.5, 1))
    bar.ax.set_yticklabels(("0", "5 %", "20 %", "50 %", "100 %"), fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    _name_classes(axes, confusion, labels)
    if classes <= _NUMBERED:
        _number_cells(axes, confusion)
    axes.set_title(f"{int(confusion.diagonal().sum())} of {int(confusion.sum())} videos right", loc="left", fontsize=11)
    figure.savefig(path, dpi=120)


def _name_classes(axes: Axes, confusion: Tensor, labels: Sequence[str]) -> None:
    """Write class names at both axes; with many classes, only those with the most mistakes."""
    mistakes = confusion - confusion.diagonal().diag()
    size = 9 if len(labels) <= _NUMBERED else 6.5
    rows, columns = (_worth_naming(mistakes.sum(dim=dim)) for dim in (1, 0))
    axes.set_yticks(rows, [_cut(labels[index]) for index in rows], fontsize=size)
    axes.set_xticks(columns, [_cut(labels[index]) for index in columns], fontsize=size, rotation=90)


def _worth_naming(mistakes: Tensor) -> list[int]:
    """(C,) counts -> all classes if there is room, else those with the most mistakes that are not too close."""
    classes = len(mistakes)
    if classes <= _NAMED:
        return list(range(classes))
    apart = classes / 150  # closer names would overlap
    shown: list[int] = []
    for index in mistakes.argsort(descending=True, stable=True).tolist():
        if mistakes[index] > 0 and all(abs(index - other) >= apart for other in shown):
            shown.append(index)
    return sorted(shown[:60])


def _number_cells(axes: Axes, confusion: Tensor) -> None:
    totals = confusion.sum(dim=1).clamp_min(1)
    for row, counts in enumerate(confusion.tolist()):
        for column, count in enumerate(counts):
            if count:
                colour = "white" if count > 0.3 * int(totals[row]) else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)


def _mostly_taken_for(confusion: Tensor, labels: Sequence[str], index: int) -> str:
    """Return the most frequent mistake of a class with its count; empty if there is none."""
    row = confusion[index].clone()
    count = int(row.sum())
    row[index] = 0
    worst = int(row.argmax())
    return f"{labels[worst]} ({int(row[worst])} of {count})" if int(row[worst]) else ""


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row in rows:
            writer.writerow(
                ["" if cell is None else f"{cell:.4f}" if isinstance(cell, float) else cell for cell in row]
            )


def _shown(key: str, value: float | None) -> str:
    if value is None:
        return ""
    return _percent(value) if key in _PER_CENT else f"{value:.3f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _cut(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "…"
