"""`stream-i3d keys`, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq.auth
from click.testing import CliRunner, Result

from stream_i3d.cli.app import app
from stream_i3d.errors import ConfigError
from stream_i3d.transport.keys import fingerprint


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in ("keys", *arguments)])


def test_new_writes_two_files_and_says_which_is_secret(tmp_path: Path) -> None:
    done = run("new", "me", "--folder", tmp_path)
    assert done.exit_code == 0
    secret, public = tmp_path / "me.key_secret", tmp_path / "me.key"
    assert [line.split("  ") for line in done.stdout.splitlines()] == [
        [str(secret), "secret: keep it here, and to yourself"],
        [str(public), "public: give it to the other side"],
    ]
    assert secret.stat().st_mode & 0o777 == 0o600
    assert zmq.auth.load_certificate(secret)[0] == zmq.auth.load_certificate(public)[0]


def test_new_goes_into_the_users_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_i3d.transport.keys.default_folder", lambda: tmp_path / "settings" / "keys")
    assert run("new", "me").exit_code == 0
    assert (tmp_path / "settings" / "keys" / "me.key_secret").exists()


def test_a_second_new_of_the_same_name_changes_nothing(tmp_path: Path) -> None:
    run("new", "me", "--folder", tmp_path)
    before = (tmp_path / "me.key_secret").read_bytes()
    again = run("new", "me", "--folder", tmp_path)
    assert isinstance(again.exception, ConfigError) and "never overwritten" in str(again.exception)
    assert (tmp_path / "me.key_secret").read_bytes() == before


def test_show_prints_the_public_key_of_either_file_and_nothing_else(tmp_path: Path) -> None:
    run("new", "me", "--folder", tmp_path)
    public, secret = zmq.auth.load_certificate(tmp_path / "me.key_secret")
    assert secret is not None
    for name in ("me.key", "me.key_secret"):
        done = run("show", tmp_path / name)
        assert done.stdout == f"{public.decode()}\n"
        assert secret.decode() not in done.output
        assert run("show", "--fingerprint", tmp_path / name).stdout == f"{fingerprint(public)}\n"
