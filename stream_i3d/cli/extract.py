"""`stream-i3d extract`: features of video files, stack by stack, as npy files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from stream_i3d.cli import completion
from stream_i3d.cli.options import config_of, setting_option
from stream_i3d.cli.output import say
from stream_i3d.display_text import clean_text


@click.command()
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...", shell_complete=completion.files)
@click.option(
    "--streams",
    default="rgb,flow",
    show_default=True,
    help="rgb, flow, or both with a comma.",
    shell_complete=completion.words("rgb", "flow", "rgb,flow"),
)
@click.option("--stack-size", default=64, show_default=True, type=click.IntRange(8, 1024), help="Frames in a stack.")
@click.option("--step-size", default=64, show_default=True, type=click.IntRange(1, 10000), help="Frames to the next.")
@click.option("--fps", default=25.0, show_default=True, type=click.FloatRange(1, 240), help="Frames sampled a second.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder of the files; made if missing.")
@setting_option("model.checkpoint", "Weights of the RGB network: a name of `weights list`, or a file.")
@setting_option("model.flow_checkpoint", "Weights of the flow network.")
@setting_option("model.flow")
@setting_option("model.device")
@setting_option("model.precision")
@setting_option("model.threads")
@click.option("--force", is_flag=True, help="Extract again what is there already.")
def extract(videos: tuple[str, ...], streams: str, force: bool, output: Path, **flags: Any) -> None:
    """Write I3D features of video files: 1024 numbers per stack and stream.

    \b
    NAME_rgb.npy, NAME_flow.npy   (stacks, 1024) float32
    NAME_fps.npy                  frames per second that were sampled
    NAME_timestamps_ms.npy        time of each stack's last frame

    A video whose files are all there is skipped, so a call that was cut off can be repeated.
    """
    from stream_i3d.capture.decoder_logging import silence_ffmpeg

    silence_ffmpeg()
    from stream_i3d.config import TWO_STREAM
    from stream_i3d.inference.extract import ExtractJob, check_videos, make_output, parse_streams
    from stream_i3d.inference.setup import wait_passively

    chosen = parse_streams(streams)
    sizes = {name: flags.pop(name) for name in ("stack_size", "step_size", "fps")}
    if "flow" not in chosen:
        flags["model__flow_checkpoint"] = None  # given, but of no use: not an error
    name = TWO_STREAM if "flow" in chosen else "i3d"
    job = ExtractJob(streams=chosen, model=config_of(None, flags, {"model.name": name}).model, output=output, **sizes)
    check_videos(videos)
    make_output(output)
    left = [video for video in videos if force or not job.done(video)]
    for video in videos:
        if video not in left:
            say(f"{video}: skipped, its files are there (--force extracts again)", err=True)
    wait_passively()
    if left and _extract_all(left, job):
        sys.exit(2)


def _extract_all(videos: list[str], job: Any) -> int:
    """Extract each video; return how many could not be, all of them where none gave a stack."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress, TaskID

    from stream_i3d.errors import EngineError, SourceError
    from stream_i3d.inference.extract import Extractor

    extractor, failed, any_stack = Extractor(job), 0, False
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        for video in videos:
            task = progress.add_task(escape(clean_text(Path(video).name)), total=None)

            def advance(time: float, duration: float | None, task: TaskID = task) -> None:
                progress.update(task, completed=time, total=duration)

            try:
                stacks = extractor.run(video, advance)
            except (SourceError, EngineError) as error:  # one bad file does not lose the others
                failed += 1
                say(f"error: {error}", err=True)
                continue
            any_stack = any_stack or stacks > 0
            short = f" (shorter than one stack of {job.stack_size} frames at {job.fps:g} fps)" if not stacks else ""
            say(f"{video}: {stacks} stack{'' if stacks == 1 else 's'}{short}", err=True)
    return failed if any_stack else len(videos)
