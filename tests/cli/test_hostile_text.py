"""What commands print of labels, names and metadata that mean harm."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from stream_i3d.cli import main, watch
from stream_i3d.cli.app import app
from stream_i3d.publish.store_sink import StoreSink
from stream_i3d.sink_settings import StoreSettings
from tests.publish.test_store import action
from tests.samples import event, recognition, status
from tests.waiting import WAIT_S

HOSTILE = "=cmd\x1b[2J\x9b31m\u202e[/]"
SHOWN = "=cmd\\x1b[2J\\x9b31m\\u202e[/]"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    from msgspec import structs

    path = tmp_path / "events.sqlite3"
    sink = StoreSink(StoreSettings(path=str(path)), "store", [], "run")
    for one in action(1):
        sink.write(structs.replace(one, label=HOSTILE))
    sink.close(WAIT_S)
    return path


def test_events_list_shows_escapes_and_obeys_none(store: Path) -> None:
    shown = CliRunner().invoke(app, ["events", "list", "--store", str(store)]).output
    assert SHOWN in shown
    as_json = CliRunner().invoke(app, ["events", "list", "--json", "--store", str(store)]).output
    assert not set("\x1b\x9b\u202e") & set(shown + as_json)


def test_a_csv_export_has_no_formula_and_its_numbers_stay_numbers(store: Path) -> None:
    [row] = csv.DictReader(io.StringIO(CliRunner().invoke(app, ["events", "export", "--store", str(store)]).output))
    assert row["label"] == f"'{SHOWN}"
    assert float(row["peak_confidence"]) > 0 and float(row["start_time"]) > 0


@pytest.mark.parametrize("text", ["[/]", "[/bold]", "[link=https://evil.example]here", HOSTILE])
def test_watch_shows_hostile_text_as_it_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(width=400, force_terminal=True, color_system=None, file=io.StringIO())
    monkeypatch.setattr("rich.live.get_console", lambda: console)
    said = [recognition(label=text), event(label=text), status(detail=text)]
    watch._show_table("tcp://127.0.0.1:5556", iter(said))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert (SHOWN if text == HOSTILE else text) in shown
    assert not set("\x9b\u202e") & set(shown)
    assert "\x1b[2J" not in shown


def test_an_error_quotes_hostile_input_without_its_escape_codes(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["config", "check", "none\x1b[31m\u202e.yaml"])
    said = capfd.readouterr().err
    assert said.startswith("error: ") and not set("\x1b\u202e") & set(said)
