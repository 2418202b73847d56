"""What is changed by `ctl` in a real service is there again after a restart, where that was asked for."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.test_end_to_end import SCENE, running

Cli = Callable[..., subprocess.CompletedProcess[str]]
OTHER = "synthetic://?seed=3&fps=30&size=160x120"


@pytest.mark.slow
def test_cameras_and_settings_are_kept_and_a_broken_file_is_left_alone(
    cli: Cli, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    state, control = tmp_path / "state.json", f"tcp://127.0.0.1:{free_port()}"
    arguments = ("--source", SCENE, "--checkpoint", tiny_checkpoint, "--control", control, "--state", state)

    def ask(*words: object) -> Any:
        done = cli("ctl", *words, "--connect", control, "--timeout", 60, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    with running(*arguments) as service:
        ask("add", OTHER, "--name", "yard")
        ask("remove", "synthetic")
        ask("set", "window.stride=4")
        ask("source", "yard", SCENE)
        service.process.terminate()
        service.process.wait(60)
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    with running(*arguments) as service:
        listed = ask("cameras")["cameras"]
        assert [(camera["name"], camera["source"]) for camera in listed] == [("yard", SCENE)]
        assert ask("set")["settings"]["window.stride"] == 4
        assert {stage["name"] for stage in ask("status")["cameras"]} == {"yard"}
        service.process.terminate()
        service.process.wait(60)
    state.write_text("{")
    done = cli("run", *arguments, "--publish", "tcp://127.0.0.1:*")
    assert done.returncode == 2
    assert "or damaged; mend it, or remove it" in done.stderr.strip().splitlines()[-1]
    assert state.read_text() == "{"
