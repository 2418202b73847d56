"""`stream-i3d collect`: labelled clips from a camera, with a countdown, for `train`."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream_i3d.cli import completion
from stream_i3d.cli.options import split_source
from stream_i3d.cli.output import say
from stream_i3d.display_text import clean_text

if TYPE_CHECKING:
    from rich.progress import Progress

    from stream_i3d.capture.collect import CollectJob
    from stream_i3d.capture.collect_schedule import Cue

_NOTHING = "nothing"
_RECIPE = "finetune"


@click.command()
@click.option(
    "--source",
    required=True,
    metavar="[NAME=]SOURCE",
    help="Webcam index, /dev path, URL, file or synthetic://; the name is that of `run` and not used here.",
    shell_complete=completion.sources,
)
@click.option("--label", required=True, help="The class; its clips go to OUTPUT/LABEL.")
@click.option("--output", default="data", show_default=True, type=click.Path(path_type=Path), help="Folder of classes.")
@click.option("--clips", default=20, show_default=True, help="How many recordings.")
@click.option("--seconds", default=3.0, show_default=True, help="Length of each.")
@click.option("--split", type=float, help="Cut each recording into clips of so many seconds.")
@click.option("--countdown", default=3.0, show_default=True, help="Seconds counted down before each.")
@click.option("--pause", default=1.0, show_default=True, help="Seconds of rest after each.")
@click.option("--fps", default=25.0, show_default=True, help="Frames per second of the clips.")
@click.option("--size", default="640x480", show_default=True, help="Larger pictures are shrunk to its longer side.")
@click.option("--fast", is_flag=True, help="Read files at full speed.")
def collect(
    source: str,
    label: str,
    output: Path,
    clips: int,
    seconds: float,
    split: float | None,
    countdown: float,
    pause: float,
    fps: float,
    size: str,
    fast: bool,
) -> None:
    """Record labelled clips: a countdown, then do it, again and again; Ctrl-C ends it and keeps the whole clips.

    \b
    stream-i3d collect --source 0 --label wave
    stream-i3d collect --source 0 --label nothing --clips 1 --seconds 60 --split 3   # the empty scene
    """
    from stream_i3d.capture.decoder_logging import silence_opencv

    silence_opencv()
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    from stream_i3d.capture.collect import CollectJob, Stop, collect_clips
    from stream_i3d.capture.collect_schedule import CollectPlan
    from stream_i3d.service.supervisor import stop_on_signals

    plan = CollectPlan(clips, seconds, split, countdown, pause, fps)
    job = CollectJob(split_source(source)[1], label, output, plan, size, fast)
    columns = (TextColumn("{task.description}", markup=False), BarColumn())
    progress = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)
    stop = Stop()
    with stop_on_signals(stop.tell), progress:
        collected = collect_clips(job, _Prompter(job, progress), stop)
    say(collected.describe(), err=True)
    if collected.kept:
        say(f"next: {_next_command(job)}", err=True)


class _Prompter:
    """Tells the person in front of the camera what to do: a bar and a bell in a terminal, else lines."""

    def __init__(self, job: CollectJob, progress: Progress) -> None:
        self._label, self._plan = job.label, job.plan
        self._progress = progress
        self._bar = progress.add_task("", total=1.0, visible=False)
        self._told = ""
        self._take = 1

    def opened(self, description: str) -> None:
        """Say what is recorded from."""
        self._say(description)

    def cue(self, cue: Cue) -> None:
        """Show what a picture changes."""
        self._take = cue.take
        if cue.gap_s:
            self._say(f"{self._number()}: nothing came for {cue.gap_s:.1f} s; this clip is taken again")
        text, share = self._instruction(cue)
        if text and text != self._told:
            if cue.phase == "recording":
                self._progress.console.bell()
            if self._progress.disable:
                self._say(text)
        self._told = text
        self._progress.update(self._bar, description=clean_text(text), completed=share, visible=bool(text))

    def kept(self, path: Path) -> None:
        """Name a clip that is whole."""
        self._say(f"{self._number()}: kept {path}")

    def _instruction(self, cue: Cue) -> tuple[str, float]:
        """Return what to say, and how far the bar is."""
        if cue.phase == "countdown":
            return f"{self._number()}: '{self._label}' in {max(1, math.ceil(cue.left_s - 1e-6))}", 0.0
        if cue.phase == "recording":
            whole = self._plan.take_frames / self._plan.fps
            return f"{self._number()}: do '{self._label}' now, for {whole:g} s", 1.0 - cue.left_s / whole
        return "", 0.0

    def _number(self) -> str:
        return f"{self._take}/{self._plan.takes}"

    def _say(self, line: str) -> None:
        self._progress.console.print(clean_text(line), markup=False, highlight=False, soft_wrap=True)


def _next_command(job: CollectJob) -> str:
    """Return the command to go on with: a second class, else the training."""
    from stream_i3d.redact import redact

    classes = [folder for folder in job.output.iterdir() if folder.is_dir() and any(folder.glob("[!.]*.mp4"))]
    if len(classes) > 1:
        return f"stream-i3d train {_RECIPE} {shlex.quote(f'data.train={job.output}')}"
    where = "" if str(job.output) == "data" else f" --output {shlex.quote(str(job.output))}"
    more = "--label ANOTHER" if job.label == _NOTHING else f"--label {_NOTHING} --clips 1 --seconds 60 --split 3"
    return f"stream-i3d collect --source {shlex.quote(redact(job.source))} {more}{where}"
