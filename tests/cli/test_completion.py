"""What the shell completes: asked for each option as bash, zsh and fish ask."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import CompletionItem, ShellComplete

from stream_i3d.cli import completion
from stream_i3d.cli.app import app
from stream_i3d.models.registry import ARCHITECTURES
from stream_i3d.models.zoo import PUBLISHED
from stream_i3d.training.metrics import EVALUATIONS


def items(*words: str) -> list[CompletionItem]:
    """What is offered for the last word, with those before it typed."""
    complete = ShellComplete(app, {}, "stream-i3d", "_STREAM_I3D_COMPLETE")
    return complete.get_completions(list(words[:-1]), words[-1])


def offered(*words: str) -> list[str]:
    return [item.value for item in items(*words) if item.type == "plain"]


def takes_files(*words: str) -> bool:
    return any(item.type in ("file", "dir") for item in items(*words))


RECOGNITION = {
    "--flow": ["dis", "farneback", "tvl1"],
    "--fusion": ["probabilities", "logits"],
    "--model": list(ARCHITECTURES),
    "--labels": ["kinetics400", "kinetics600", "ucf101", "hmdb51"],
    "--backend": ["auto", "torch", "openvino", "onnxruntime", "tensorrt"],
    "--precision": ["auto", "fp32", "bf16", "fp16"],
    "--mode": ["window", "streaming"],
    "--smoothing": ["ema", "mean", "vote", "none"],
    "--checkpoint": ["motion", *PUBLISHED],
    "--flow-checkpoint": ["motion", *PUBLISHED],
}


@pytest.mark.parametrize("command", [("run",), ("gui",), ("recognize",), ("config", "show")])
@pytest.mark.parametrize("option", RECOGNITION)
def test_options_of_recognition_complete_their_values(command: tuple[str, ...], option: str) -> None:
    assert offered(*command, option, "") == RECOGNITION[option]


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (("run", "--log-format", ""), ["text", "json"]),
        (("watch", "--kind", ""), ["prediction", "event", "status"]),
        (("events", "export", "--format", ""), ["csv", "jsonl"]),
        (("extract", "--flow", ""), ["dis", "farneback", "tvl1"]),
        (("extract", "--precision", ""), ["auto", "fp32", "bf16", "fp16"]),
        (("extract", "--streams", ""), ["rgb", "flow", "rgb,flow"]),
        (("extract", "--checkpoint", "mo"), ["motion"]),
        (("export", "--format", ""), ["onnx", "openvino", "torch"]),
        (("export", "--mode", "s"), ["streaming"]),
        (("export", "--architecture", "c3"), ["c3d"]),
        (("export", "mot"), ["motion"]),
        (("weights", "download", ""), list(PUBLISHED)),
        (("weights", "inspect", "mot"), ["motion"]),
        (("weights", "verify", "mot"), ["motion"]),
        (("weights", "convert", "mot"), ["motion"]),
        (("weights", "convert", "--labels", "u"), ["ucf101"]),
        (("weights", "convert", "--architecture", "c3"), ["c3d"]),
        (("evaluate", "--eval", ""), list(EVALUATIONS)),
        (("evaluate", "--average-clips", ""), ["prob", "score"]),
        (("evaluate", "--crops", ""), ["1", "3"]),
        (("evaluate", "--mode", ""), ["window", "streaming"]),
        (("evaluate", "--backend", "o"), ["openvino", "onnxruntime"]),
        (("evaluate", "head"), ["head-only"]),
        (("evaluate", "head-only", "mot"), ["motion"]),
        (("train", "--config", "head"), ["head-only"]),
        (("train", "head"), ["head-only"]),
        (("run", "--config", "we"), ["webcam"]),
        (("doctor", "--config", "we"), ["webcam"]),
        (("events", "list", "--config", "we"), ["webcam"]),
        (("config", "check", "we"), ["webcam"]),
        (("run", "--device", ""), ["auto", "cpu", "cuda"]),
    ],
)
def test_values_are_completed(words: tuple[str, ...], values: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "glob", _no_devices)
    assert offered(*words) == values


_glob = Path.glob


def _no_devices(folder: Path, pattern: str) -> Iterator[Path]:
    return iter(()) if str(folder) == "/dev" else _glob(folder, pattern)


def test_gpus_that_are_here_are_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: iter([Path("/dev/nvidia1"), Path("/dev/nvidia0")]))
    assert offered("run", "--device", "cuda:") == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--source", ""),
        ("run", "--jsonl", ""),
        ("run", "--state", ""),
        ("run", "--key", ""),
        ("run", "--clients", ""),
        ("run", "--checkpoint", ""),
        ("run", "--labels", ""),
        ("run", "--config", ""),
        ("gui", "--source", ""),
        ("recognize", ""),
        ("recognize", "--output", ""),
        ("extract", ""),
        ("collect", "--source", ""),
        ("collect", "--output", ""),
        ("train", "--resume", ""),
        ("evaluate", "--data", ""),
        ("evaluate", "--live", ""),
        ("evaluate", "--out", ""),
        ("export", "--output", ""),
        ("export", "--calibrate", ""),
        ("events", "list", "--store", ""),
        ("weights", "convert", "--output", ""),
        ("ctl", "add", ""),
        ("keys", "show", ""),
    ],
)
def test_files_and_folders_are_left_to_the_shell(words: tuple[str, ...]) -> None:
    assert takes_files(*words)


def _options(command: click.Command, ctx: click.Context) -> Iterator[tuple[str, click.Parameter]]:
    for parameter in command.params:
        yield f"{command.name} {parameter.name}", parameter
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            inner = command.get_command(ctx, name)
            assert inner is not None
            yield from _options(inner, ctx)


FREE = {"address", "camera", "cameras", "connect", "label", "labels", "name", "since", "size", "until"}
FREE |= {"control__address", "monitoring__address", "publish__address"}
"""Texts of which there is no list: addresses, dates, names that somebody thinks of."""


def test_every_text_option_completes_something_or_is_free() -> None:
    """A new option with a finite set of values must not be forgotten: it completes, or is named in `FREE`."""
    forgotten = []
    for name, parameter in _options(app, click.Context(app)):
        own = parameter._custom_shell_complete is not None
        if isinstance(parameter.type, click.types.StringParamType) and not own and parameter.name not in FREE:
            forgotten.append(name)
    assert forgotten == []


# --- KEY=VALUE


def test_settings_are_completed_by_key_and_then_by_value() -> None:
    assert offered("train", "run.ba") == ["run.batch_size=auto"]
    assert offered("train", "run.ep") == ["run.epochs="]
    assert offered("train", "model.regime=f") == ["model.regime=full", "model.regime=fixed", "model.regime=freeze"]
    assert offered("train", "data.train=x", "run.tensorboard=") == ["run.tensorboard=true", "run.tensorboard=false"]
    assert offered("ctl", "set", "smoothing.me") == [
        f"smoothing.method={way}" for way in ("ema", "mean", "vote", "none")
    ]
    assert "model.checkpoint=" not in offered("ctl", "set", "")


def test_bash_breaks_words_at_the_equals_sign() -> None:
    assert offered("train", "model.regime", "=") == ["full", "fixed", "freeze", "head"]
    assert offered("train", "model.regime", "=", "h") == ["head"]
    assert "run.epochs=" in offered("train", "model.regime", "=", "head", "run.e")


# --- cameras


def test_cameras_are_asked_of_the_running_service(monkeypatch: pytest.MonkeyPatch) -> None:
    from stream_i3d.transport.control import CameraInfo, CamerasReply

    asked: list[tuple[str, float]] = []

    class Client:
        def __init__(self, address: str, keys: object) -> None:
            self.address = address

        def __enter__(self) -> Client:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def request(self, request: object, timeout: float) -> CamerasReply:
            asked.append((self.address, timeout))
            return CamerasReply(
                cameras=[
                    CameraInfo(name=name, source="0", paused=False, preview=None, status=None)
                    for name in ("gate", "yard")
                ]
            )

    monkeypatch.setattr("stream_i3d.transport.control_sockets.ControlClient", Client)
    assert offered("ctl", "remove", "") == ["gate", "yard"]
    assert offered("ctl", "pause", "--connect", "tcp://127.0.0.1:9", "y") == ["yard"]
    assert [address for address, _ in asked] == ["tcp://127.0.0.1:5557", "tcp://127.0.0.1:9"]
    assert all(timeout <= 1 for _, timeout in asked)


def test_without_a_service_no_camera_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "_CONTROL_WAIT_S", 0.05)
    assert offered("ctl", "remove", "--connect", f"ipc://{tmp_path}/none", "") == []
    assert offered("ctl", "remove", "--connect", "no address", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_to_switch_it_on_is_printed(shell: str) -> None:
    environment = {**os.environ, "_STREAM_I3D_COMPLETE": f"{shell}_source"}
    command = [sys.executable, "-c", "from stream_i3d.cli import main; main()"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert f"_STREAM_I3D_COMPLETE={shell}_complete" in done.stdout


def test_a_shell_is_answered() -> None:
    asked = {"_STREAM_I3D_COMPLETE": "bash_complete", "COMP_WORDS": "stream-i3d run --precision b", "COMP_CWORD": "3"}
    command = [sys.executable, "-c", "from stream_i3d.cli import main; main()"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, env={**os.environ, **asked}, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["plain,bf16"])
