"""Options that several commands share, and how they lie over the configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stream_i3d.capture.address import split_name
from stream_i3d.cli import completion
from stream_i3d.cli.config_files import ConfigFile
from stream_i3d.config import (
    BackendName,
    Config,
    FlowName,
    FusionName,
    LogFormat,
    ModeName,
    Precision,
    SmoothingName,
    load_config,
)
from stream_i3d.files import kind_of

if TYPE_CHECKING:
    from stream_i3d.transport.keys import ClientKeys

CARRIED_MODEL_NOTE = (
    "the carried model 'motion' knows ten plain motions (left, up, waving, ...), not everyday actions; for those: "
    "stream-i3d weights download i3d-rgb-kinetics400, then run --checkpoint i3d-rgb-kinetics400"
)
"""What someone who gave no checkpoint should know."""

_F = TypeVar("_F", bound=Callable[..., Any])

_KEYS = {
    "checkpoint": "model.checkpoint",
    "flow_checkpoint": "model.flow_checkpoint",
    "flow": "model.flow",
    "fusion": "model.fusion",
    "model": "model.name",
    "labels": "model.labels",
    "backend": "model.backend",
    "device": "model.device",
    "precision": "model.precision",
    "compile": "model.compile",
    "threads": "model.threads",
    "mode": "window.mode",
    "stride": "window.stride",
    "clip_len": "window.clip_len",
    "frame_interval": "window.frame_interval",
    "sample_fps": "window.sample_fps",
    "averaging": "window.averaging",
    "smoothing": "smoothing.method",
    "time_constant": "smoothing.time_constant_s",
    "last": "smoothing.last",
    "min_confidence": "idle.min_confidence",
    "min_motion": "idle.min_motion",
    "skip_inference": "idle.skip_inference",
    "top_k": "publish.top_k",
    "publish": "publish.address",
    "jsonl": "publish.jsonl",
    "fast": "capture.fast",
    "loop": "capture.loop",
    "retry": "capture.retry",
    "control": "control.address",
    "stay": "control.stay",
    "state": "control.state",
    "key": "security.key",
    "clients": "security.clients",
    "monitor": "monitoring.address",
    "log_level": "logging.level",
    "log_format": "logging.format",
}


def _of(words: Any, flag: str, **more: Any) -> Callable[[_F], _F]:
    """Return an option that completes one of the words of a Literal; whether it is one is checked with all settings."""
    return click.option(flag, shell_complete=completion.words_of(words), **more)


_RECOGNITION = [
    click.option("--config", "config_file", type=ConfigFile("run"), help="YAML file, or a name of `config list`."),
    click.option(
        "--checkpoint",
        help="Weights: 'motion' (carried, the default), a name of `weights list`, or a file (.safetensors, .pt, .pth; "
        "of `export`: .xml, .onnx).",
        shell_complete=completion.checkpoints,
    ),
    click.option(
        "--flow-checkpoint",
        help="Weights of the flow network, with --model two-stream-i3d.",
        shell_complete=completion.checkpoints,
    ),
    _of(FlowName, "--flow", help="Optical flow, with two streams: dis (default), farneback or tvl1 (slow)."),
    _of(FusionName, "--fusion", help="Two streams' predictions: average their probabilities (default), or add logits."),
    click.option(
        "--model",
        help="Architecture of the weights (default: i3d); two-stream-i3d for RGB and flow.",
        shell_complete=completion.architectures,
    ),
    click.option(
        "--labels",
        help="Label list: kinetics400, kinetics600, ucf101, hmdb51 or a text file.",
        shell_complete=completion.label_lists,
    ),
    _of(BackendName, "--backend", help="What runs the network: auto, torch, openvino, onnxruntime or tensorrt."),
    click.option("--device", help="auto, cpu, cuda, cuda:N.", shell_complete=completion.devices),
    _of(Precision, "--precision", help="auto, fp32, bf16 or fp16."),
    click.option("--compile/--no-compile", default=None, help="With torch: compile kernels; slow to start."),
    click.option("--threads", type=int, help="CPU threads for inference (0: as many as there are cores)."),
    click.option("--stride", type=int, help="Sampled frames from one window to the next (default: 8)."),
    _of(ModeName, "--mode", help="window (default), or streaming: half the work, sees 4 s, reacts later."),
    click.option("--clip-len", type=int, help="Frames in a window (default: as trained, else 16)."),
    click.option("--frame-interval", type=int, help="Gap between a window's frames (default: as trained, else 1)."),
    click.option("--sample-fps", type=float, help="Frames per second the model sees (default: as trained, else 25)."),
    click.option("--averaging", type=int, help="Predictions in a row averaged in streaming mode (default: 1)."),
    _of(SmoothingName, "--smoothing", help="ema, mean, vote or none."),
    click.option("--time-constant", type=float, help="Seconds, for ema."),
    click.option("--last", type=int, help="Windows, for mean and vote."),
    click.option("--min-confidence", type=float, help="Below it nothing is recognised: idle."),
    click.option("--min-motion", type=float, help="Grey levels of change below which a window is idle (0: never)."),
    click.option("--skip-inference/--no-skip-inference", default=None, help="Spare the network motionless windows."),
    click.option("--top-k", type=int, help="Labels listed in each prediction."),
]


class SecondsOption(click.FloatRange):
    """Seconds, more than none; `nan`, which is in no order with any number, is refused."""

    name = "seconds"

    def __init__(self, most: float | None = None) -> None:
        super().__init__(min=0, max=most, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; UsageError where it is none, or out of range."""
        seconds = float(super().convert(value, param, ctx))
        return self.fail(f"{value} is no number of seconds", param, ctx) if math.isnan(seconds) else seconds


