"""The commands that open the window: what they hand to it, and that its process stays free of OpenCV."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner

from stream_i3d.cli import gui
from stream_i3d.cli.app import app
from stream_i3d.cli.demo import _has_screen
from stream_i3d.service import demo as demo_service
from stream_i3d.service.demo_settings import demo_config


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the window was opened with."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(gui, "open_window", lambda **given: calls.append(given))
    return calls


def test_run_with_a_window_gives_it_the_whole_configuration(opened: list[dict[str, Any]]) -> None:
    done = CliRunner().invoke(app, ["run", "--gui", "--source", "0", "--stride", "4", "--control", "off"])
    assert done.exit_code == 0, done.output
    [given] = opened
    assert [camera.source for camera in given["config"].cameras] == ["0"]
    assert given["config"].window.stride == 4


def test_run_with_a_window_ends_after_its_time(opened: list[dict[str, Any]]) -> None:
    done = CliRunner().invoke(app, ["run", "--gui", "--source", "0", "--duration", "12"])
    assert done.exit_code == 0, done.output
    assert opened[0]["duration_s"] == 12.0


def test_the_demo_with_a_window_ends_after_its_time(opened: list[dict[str, Any]]) -> None:
    done = CliRunner().invoke(app, ["demo", "--gui", "--seed", "3", "--duration", "12"])
    assert done.exit_code == 0, done.output
    assert opened == [{"config": demo_config(3), "duration_s": 12.0}]


@pytest.mark.parametrize(("display", "arguments", "window"), [(":9", [], 1), ("", [], 0), (":9", ["--no-gui"], 0)])
def test_the_demo_opens_a_window_where_there_is_a_screen(
    opened: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, display: str, arguments: list[str], window: int
) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("stream_i3d.cli.demo.sys.platform", "linux")
    in_text: list[int] = []

    def run_demo(*_: object) -> Any:
        in_text.append(1)
        raise demo_service.ServiceError("enough")

    monkeypatch.setattr(demo_service, "run_demo", run_demo)
    CliRunner().invoke(app, ["demo", *arguments])
    assert (len(opened), len(in_text)) == (window, 1 - window)


def test_without_pyqt_there_is_no_screen_to_show_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":9")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not _has_screen()


def test_a_window_is_opened_before_opencv_or_torch_is_imported() -> None:
    code = (
        "import sys\n"
        "from stream_i3d.cli import gui, main\n"
        "gui.open_window = lambda **given: print(*{'cv2', 'torch'} & set(sys.modules), len(given))\n"
        "main(sys.argv[1:])"
    )
    for arguments, given in ((["run", "--gui", "--source", "0"], "1"), (["demo", "--gui"], "2")):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [given]


SERVICE_FLAGS = ["--fast", "--no-retry", "--jsonl", "-", "--publish", "tcp://127.0.0.1:7001", "--monitor", "--quiet"]


def test_a_window_of_its_own_service_takes_the_sources_and_options_of_run(opened: list[dict[str, Any]]) -> None:
    sources = ["0", "http:clip.mp4", "synthetic://?seed=3", "rtsp://camera/x", "file:///a%20b.mp4"]
    arguments = [word for source in sources for word in ("--source", source)]
    for command in (["gui"], ["run", "--gui"]):
        done = CliRunner().invoke(app, [*command, *arguments, *SERVICE_FLAGS, "--stride", "4", "--duration", "12"])
        assert done.exit_code == 0, done.output
    by_gui, by_run = opened
    assert by_gui == by_run
    assert [camera.source for camera in by_gui["config"].cameras] == sources
    assert (by_gui["config"].capture.fast, by_gui["duration_s"]) == (True, 12.0)


def test_every_option_of_run_but_keys_is_one_of_the_window() -> None:
    options = {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in (("run", app.get_command(None, "run")), ("gui", app.get_command(None, "gui")))  # type: ignore[union-attr,arg-type]
    }
    assert options["run"] - options["gui"] == {"--clients", "--gui", "--end-with-input"}


def test_a_flag_of_a_service_is_refused_beside_one_that_runs() -> None:
    done = CliRunner().invoke(app, ["gui", "--connect", "tcp://127.0.0.1:5557", "--fast"])
    assert "give --connect alone" in str(done.exception)
