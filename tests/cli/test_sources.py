"""NAME=SOURCE and --loop on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from stream_i3d.capture.address import split_name
from stream_i3d.cli import gui as gui_command
from stream_i3d.cli.app import app as cli
from stream_i3d.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "name", "source"),
    [
        ("0", None, "0"),
        ("door=0", "door", "0"),
        ("door=/dev/video0", "door", "/dev/video0"),
        ("door=rtsp://u:a=b@h/p?a=b&c=d", "door", "rtsp://u:a=b@h/p?a=b&c=d"),
        ("rtsp://h/p?a=b", None, "rtsp://h/p?a=b"),
        ("rtsp://u:a=b@h/p", None, "rtsp://u:a=b@h/p"),
        ("synthetic://?seed=1", None, "synthetic://?seed=1"),
        ("hall=synthetic://?seed=1", "hall", "synthetic://?seed=1"),
        ("clips/take=2.mp4", None, "clips/take=2.mp4"),
        ("take=2.mp4", "take", "2.mp4"),
        ("a b=c.mp4", None, "a b=c.mp4"),
        ("yard=a=b.mp4", "yard", "a=b.mp4"),
        ("door=${CAMERA}", "door", "${CAMERA}"),
        ("-", None, "-"),
    ],
)
def test_a_name_before_the_source_is_told_from_the_source(text: str, name: str | None, source: str) -> None:
    assert split_name(text) == (name, source)


def test_a_file_that_there_is_keeps_its_name() -> None:
    assert split_name("take=2.mp4", lambda path: path == "take=2.mp4") == (None, "take=2.mp4")


@pytest.mark.parametrize("text", ["my door=a.mp4", "[/]=a.mp4", "../x=a.mp4"])
def test_a_name_that_cannot_be_one_is_told_before_a_file_that_is_there(text: str) -> None:
    with pytest.raises(ConfigError, match="a camera's name has 1 to 64 letters"):
        split_name(text, lambda path: path == "a.mp4")


@pytest.mark.parametrize("text", ["my cam=rtsp://h/p", "=0", "tür=rtsp://h/p", "a/b=rtsp://h/p", "x" * 65 + "=0"])
def test_a_name_that_cannot_be_one_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="a camera's name has 1 to 64 letters"):
        split_name(text)


def test_a_name_without_a_source_is_told() -> None:
    with pytest.raises(ConfigError, match="nothing follows the '='"):
        split_name("door=")


def test_a_password_in_front_of_a_mistake_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        split_name("admin:s3cret@h/x=rtsp://h/p")
    assert "s3cret" not in str(caught.value)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    windows: list[dict[str, Any]] = []
    monkeypatch.setattr(gui_command, "open_window", lambda **given: windows.append(given))
    return windows


@pytest.mark.parametrize("command", [["run", "--gui"], ["gui"]])
def test_run_and_gui_take_names_and_loop(opened: list[dict[str, Any]], command: list[str]) -> None:
    done = CliRunner().invoke(cli, [*command, "--source", "door=rtsp://h/p?a=b", "--source", "1", "--loop"])
    assert done.exit_code == 0, done.output
    config = opened[0]["config"]
    assert [(camera.name, camera.source) for camera in config.cameras] == [("door", "rtsp://h/p?a=b"), (None, "1")]
    assert config.capture.loop


def test_two_cameras_of_one_name_are_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["run", "--source", "a=0", "--source", "a=1"])
    assert done.exit_code != 0
    assert "the name 'a' is given twice" in (done.output or str(done.exception))


def test_ctl_add_with_two_names_is_told() -> None:
    done = CliRunner().invoke(cli, ["ctl", "add", "door=0", "--name", "yard"])
    assert done.exit_code != 0
    assert "two names for one camera, 'door' and 'yard'" in (done.output or str(done.exception))
