"""`stream-i3d events list|export`: reads the event store, also while the service runs."""

from __future__ import annotations

import contextlib
import csv
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from stream_i3d.cli import completion
from stream_i3d.cli.config_files import ConfigFile
from stream_i3d.cli.output import say
from stream_i3d.display_text import clean_json, clean_text, csv_cell
from stream_i3d.errors import ConfigError

if TYPE_CHECKING:
    from stream_i3d.publish.store_query import Action

_F = TypeVar("_F", bound=Callable[..., Any])

_LIMIT = click.IntRange(1, 10**9)
_FILTERS = [
    click.option("--store", type=click.Path(path_type=Path), help="The event store: `path` of the `store` sink."),
    click.option("--config", "config_file", type=ConfigFile("run"), help="Or the service's YAML file."),
    click.option("--camera", "cameras", multiple=True, help="Only actions of this camera; repeatable."),
    click.option("--label", "labels", multiple=True, help="Only this action; repeatable."),
    click.option("--since", help="Only actions that started since: 2h, 7d, or an ISO date (2026-11-21T18:30)."),
    click.option("--until", help="Only actions that started until, likewise."),
]


def _filters(command: _F) -> _F:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


@click.group()
def events() -> None:
    """Show and export the actions in the event store (docs/sinks.md)."""


@events.command("list")
@_filters
@click.option("--limit", type=_LIMIT, default=50, show_default=True, help="How many at most; the newest are kept.")
@click.option("--json", "as_json", is_flag=True, help="As JSON lines.")
def list_events(limit: int, as_json: bool, **filters: Any) -> None:
    """List the newest actions in order of time.

    \b
    stream-i3d events list --store events.sqlite3 --since 2h --camera door
    """
    actions = _read(filters, limit)
    if as_json:
        _write_json(actions, sys.stdout)
    else:
        _write_table(list(actions))


@events.command()
@_filters
@click.option("--limit", type=_LIMIT, help="How many at most; the newest are kept (default: all).")
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True)
@click.option(
    "--output", default="-", help="A file; '-' (the default) is standard output.", shell_complete=completion.files
)
def export(limit: int | None, form: str, output: str, **filters: Any) -> None:
    """Write all actions as CSV or JSON lines.

    \b
    stream-i3d events export --store events.sqlite3 --since 2026-11-01 --output november.csv
    """
    with contextlib.suppress(OSError):  # one of the files does not exist
        if Path(output).expanduser().samefile(_store(filters["store"], filters["config_file"])):
            raise ConfigError(f"--output {output} is the event store itself, which would be lost: give another file")
    actions = _read(filters, limit)
    first = list(islice(actions, 1))  # read before the file is emptied: the store may not exist
    with _opened(output) as file:
        (_write_csv if form == "csv" else _write_json)(chain(first, actions), file)


def _read(filters: dict[str, Any], limit: int | None) -> Iterator[Action]:
    from stream_i3d.publish.store_query import Wanted, parse_moment, read_actions

    now = time.time()
    since, until = (None if filters[key] is None else parse_moment(filters[key], now) for key in ("since", "until"))
    if since is not None and until is not None and since > until:
        raise ConfigError(
            f"--since {filters['since']} is after --until {filters['until']}: nothing can be between them"
        )
    wanted = Wanted(cameras=filters["cameras"], labels=filters["labels"], since=since, until=until, limit=limit)
    return read_actions(_store(filters["store"], filters["config_file"]), wanted)


def _store(store: Path | None, config_file: Path | None) -> Path:
    """Return where the store is, as given or as the configuration says."""
    if (store is None) == (config_file is None):
        raise ConfigError("give --store FILE, or --config FILE of the service that writes it")
    if store is not None:
        return store.expanduser()
    from stream_i3d.config import load_config
    from stream_i3d.sink_settings import StoreSettings

    for sink in load_config(config_file, {}).sinks:
        if isinstance(sink, StoreSettings):
            return Path(sink.path).expanduser()
    raise ConfigError(f"{config_file} has no sink of type store; give --store FILE")


def _fields(action: Action) -> dict[str, Any]:
    from stream_i3d.publish.store_query import iso

    return {
        "id": action.id,
        "camera": action.camera,
        "label": action.label,
        "start": iso(action.start_time),
        "end": iso(action.end_time),
        "start_time": action.start_time,
        "end_time": action.end_time,
        "seconds": None if action.seconds is None else round(action.seconds, 3),
        "peak_confidence": action.peak_confidence,
        "clip": action.clip,
    }


def _write_json(actions: Iterable[Action], file: IO[str]) -> None:
    import msgspec

    for action in actions:
        file.write(clean_json(msgspec.json.encode(_fields(action))).decode() + "\n")


def _write_csv(actions: Iterable[Action], file: IO[str]) -> None:
    columns = ["id", "camera", "label", "start", "end", "start_time", "end_time", "seconds", "peak_confidence", "clip"]
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    for action in actions:
        fields = _fields(action)
        writer.writerow({key: csv_cell(value) if isinstance(value, str) else value for key, value in fields.items()})


def _write_table(actions: list[Action]) -> None:
    from stream_i3d.publish.store_query import local

    rows = [("started", "camera", "action", "lasted", "peak", "clip")]
    for one in actions:
        lasted = "going on" if one.seconds is None else f"{one.seconds:.1f} s"
        camera, label, clip = clean_text(one.camera), clean_text(one.label), clean_text(one.clip or "")
        rows.append((local(one.start_time), camera, label, lasted, f"{one.peak_confidence:.2f}", clip))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if not actions:
        say("no actions", err=True)


@contextmanager
def _opened(output: str) -> Iterator[IO[str]]:
    if output == "-":
        yield sys.stdout
        return
    try:
        with Path(output).expanduser().open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise ConfigError(
            f"cannot write {output}: {error.strerror}; give a file in a folder that exists, on a disk with room"
        ) from None