_SERVICE = [
    click.option("--publish", help="Address of the PUB socket (default: tcp://127.0.0.1:5556)."),
    click.option(
        "--jsonl",
        help="Also write messages as JSON lines to this file; '-' is standard output.",
        shell_complete=completion.files,
    ),
    click.option("--fast", is_flag=True, default=None, help="Read files at full speed, dropping nothing."),
    click.option("--retry/--no-retry", default=None, help="Whether to try again when a camera cannot be reached."),
    click.option("--control", help="Address that takes requests (default: one port above --publish), or 'off'."),
    click.option("--stay", is_flag=True, default=None, help="Go on when all cameras have ended; start without one."),
    click.option(
        "--state",
        help="File that keeps what is changed at run time, for the next start.",
        shell_complete=completion.files,
    ),
    click.option("--duration", type=SecondsOption(), help="Seconds to run; else until stopped."),
    click.option("--quiet", is_flag=True, help="Log warnings only."),
    click.option(
        "--monitor",
        is_flag=False,
        flag_value="auto",
        help="Serve /metrics, /healthz, /readyz, /status there (without a value: 127.0.0.1:8556).",
    ),
    click.option(
        "--log-format",
        help="text (default), or json: one object a line.",
        shell_complete=completion.words_of(LogFormat),
    ),
]


def recognition_options(command: _F) -> _F:
    """Add --config and the options of model, windows and smoothing."""
    for option in reversed(_RECOGNITION):
        command = option(command)
    return command


def source_options(command: _F) -> _F:
    """Add --source and --loop, for `cameras_of`."""
    source = click.option(
        "--source",
        "sources",
        multiple=True,
        metavar="[NAME=]SOURCE",
        help="Webcam index, /dev path, URL, file or synthetic://; repeatable.",
        shell_complete=completion.sources,
    )
    loop = click.option("--loop/--no-loop", default=None, help="Begin video files again at their end.")
    return source(loop(command))


def cameras_of(sources: Sequence[str]) -> dict[str, Any]:
    """Return the configuration's override of the cameras that --source names, for `config_of`; none without any.

    Raises:
        ConfigError: A name is not allowed.
    """
    cameras = []
    for given in sources:
        name, source = split_name(given, lambda path: kind_of(path) is not None)
        cameras.append({"source": source} if name is None else {"source": source, "name": name})
    return {"cameras": cameras or None}


def service_options(command: _F) -> _F:
    """Add the options of a service that is started: where results go, how it runs, how long; not its keys."""
    for option in reversed(_SERVICE):
        command = option(command)
    return command


def client_key_options(command: _F) -> _F:
    """Add --key and --server-key, for `load_client_keys`."""
    own = click.option(
        "--key", type=click.Path(path_type=Path), help="Your secret key file, where the service wants keys."
    )
    other = click.option("--server-key", type=click.Path(path_type=Path), help="The service's public key file.")
    return own(other(command))


def client_keys(key: Path | None, server_key: Path | None) -> ClientKeys | None:
    """Return the keys of `client_key_options`, or None; ConfigError where one is not what it should be."""
    if key is None and server_key is None:
        return None
    from stream_i3d.transport.keys import load_client_keys

    return load_client_keys(key, server_key)


def config_of(config_file: Path | None, flags: dict[str, Any], more: dict[str, Any] | None = None) -> Config:
    """Return the validated configuration of a command's flags; `more` holds dotted keys as they are."""
    overrides = {_KEYS[name]: value for name, value in flags.items()}
    return load_config(config_file, {**overrides, **(more or {})})
