"""`stream-i3d watch`: subscribes to a running service; a table in a terminal, JSON lines in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from stream_i3d.cli.options import SecondsOption, client_key_options, client_keys
from stream_i3d.cli.output import say
from stream_i3d.config import PublishConfig

_KINDS = ("prediction", "event", "status")


@click.command()
@click.option("--connect", default=PublishConfig().address, show_default=True, help="Address of the running service.")
@client_key_options
@click.option("--camera", "cameras", multiple=True, help="Only this camera; repeatable.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(_KINDS), help="Only such messages; repeatable.")
@click.option("--duration", type=SecondsOption(), help="Seconds to watch; else until Ctrl-C.")
@click.option("--count", type=click.IntRange(min=1), help="Messages to watch.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines also in a terminal.")
def watch(
    connect: str,
    key: Path | None,
    server_key: Path | None,
    cameras: tuple[str, ...],
    kinds: tuple[str, ...],
    duration: float | None,
    count: int | None,
    as_json: bool,
) -> None:
    """Show what a running service publishes."""
    from stream_i3d.display_text import clean_json
    from stream_i3d.errors import WireError
    from stream_i3d.service.terminal.board import Board
    from stream_i3d.transport.addresses import check_address
    from stream_i3d.transport.sockets import Subscriber
    from stream_i3d.transport.wire import Published, decode_published, to_json_line

    topics = [f"v1/{camera}/{kind}" for camera in cameras or ("",) for kind in kinds or ("",)] if cameras else ["v1/"]
    board, until = Board(), float("inf") if duration is None else time.monotonic() + duration

    def messages(subscriber: Subscriber) -> Iterator[Published | None]:
        """Yield messages as they come, and None now and then so that the caller can redraw."""
        left = count
        while time.monotonic() < until and left != 0:
            parts = subscriber.receive(min(0.25, max(0.0, until - time.monotonic())))
            if parts is None:
                yield None
                continue
            try:
                message = decode_published(parts)
            except WireError:
                board.rejected += 1
                continue
            if kinds and not parts[0].decode().endswith(kinds):
                continue
            left = None if left is None else left - 1
            yield message

    try:
        with Subscriber(check_address(connect), topics, client_keys(key, server_key)) as subscriber:
            if as_json or not sys.stdout.isatty():
                for message in messages(subscriber):
                    if message is not None:
                        sys.stdout.buffer.write(clean_json(to_json_line(message)))
                        sys.stdout.buffer.flush()
            else:
                _show_table(connect, board, messages(subscriber))
    except KeyboardInterrupt:
        pass
    if board.rejected:
        say(f"{board.rejected} messages were not ours and were left out", err=True)


def _show_table(connect: str, board: object, messages: Iterator[object]) -> None:
    from rich.live import Live
    from rich.table import Table

    from stream_i3d.display_text import rich_text
    from stream_i3d.service.terminal.board import COLUMNS, Board

    assert isinstance(board, Board)

    def table() -> Table:
        drawn = Table(expand=True, title=rich_text(connect + ("" if board.rows() else ": nothing yet")))
        for column in COLUMNS[:-1]:
            drawn.add_column(column, no_wrap=True)
        drawn.add_column(COLUMNS[-1], no_wrap=True, overflow="ellipsis", ratio=1)  # the one that may be cut
        for row in board.rows():
            drawn.add_row(*map(rich_text, row.cells()))
        return drawn

    with Live(table(), refresh_per_second=8) as live:
        for message in messages:
            if message is not None:
                board.take(message)  # type: ignore[arg-type]
            live.update(table())
