"""`stream-i3d models`: lists the architectures with their cost, published accuracy and weights."""

from __future__ import annotations

import sys

import click

from stream_i3d.cli.output import say_json
from stream_i3d.display_text import clean_lines


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def models(as_json: bool) -> None:
    """List the architectures: input, parameters, GFLOPs (a multiply-add is two), weights here, published accuracy."""
    import msgspec

    from stream_i3d.models.overview import overview

    rows = overview()
    if as_json:
        say_json(msgspec.json.encode(rows))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("name", "input", "M params", "GFLOPs", "weights at hand", "top-1 / top-5", "source")
    for row in rows:
        table.add_row(*(Text(clean_lines(cell)) for cell in row.cells()))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
