"""`stream-i3d evaluate`: measures a checkpoint, offline and live; calibrates; fuses the results of two networks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream_i3d.cli.completion import evaluation_arguments, files, words
from stream_i3d.cli.extras import check_extra
from stream_i3d.cli.options import SETTINGS
from stream_i3d.cli.output import say
from stream_i3d.files import kind_of

if TYPE_CHECKING:
    from stream_i3d.inference.engine import LoadedModel
    from stream_i3d.training.config import TrainConfig
    from stream_i3d.training.evaluation import NamedDataset, Network, Progress
    from stream_i3d.training.results import Average, Calibration, Evaluation
    from stream_i3d.training.streaming_report import StreamingReport


@click.command()
@click.argument("arguments", nargs=-1, metavar="CONFIG CHECKPOINT [KEY=VALUE]...", shell_complete=evaluation_arguments)
@click.option(
    "--data",
    help="Videos in place of the configuration's validation set: a folder or a list.",
    shell_complete=files,
)
@click.option(
    "--eval",
    "names",
    multiple=True,
    metavar="NAME...",
    help="top_k_accuracy, mean_class_accuracy, ... (default: all).",
    shell_complete=words(
        "top_k_accuracy", "mean_class_accuracy", "negative_log_likelihood", "calibration"
    ),  # metrics.EVALUATIONS, whose module imports torch
)
@click.option(
    "--average-clips",
    "average",
    type=click.Choice(["prob", "score"]),
    default="prob",
    show_default=True,
    help="Average the probabilities or the logits of a video's clips.",
)
@click.option("--clips", type=click.IntRange(1), help="Clips of each video (default: clip.test_clips, 10).")
@click.option("--crops", type=click.Choice(["1", "3"]), help="Crops of each clip (default: clip.test_crops, 3).")
@click.option(
    "--out", type=click.Path(path_type=Path), help="File of the results, .json; tables and a picture beside it."
)
@click.option(
    "--calibrate", is_flag=True, help="Fit the temperature on the validation set; store it in the checkpoint."
)
@click.option("--streaming", is_flag=True, help="Play the videos through the live path too; measure smoothing.")
@click.option(
    "--mode",
    type=click.Choice(SETTINGS["window.mode"].words),
    default="window",
    show_default=True,
    help="Mode of the live path, with --streaming.",
)
@click.option(
    "--backend",
    type=click.Choice(SETTINGS["model.backend"].words),
    help="What runs the live path, with --streaming (default: torch).",
)
@click.option(
    "--live",
    metavar="FILE",
    help="An export of CHECKPOINT that runs the live path, with --streaming.",
    shell_complete=files,
)
@click.option(
    "--seconds-per-video",
    type=click.FloatRange(1),
    help="With --streaming (default: 20; of generated scenes 4, in streaming mode 12).",
)
@click.option(
    "--fuse", nargs=2, type=click.Path(path_type=Path), metavar="A.json B.json", help="Fuse two result files."
)
@click.option(
    "--fuse-weights", nargs=2, type=float, default=(1.0, 1.0), show_default=True, help="Of each, with --fuse."
)
def evaluate(
    arguments: tuple[str, ...], names: tuple[str, ...], average: Average, out: Path | None, **options: Any
) -> None:
    """Measure CHECKPOINT on the validation videos of CONFIG, a training's YAML file or its folder.

    \b
    stream-i3d evaluate runs/train runs/train/best.safetensors --out result.json
    stream-i3d evaluate finetune motion --eval top_k_accuracy mean_class_accuracy --streaming
    stream-i3d evaluate --fuse rgb.json flow.json --out both.json

    KEY=VALUE arguments, such as run.device=cpu, override CONFIG.
    """
    from stream_i3d.capture.ffmpeg_options import silence_ffmpeg

    silence_ffmpeg()
    from stream_i3d.errors import ConfigError
    from stream_i3d.inference.setup import wait_passively

    check_extra("evaluate", "train", ("torchmetrics", "matplotlib"))
    if out is not None and out.suffix != ".json":
        raise ConfigError(f"--out {out}: give a name ending in .json; tables and a picture are written beside it")
    wait_passively()
    from stream_i3d.training.metrics import EVALUATIONS, check_evaluations
    from stream_i3d.training.results import make_folder

    files, more, settings = _sorted_out(arguments, EVALUATIONS)
    chosen = tuple(dict.fromkeys([*names, *more])) or tuple(EVALUATIONS)
    check_evaluations(chosen)
    if out is not None:
        make_folder(out)
    if options["fuse"] is not None:
        if files or settings:
            raise ConfigError(f"--fuse takes two result files only: leave out {' '.join([*files, *settings])}")
        evaluation = _fuse(options["fuse"], options["fuse_weights"], average, chosen)
    elif len(files) == 2:
        evaluation = _evaluate(files[0], files[1], settings, average, chosen, options)
    else:
        given = ", ".join(files) or "nothing"
        raise ConfigError(f"evaluate takes a configuration and a checkpoint, got {given}: evaluate CONFIG CHECKPOINT")
    _show(evaluation, out)


def _sorted_out(arguments: Sequence[str], metrics: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """Split the arguments into files, metrics (`--eval a b` takes several) and settings."""
    known = set(metrics)
    settings = [one for one in arguments if "=" in one and kind_of(one) is None]
    names = [one for one in arguments if one in known]
    return [one for one in arguments if one not in known and one not in settings], names, settings


def _evaluate(
    config_file: str,
    checkpoint: str,
    settings: list[str],
    average: Average,
    names: Sequence[str],
    options: dict[str, Any],
) -> Evaluation:
    from msgspec import structs
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    from stream_i3d.training.calibration import check_calibratable
    from stream_i3d.training.config import load_train_config
    from stream_i3d.training.evaluation import evaluate as measure
    from stream_i3d.training.evaluation import load_network, videos_for, with_clips

    config = load_train_config(_config_file(config_file), settings)
    crops: Any = None if options["crops"] is None else int(options["crops"])
    config = with_clips(config, options["clips"], crops)
    if options["calibrate"]:
        check_calibratable(checkpoint)
    network = load_network(checkpoint, config)
    model = _live_model(network, checkpoint, options) if options["streaming"] else None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bars:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        calibration = _calibrate(network, checkpoint, config, progress) if options["calibrate"] else None
        data = options["data"]
        dataset = videos_for(network, config, data)
        evaluation = measure(network, dataset, config, data=data, average=average, names=names, progress=progress)
        streaming = _stream(network, dataset, config, options, progress, model) if model is not None else None
    return structs.replace(evaluation, calibration=calibration, streaming=streaming)


def _config_file(given: str) -> Path:
    """Return the configuration that a file or a name is, or that a training's folder holds."""
    from stream_i3d.shipped_configs import find_config

    own = Path(given, "config.yaml")
    return own if kind_of(own) == "file" else find_config("train", given)


