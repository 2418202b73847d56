"""`stream-i3d train`: train or fine-tune a network on folders of videos, or on generated scenes."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from stream_i3d.cli.completion import folders, train_settings
from stream_i3d.cli.config_files import ConfigFile
from stream_i3d.cli.extras import check_extra


@click.command()
@click.argument("settings", nargs=-1, metavar="[CONFIG] [KEY=VALUE]...", shell_complete=train_settings)
@click.option("--config", "config_file", type=ConfigFile("train"), help="YAML file, or a name of `config list`.")
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Resume the run in FOLDER.",
    shell_complete=folders,
)
@click.option("--seed", type=int, help="The same as run.seed=SEED.")
@click.option(
    "--deterministic", is_flag=True, help="The same as run.deterministic=true: the same seed, the same weights."
)
def train(
    settings: tuple[str, ...], config_file: Path | None, resume: Path | None, seed: int | None, deterministic: bool
) -> None:
    """Train a network; KEY=VALUE arguments, such as run.epochs=5, override the configuration.

    \b
    stream-i3d train head-only data.train=data output=runs/mine
    stream-i3d train --config finetune.yaml run.epochs=5

    CONFIG is a file, or the name of one that comes with the package (`stream-i3d config list`); --config is the same.

    Under torchrun, all its processes train together: torchrun --nproc-per-node 2 -m stream_i3d train ...
    """
    from stream_i3d.capture.ffmpeg_options import silence_ffmpeg

    silence_ffmpeg()
    from stream_i3d.api.training import train as run_training
    from stream_i3d.errors import ConfigError
    from stream_i3d.inference.setup import wait_passively
    from stream_i3d.settings import parse_overrides

    check_extra("train", "train", ("lightning_fabric", "tensorboard", "torchmetrics"))
    config_file, arguments = _split(settings, config_file)
    if resume is not None and config_file is not None:
        raise ConfigError("--resume takes the settings of the run in its folder: leave out --config")
    if seed is not None:
        arguments.append(f"run.seed={seed}")
    if deterministic:
        arguments.append("run.deterministic=true")
    overrides = parse_overrides(arguments)
    wait_passively()  # before the next line, which imports torch
    from stream_i3d.training.console import ConsoleWatcher

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with ConsoleWatcher() as watcher:
        outcome = run_training(config_file, overrides, resume=resume, watcher=watcher, stopping=stop.is_set)
        watcher.ended(outcome, outcome.checkpoint.parent)


def _split(settings: tuple[str, ...], config_file: Path | None) -> tuple[Path | None, list[str]]:
    """Split the arguments into the configuration, which may come first, and the settings."""
    from stream_i3d.files import kind_of
    from stream_i3d.shipped_configs import find_config, shipped_configs

    first = settings[0] if settings else ""
    named = first in shipped_configs("train") or (bool(first) and "=" not in first and kind_of(first) == "file")
    if config_file is not None or not named:
        return config_file, [*settings]
    return find_config("train", first), [*settings[1:]]
