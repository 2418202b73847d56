"""`stream-i3d recognize`: video files, offline, at full speed; JSON lines out."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import click

from stream_i3d.cli.options import config_of, recognition_options
from stream_i3d.cli.output import say
from stream_i3d.display_text import clean_json, clean_text
from stream_i3d.files import kind_of


@click.command()
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...")
@recognition_options
@click.option("--output", help="File for the JSON lines; else standard output.")
@click.option("--segments-only", is_flag=True, help="Leave out the single windows.")
def recognize(
    videos: tuple[str, ...], config_file: Path | None, output: str | None, segments_only: bool, **flags: Any
) -> None:
    """Recognise actions in video files: every window as a prediction, then merged segments, as JSON lines."""
    from stream_i3d.capture.silence import silence_ffmpeg

    silence_ffmpeg()
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress, TaskID

    from stream_i3d.errors import ConfigError, SourceError
    from stream_i3d.inference.mode import load_mode_engine
    from stream_i3d.inference.offline import offline_address, recognize_video
    from stream_i3d.inference.setup import settle_model, wait_passively
    from stream_i3d.messages import Segment
    from stream_i3d.transport.wire import to_json_line

    config = config_of(config_file, flags)
    for video in videos:
        address = offline_address(video)
        if address.kind == "file" and kind_of(address.target) != "file":
            raise ConfigError(f"no such file: {video}; give video files")
    setup = settle_model(config.model, config.window)
    wait_passively()
    engine = load_mode_engine(setup, config.window)
    failed = 0
    with ExitStack() as stack:
        sink = stack.enter_context(_open(output))
        progress = stack.enter_context(Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()))
        for video in videos:
            task = progress.add_task(escape(clean_text(Path(video).name)), total=None)

            def advance(time: float, duration: float | None, task: TaskID = task) -> None:
                progress.update(task, completed=time, total=duration)

            try:
                for message in recognize_video(video, engine, setup, config, advance):
                    if isinstance(message, Segment) or not segments_only:
                        sink.write(clean_json(to_json_line(message)))
            except SourceError as error:  # one bad file does not lose the others
                failed += 1
                say(f"error: {error}", err=True)
            sink.flush()
    if failed:
        sys.exit(2)


def _open(output: str | None) -> AbstractContextManager[BinaryIO]:
    from stream_i3d.errors import ConfigError

    if output in (None, "-"):
        return nullcontext(sys.stdout.buffer)
    try:
        return Path(str(output)).open("wb")
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}; give a file in a folder that exists") from None