def _calibrate(network: Network, checkpoint: str, config: TrainConfig, progress: Progress) -> Calibration:
    """Fit the temperature, store it in the file, and say what changed."""
    from stream_i3d.training.calibration import calibrate_network, store_calibration
    from stream_i3d.training.evaluation import data_name

    found = calibrate_network(network, config, progress)
    told = store_calibration(checkpoint, found, data_name(config))
    network.set_temperature(found.temperature)
    say(f"calibrated {network.name}: {told}", err=True)
    return found


def _live_model(network: Network, checkpoint: str, options: dict[str, Any]) -> LoadedModel:
    """Return what runs the live path; a network that has none is told before the work."""
    import msgspec
    from msgspec import structs

    from stream_i3d.config import ModelConfig, WindowConfig
    from stream_i3d.errors import ConfigError
    from stream_i3d.inference.backends import load_model
    from stream_i3d.inference.setup import settle_model

    own = network.live_model(options["mode"])
    if options["backend"] in (None, "torch") and options["live"] is None:
        return own
    window = WindowConfig(mode=options["mode"])
    given = {"backend": options["backend"] or "auto", "precision": network.precision, "device": str(network.device)}
    config = msgspec.convert({"checkpoint": options["live"] or checkpoint, **given}, ModelConfig)
    setup = settle_model(structs.replace(config, name=network.spec.architecture), window)
    model = load_model(setup, window.mode)
    if model.labels != tuple(network.labels) or setup.preprocessing != network.preprocessing:
        raise ConfigError(f"--live {options['live']} is of other labels or clips than {network.name}: export it again")
    return model


def _stream(
    network: Network,
    dataset: NamedDataset,
    config: TrainConfig,
    options: dict[str, Any],
    progress: Progress,
    model: LoadedModel,
) -> StreamingReport:
    from stream_i3d.config import Config, IdleConfig, WindowConfig
    from stream_i3d.training.stream_videos import SCENE_SECONDS, SCENE_SECONDS_CARRIED, stream_videos
    from stream_i3d.training.streaming import evaluate_stream

    scenes = config.data.source == "scenes" and options["data"] is None
    mode, seconds = options["mode"], options["seconds_per_video"]
    long = seconds or (SCENE_SECONDS if mode == "window" else SCENE_SECONDS_CARRIED)
    videos = stream_videos(dataset.names, dataset.targets, dataset.labels, network.preprocessing, scenes, long)
    live = Config(window=WindowConfig(mode=mode), idle=IdleConfig(min_confidence=network.spec.min_confidence))
    return evaluate_stream(
        network, videos, live, model=model, seed=config.run.seed, seconds_per_video=seconds or 20.0, progress=progress
    )


def _fuse(paths: tuple[Path, Path], weights: tuple[float, float], average: Average, names: Sequence[str]) -> Evaluation:
    from stream_i3d.training.results import fuse, read_results

    first, second = (read_results(path) for path in paths)
    return fuse(first, second, weights, average, names)


def _show(evaluation: Evaluation, out: Path | None) -> None:
    from rich.console import Console

    from stream_i3d.training.report import classes_table, metrics_table, streaming_tables, write_report
    from stream_i3d.training.results import write_results

    files: list[Path] = []
    if out is not None:  # first: a screen that has gone must not lose the work
        write_results(out, evaluation)
        files = [out, *write_report(evaluation, out)]
    console = Console(highlight=False)
    console.print(metrics_table(evaluation))
    console.print(classes_table(evaluation))
    if evaluation.streaming is not None:
        console.print(streaming_tables(evaluation.streaming))
    if evaluation.skipped:
        first = evaluation.skipped[0]
        say(f"skipped: {len(evaluation.skipped)} videos, {first.video} first ({first.reason})", err=True)
    if files:
        say("written: " + ", ".join(str(file) for file in files))
