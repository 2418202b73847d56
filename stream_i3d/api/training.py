"""Networks by name, and training and evaluation from Python; the command line's `train` and `evaluate` do the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stream_i3d.errors import ConfigError
from stream_i3d.models.registry import ARCHITECTURES

if TYPE_CHECKING:
    from stream_i3d.training.config import TrainConfig
    from stream_i3d.training.results import Evaluation
    from stream_i3d.training.run import Outcome, Watcher


def list_models() -> list[str]:
    """Return the names of the architectures that `build_model` makes."""
    return list(ARCHITECTURES)


def train(
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    resume: str | Path | None = None,
    watcher: Watcher | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train or fine-tune a network to the end, or until told to stop.

    Args:
        config: YAML file, or the name of one that comes with the package ("finetune", "head-only", ...).
        settings: Values over it by dotted key, such as {"data.train": "clips", "output": "runs/mine", "run.epochs": 5}.
        resume: Folder of a run to go on with; then without `config`.
        watcher: Is told how the run goes; None for silence.
        stopping: Asked at every step; the run ends, and can be resumed, once it returns True.

    Returns:
        How the run ended: `checkpoint` is the file to use, `metrics` those of the best validation.

    Raises:
        ConfigError: A setting is not allowed, or the packages of `stream-i3d[train]` are missing.
        TrainingError: The loss is not a number any more, or the output folder does not fit `resume`.
        StreamI3DError: Weights or data cannot be read.
    """
    _check_packages("train", ("lightning_fabric", "tensorboard", "torchmetrics"))
    if resume is not None and config is not None:
        raise ConfigError("resume takes the settings of the run in its folder: leave out config")
    _prepare()
    from stream_i3d.training.run import CONFIG_NAME
    from stream_i3d.training.run import train as run

    given = dict(settings or {})
    if resume is not None:
        given["output"] = str(resume)
        _check_run(Path(resume), CONFIG_NAME)
    settled = _load(config if resume is None else Path(resume, CONFIG_NAME), given)
    return run(settled, resume=resume is not None, watcher=watcher or _Silent(), stopping=stopping)


def evaluate(
    checkpoint: str | Path,
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    data: str | Path | None = None,
    metrics: Sequence[str] | None = None,
    average: Literal["prob", "score"] = "prob",
    clips: int | None = None,
    crops: Literal[1, 3] | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Evaluation:
    """Measure a checkpoint on videos.

    Args:
        checkpoint: A file, or a name of `stream-i3d weights list`.
        config: A training's YAML file, its folder, or the name of one that comes with the package.
        settings: Values over it by dotted key.
        data: Folder or list of videos, in place of the configuration's validation set.
        metrics: Names of metrics; None for all.
        average: What of a video's clips is averaged: probabilities ("prob") or logits ("score").
        clips: Clips of each video; None for the configuration's.
        crops: Crops of each clip; None for the configuration's.
        progress: Called with what is going on, how much is done, and of how much.

    Returns:
        Accuracies in `metrics`, and each video's own result.

    Raises:
        ConfigError: A setting is not allowed, there are no such videos, or the packages of `stream-i3d[train]` are
            missing.
        CheckpointError: The checkpoint cannot be read.
    """
    _check_packages("evaluate", ("torchmetrics", "matplotlib"))
    _prepare()
    from stream_i3d.training.evaluation import evaluate as measure
    from stream_i3d.training.evaluation import load_network, videos_for, with_clips
    from stream_i3d.training.metrics import EVALUATIONS, check_evaluations
    from stream_i3d.training.run import CONFIG_NAME

    names = tuple(EVALUATIONS) if metrics is None else tuple(metrics)
    check_evaluations(names)
    own = None if config is None else Path(config, CONFIG_NAME)
    settled = with_clips(_load(own if own is not None and own.is_file() else config, settings or {}), clips, crops)
    network = load_network(str(checkpoint), settled)
    where = None if data is None else str(data)
    dataset = videos_for(network, settled, where)
    return measure(network, dataset, settled, data=where, average=average, names=names, progress=progress)


class _Silent:
    """A `Watcher` that does nothing."""

    def started(self, *_: object) -> None:
        """Do nothing."""

    def stepped(self, *_: object) -> None:
        """Do nothing."""

    def validated(self, *_: object) -> None:
        """Do nothing."""

    def working(self, *_: object) -> None:
        """Do nothing."""


def _load(config: str | Path | None, settings: Mapping[str, Any]) -> TrainConfig:
    from stream_i3d.settings import load_settings
    from stream_i3d.shipped_configs import find_config
    from stream_i3d.training.config import TrainConfig

    return load_settings(TrainConfig, None if config is None else find_config("train", config), settings)


def _check_run(folder: Path, name: str) -> None:
    from stream_i3d.errors import TrainingError

    if not (folder / name).is_file():
        raise TrainingError(f"no run to resume in {folder} (no file {name}); give the output folder of a run")


def _check_packages(name: str, packages: Sequence[str]) -> None:
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ConfigError(f"{name} needs {' and '.join(missing)}: run pip install 'stream-i3d[train]'")


def _prepare() -> None:
    """Set what must be set before OpenCV and torch are imported."""
    from stream_i3d.capture.decoder_logging import silence_ffmpeg
    from stream_i3d.inference.setup import wait_passively

    silence_ffmpeg()
    wait_passively()
