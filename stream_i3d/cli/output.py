"""Printing of commands. All text passes through display_text, as it may quote cameras, files and peers."""

from __future__ import annotations

import click

from stream_i3d.display_text import clean_json, clean_lines, clean_text

_LONGEST = 100_000


def say(text: str, err: bool = False) -> None:
    """Print one line, on standard error with `err`."""
    click.echo(clean_text(text, _LONGEST), err=err)


def say_lines(text: str) -> None:
    """Print text of several lines as it is, without a line end after it."""
    click.echo(clean_lines(text, 10 * _LONGEST), nl=False)


def say_json(line: bytes) -> None:
    """Print a line of JSON."""
    click.echo(clean_json(line).decode())
