"""`stream-i3d export`: a checkpoint as OpenVINO IR, ONNX or torch.export, compared with its source."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from stream_i3d.cli import completion
from stream_i3d.cli.options import SETTINGS
from stream_i3d.cli.output import say


@click.command()
@click.argument("checkpoint", shell_complete=completion.checkpoints)
@click.option("--format", type=click.Choice(["onnx", "openvino", "torch"]), required=True, help="What to write.")
@click.option(
    "--output", required=True, type=click.Path(path_type=Path), help="The file: .onnx, .xml (and .bin beside it), .pt2."
)
@click.option("--int8", is_flag=True, help="Quantise to 8 bits (openvino); wants --calibrate.")
@click.option(
    "--calibrate",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Videos like those that the network will see: they tell int8 what to expect, and are compared on.",
)
@click.option(
    "--mode",
    type=click.Choice(SETTINGS["window.mode"].words),
    default="window",
    show_default=True,
    help="Take clips, or be one step of a network that is carried along streams.",
)
@click.option("--clip-len", type=click.IntRange(8, 1024), help="Frames in a clip (default: as trained).")
@click.option(
    "--architecture",
    help="What the weights are of, where their tensors leave that open.",
    shell_complete=completion.architectures,
)
def export(**flags: Any) -> None:
    """Write CHECKPOINT (a name of `weights list`, 'motion', or a file) for other programs, and say how it compares.

    \b
    stream-i3d export motion --format openvino --output motion.xml
    stream-i3d export rgb.pt --format openvino --int8 --calibrate videos --output rgb-int8.xml
    stream-i3d run --source 0 --checkpoint rgb-int8.xml

    The result takes clips as they are, (batch, frames, height, width, channels) uint8, and gives float32 logits. It
    carries labels, preprocessing and temperature, so `run` and `recognize` take .xml and .onnx as a checkpoint.
    With --mode streaming it takes 8 frames, the number of steps before, and what it gave as contexts then.
    """
    from stream_i3d.capture.decoder_logging import silence_ffmpeg

    silence_ffmpeg()
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from stream_i3d.inference.setup import wait_passively

    wait_passively()
    from stream_i3d.inference.export.checkpoint import ExportJob, check_job, export_checkpoint
    from stream_i3d.models.streaming_plan import STEP_FRAMES

    job = ExportJob(**flags)
    check_job(job)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bars:
        task = bars.add_task("loading", total=None)
        exported = export_checkpoint(
            job, lambda what, done, total: bars.update(task, description=what, completed=done, total=total)
        )
    made = exported.spec.preprocessing
    size = sum(file.stat().st_size for file in exported.files) / 1e6
    taken = f"steps of {STEP_FRAMES}" if job.mode == "streaming" else f"clips of {made.clip_len}"
    named = " and ".join(str(file) for file in exported.files)
    say(
        f"{named}: {exported.spec.architecture}, {exported.spec.num_classes} classes, {taken} x "
        f"{made.crop_size} x {made.crop_size} x {exported.spec.in_channels} uint8, {size:.1f} MB"
    )
    say(f"run by {exported.description}, against its source on {exported.parity.clips} {exported.clips}:")
    say(f"  {exported.parity}")
