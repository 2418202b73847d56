"""`stream-i3d recognize`: video files, offline, at full speed; JSON lines out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import click

from stream_i3d.cli import completion
from stream_i3d.cli.options import config_of, recognition_options
from stream_i3d.cli.output import say
from stream_i3d.display_text import clean_json, clean_text
from stream_i3d.files import kind_of, same_file

_SHOWN = 10


@click.command()
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...", shell_complete=completion.files)
@recognition_options
@click.option("--output", help="File for the JSON lines; else standard output.", shell_complete=completion.files)
@click.option("--segments-only", is_flag=True, help="Leave out the single windows.")
def recognize(
    videos: tuple[str, ...], config_file: Path | None, output: str | None, segments_only: bool, **flags: Any
) -> None:
    """Recognise actions in video files: every window as a prediction, then merged segments, as JSON lines.

    A folder stands for the videos in it and its subfolders. The exit code is 2 where a file cannot be read or has too
    few pictures a second, and where no file gave a prediction.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress, TaskID

    from stream_i3d.api.recognizer import Recognizer
    from stream_i3d.errors import EngineError, SourceError, SourceNotFound
    from stream_i3d.inference.offline import Ending
    from stream_i3d.messages import Segment
    from stream_i3d.transport.wire import to_json_line

    config = config_of(config_file, flags)
    files, in_folders = _files_of(videos)
    recognizer = Recognizer.from_config(config).load()
    failed = predictions = 0
    no_videos: list[str] = []
    with ExitStack() as stack:
        sink = stack.enter_context(_open(output, files))
        progress = stack.enter_context(Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()))
        for video in files:
            task = progress.add_task(escape(clean_text(Path(video).name)), total=None)

            def advance(time: float, duration: float | None, task: TaskID = task) -> None:
                progress.update(task, completed=time, total=duration)

            endings: list[Ending] = []
            try:
                for message in recognizer.messages(video, progress=advance, ended=endings.append):
                    if isinstance(message, Segment) or not segments_only:
                        sink.write(clean_json(to_json_line(message)))
            except (SourceError, EngineError) as error:  # one bad file does not lose the others
                if isinstance(error, SourceNotFound) and video in in_folders:
                    no_videos.append(str(error))  # what lies beside videos need not be one
                    continue
                failed += 1
                say(f"error: {error}", err=True)
            for ending in endings:
                predictions += ending.predictions
                failed += ending.too_slow
                if ending.problem is not None:
                    say(f"error: {ending.problem}", err=True)
            sink.flush()
    _show_left_out(no_videos)
    if failed or not predictions:
        sys.exit(2)


def _files_of(videos: Sequence[str]) -> tuple[list[str], set[str]]:
    """Return all files that are meant, and those of them that were found in folders."""
    from stream_i3d.capture.video_folder import find_videos, log_left_out
    from stream_i3d.errors import ConfigError
    from stream_i3d.inference.offline import offline_address

    files: list[str] = []
    in_folders: set[str] = set()
    for video in videos:
        address = offline_address(video)
        kind = kind_of(address.target) if address.kind == "file" else "file"
        if kind == "folder":
            found = find_videos(address.target)
            log_left_out(address.target, found.left_out)
            if not found.videos:
                raise ConfigError(f"no video in the folder {video}; give video files, or a folder with some in it")
            readable = [path for path in found.videos if _is_text(path)]
            _show_left_out(
                [f"{path!a}: its name is not UTF-8; rename it" for path in found.videos if not _is_text(path)]
            )
            files += readable
            in_folders.update(readable)
        elif kind is None:
            raise ConfigError(f"no such file: {video}; give video files, or a folder of them")
        else:
            files.append(video)
    return files, in_folders


def _is_text(path: str) -> bool:
    """Tell whether a message can name a path: bytes that are not UTF-8 come from the system as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in path)


def _show_left_out(reasons: Sequence[str]) -> None:
    """Say which files of folders could not be read, ten at most."""
    for reason in reasons[:_SHOWN]:
        say(f"left out: {reason}", err=True)
    if len(reasons) > _SHOWN:
        say(f"left out: {len(reasons) - _SHOWN} more files that are no videos", err=True)


def _open(output: str | None, videos: Sequence[str]) -> AbstractContextManager[BinaryIO]:
    from stream_i3d.errors import ConfigError

    if output in (None, "-"):
        return nullcontext(sys.stdout.buffer)
    if any(same_file(str(output), video) for video in videos):
        raise ConfigError(f"--output {output} is one of the videos, and would be overwritten; give another file")
    try:
        return Path(str(output)).open("wb")
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}; give a file in a folder that exists") from None
