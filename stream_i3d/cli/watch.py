"""`stream-i3d watch`: subscribes to a running service; a table in a terminal, JSON lines in a pipe."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream_i3d.cli.options import SecondsOption, client_key_options
from stream_i3d.cli.output import say
from stream_i3d.config import PublishConfig

if TYPE_CHECKING:
    from stream_i3d.api.subscription import Subscription
    from stream_i3d.transport.wire import Published

_KINDS = ("prediction", "event", "status")  # api.subscription.KINDS, whose module imports ZeroMQ


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
    kinds: tuple[Any, ...],
    duration: float | None,
    count: int | None,
    as_json: bool,
) -> None:
    """Show what a running service publishes."""
    from stream_i3d.api.subscription import subscribe
    from stream_i3d.display_text import clean_json
    from stream_i3d.transport.wire import to_json_line

    until = float("inf") if duration is None else time.monotonic() + duration

    def messages(subscription: Subscription) -> Iterator[Published | None]:
        """Yield messages as they come, and None now and then so that the caller can redraw."""
        left = count
        while time.monotonic() < until and left != 0:
            message = subscription.receive(min(0.25, max(0.0, until - time.monotonic())))
            if message is not None and left is not None:
                left -= 1
            yield message

    subscription = subscribe(connect, cameras=cameras, kinds=kinds, key=key, server_key=server_key)
    with contextlib.suppress(KeyboardInterrupt), subscription:
        if as_json or not sys.stdout.isatty():
            for message in messages(subscription):
                if message is not None:
                    sys.stdout.buffer.write(clean_json(to_json_line(message)))
                    sys.stdout.buffer.flush()
        else:
            _show_table(connect, messages(subscription))
    if subscription.rejected:
        say(f"{subscription.rejected} messages were not ours and were left out", err=True)


def _show_table(connect: str, messages: Iterator[Published | None]) -> None:
    """Show the newest of each camera until the messages end."""
    from rich.live import Live
    from rich.table import Table

    from stream_i3d.display_text import rich_text
    from stream_i3d.service.terminal.board import COLUMNS, Board

    board = Board()

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
                board.take(message)
            live.update(table())
