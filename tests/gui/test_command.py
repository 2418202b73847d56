"""`stream-i3d gui` as a user types it."""

from __future__ import annotations

import os
import sys

import pytest
from click.testing import CliRunner

from stream_i3d.cli import gui as command
from stream_i3d.cli.app import app
from stream_i3d.config import Config
from stream_i3d.errors import ConfigError
from stream_i3d.transport.keys import ClientKeys
from tests.keys import Ring

Opened = tuple[Config | None, str | None, ClientKeys | None]


@pytest.fixture
def opened(monkeypatch) -> list[Opened]:
    calls: list[Opened] = []
    monkeypatch.setattr(
        command, "open_window", lambda config=None, connect=None, keys=None: calls.append((config, connect, keys))
    )
    return calls


def test_without_anything_the_window_looks_for_a_service_at_the_default_address(opened):
    assert CliRunner().invoke(app, ["gui"]).exit_code == 0
    assert opened == [(None, None, None)]


def test_keys_are_taken_to_a_service_that_runs_and_to_no_other(opened, tmp_path):
    ring = Ring.make(tmp_path)
    given = ["--key", str(ring.clients / "friend.key_secret"), "--server-key", str(ring.folder / "service.key")]
    assert CliRunner().invoke(app, ["gui", "--connect", "tcp://camera-host:5557", *given]).exit_code == 0
    assert opened == [(None, "tcp://camera-host:5557", ring.client())]
    result = CliRunner().invoke(app, ["gui", "--source", "0", *given])
    assert isinstance(result.exception, ConfigError) and "--connect alone (with keys" in str(result.exception)
    assert len(opened) == 1


def test_a_source_or_a_flag_starts_a_service_of_its_own(opened):
    given = ["gui", "--source", "0", "--source", "synthetic://", "--stride", "4"]
    assert CliRunner().invoke(app, given).exit_code == 0
    ((config, connect, keys),) = opened
    assert connect is None and keys is None and config is not None
    assert [camera.source for camera in config.cameras] == ["0", "synthetic://"] and config.window.stride == 4


def test_connecting_and_starting_at_once_is_refused(opened):
    result = CliRunner().invoke(app, ["gui", "--connect", "tcp://127.0.0.1:5557", "--source", "0"])
    assert isinstance(result.exception, ConfigError) and "--connect alone" in str(result.exception)
    assert opened == []


def test_an_address_that_is_none_is_one_line_and_exit_code_2(cli):
    result = cli("gui", "--connect", "nonsense", env={"QT_QPA_PLATFORM": "offscreen"})
    assert result.returncode == 2
    assert result.stderr.startswith("error: address 'nonsense'") and result.stderr.count("\n") == 1


def test_without_pyqt6_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "stream_i3d_gui.app", None)
    for name in [name for name in sys.modules if name.startswith("PyQt6")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "stream_i3d_gui.app")
    for name in [name for name in sys.modules if name.startswith("stream_i3d_gui")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigError, match=r"pip install 'stream-i3d\[gui\]'"):
        command.open_window()


def test_the_screen_is_not_needed_to_be_told_of_a_mistake(cli):
    result = cli("gui", "--strid", "4", env={**os.environ, "QT_QPA_PLATFORM": "nonsense"})
    assert result.returncode == 2 and "--stride" in result.stderr
