"""One validated schema for everything that can be set; YAML over defaults, flags over YAML, unknown keys fail.

Knows nothing of models or cameras beyond their settings: what a checkpoint demands is merged in by service.plan.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
import yaml
from msgspec import Meta, Struct

from stream_i3d.errors import ConfigError, did_you_mean
from stream_i3d.messages import CameraName
from stream_i3d.redact import redact

Seconds = Annotated[float, Meta(gt=0, le=86400)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
FlowName = Literal["dis", "farneback", "tvl1"]
FusionName = Literal["probabilities", "logits"]

TWO_STREAM = "two-stream-i3d"
"""The model.name of an RGB and a flow network whose predictions are fused."""

_TWO_STREAM_NAMES = (TWO_STREAM, "two-stream")


class _Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: immutable, and strict about keys."""


class CameraConfig(_Section, frozen=True, kw_only=True):
    """One camera. `source` is a webcam index, a device path, a URL, a file, or synthetic://."""

    source: str
    name: CameraName | None = None


class ModelConfig(_Section, frozen=True, kw_only=True):
    """The network: its name, weights (`motion` or a path), labels (a carried list or a text file), where it runs.

    `two-stream-i3d` (or `two-stream`) is two networks: `checkpoint` is the RGB one's, `flow_checkpoint` the other's,
    `flow` the method that computes what the latter sees, `fusion` how their predictions become one.
    """

    name: str = "i3d"
    checkpoint: str = "motion"
    flow_checkpoint: str | None = None
    flow: FlowName = "dis"
    fusion: FusionName = "probabilities"
    labels: str | None = None
    device: str = "auto"
    precision: Precision = "auto"
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0

    def __post_init__(self) -> None:
        """Check that the flow network's weights are there if, and only if, there is such a network."""
        if self.two_stream and self.flow_checkpoint is None:
            raise ValueError(
                f"{self.name} needs the weights of two networks: give flow_checkpoint (--flow-checkpoint) for optical "
                "flow beside checkpoint (--checkpoint) for RGB"
            )
        if not self.two_stream and self.flow_checkpoint is not None:
            raise ValueError(
                f"flow_checkpoint is of no use to {self.name!r}: give name {TWO_STREAM} (--model {TWO_STREAM}), or "
                "leave it out"
            )

    @property
    def two_stream(self) -> bool:
        """Whether this is an RGB and a flow network; "two-stream" is short for it."""
        return self.name in _TWO_STREAM_NAMES


class WindowConfig(_Section, frozen=True, kw_only=True):
    """Windows on the stream. None takes what the checkpoint was trained with."""

    stride: Annotated[int, Meta(ge=1, le=10000)] = 8
    clip_len: Annotated[int, Meta(ge=8, le=1024)] | None = None
    frame_interval: Annotated[int, Meta(ge=1, le=64)] | None = None
    sample_fps: Annotated[float, Meta(ge=1, le=240)] | None = None
    max_span_ratio: Annotated[float, Meta(gt=1, le=10)] = 1.5


class SmoothingConfig(_Section, frozen=True, kw_only=True):
    """How predictions are smoothed: `ema` uses time_constant_s, `mean` and `vote` the last `last` windows."""

    method: Literal["ema", "mean", "vote", "none"] = "ema"
    time_constant_s: Seconds = 0.5
    last: Annotated[int, Meta(ge=1, le=1000)] = 5


class IdleConfig(_Section, frozen=True, kw_only=True):
    """When nothing is recognised: confidence under min_confidence, or less motion than min_motion grey levels."""

    min_confidence: Fraction = 0.3
    min_motion: Annotated[float, Meta(ge=0, le=255)] = 2.0
    skip_inference: bool = False


class EventsConfig(_Section, frozen=True, kw_only=True):
    """Hysteresis: an action starts at on_threshold held for min_on_s and ends below off_threshold for min_off_s.

    Not `on` and `off`: in YAML 1.1 these words are booleans, also as keys.
    """

    on_threshold: Fraction = 0.5
    off_threshold: Fraction = 0.35
    min_on_s: Annotated[float, Meta(ge=0, le=3600)] = 0.3
    min_off_s: Annotated[float, Meta(ge=0, le=3600)] = 0.3

    def __post_init__(self) -> None:
        """Check that the thresholds make a hysteresis."""
        if self.off_threshold > self.on_threshold:
            raise ValueError(
                f"off_threshold {self.off_threshold:g} must not be above on_threshold {self.on_threshold:g}"
            )


class PublishConfig(_Section, frozen=True, kw_only=True):
    """Where results go: the ZeroMQ PUB socket, and JSON lines to a file ('-' is standard output)."""

    address: str = "tcp://127.0.0.1:5556"
    jsonl: str | None = None
    top_k: Annotated[int, Meta(ge=1, le=1000)] = 5
    status_interval_s: Seconds = 5.0


class CaptureConfig(_Section, frozen=True, kw_only=True):
    """How cameras are opened and watched."""

    open_timeout_s: Seconds = 5.0
    read_timeout_s: Seconds = 5.0
    stall_timeout_s: Seconds = 5.0
    retry: bool = True
    backoff_first_s: Seconds = 1.0
    backoff_limit_s: Seconds = 60.0
    fast: bool = False


class Config(_Section, frozen=True, kw_only=True):
    """Everything `run` can be told."""

    cameras: list[CameraConfig] = []
    model: ModelConfig = ModelConfig()
    window: WindowConfig = WindowConfig()
    smoothing: SmoothingConfig = SmoothingConfig()
    idle: IdleConfig = IdleConfig()
    events: EventsConfig = EventsConfig()
    publish: PublishConfig = PublishConfig()
    capture: CaptureConfig = CaptureConfig()


_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def load_config(path: Path | None, overrides: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Config:
    """Read `path` (None: defaults only), put `overrides` over it, and validate the whole.

    Args:
        path: A YAML file; `${NAME}` in its strings is taken from `environ`.
        overrides: Dotted keys to values, such as {"window.stride": 4}; None values are left out.
        environ: Where `${NAME}` is looked up.

    Raises:
        ConfigError: The file cannot be read, or a key or value is not allowed. One line, with the dotted key.
    """
    data: dict[str, Any] = {} if path is None else _read_yaml(path, environ)
    for key, value in overrides.items():
        if value is not None:
            _set(data, key, value)
    where = f" (in {path})" if path is not None else ""
    try:
        return convert(data)
    except ConfigError as error:
        raise ConfigError(f"{error}{where}") from None


def convert(data: Any) -> Config:
    """Return plain `data` as a validated Config; a ConfigError names the key, what was given and what is allowed."""
    _refuse_unknown_keys(data, Config, "")
    data = _as_meant(data)
    try:
        return msgspec.convert(data, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), data)) from None


def _as_meant(data: Any) -> Any:
    """Read two things as everyone means them: a section left empty, and a webcam's index without quotes."""
    if not isinstance(data, dict):
        return data
    data = {key: value for key, value in data.items() if value is not None}
    if isinstance(cameras := data.get("cameras"), list):
        data["cameras"] = [
            {**camera, "source": str(camera["source"])}
            if isinstance(camera, dict) and type(camera.get("source")) is int
            else camera
            for camera in cameras
        ]
    return data


def to_yaml(config: Config) -> str:
    """Return the whole configuration as YAML, with passwords in URLs redacted."""
    return redact(yaml.safe_dump(msgspec.to_builtins(config), sort_keys=False, allow_unicode=True))


def _read_yaml(path: Path, environ: Mapping[str, str]) -> Any:
    try:
        data = _substitute(yaml.safe_load(path.read_text(encoding="utf-8")), environ, "")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"cannot read the configuration {path}: {reason}; give a YAML file such as configs/webcam.yaml"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date or number that is none
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        if isinstance(error, RecursionError):
            problem = "it is nested too deeply, or refers to itself"
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{path}{line} is not valid YAML: {problem}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds a {type(data).__name__}; allowed is a mapping of {', '.join(_fields(Config))}")
    return data


def _substitute(value: Any, environ: Mapping[str, str], where: str) -> Any:
    if isinstance(value, dict):
        return {key: _substitute(item, environ, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, environ, f"{where}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def look_up(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in environ:
            raise ConfigError(f"{where.lstrip('.')}: the environment has no {name}; set it before starting")
        return environ[name]

    return _VARIABLE.sub(look_up, value)


def _set(data: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        inner = data.get(parent)
        if inner is None:
            inner = data[parent] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"{parent}: expected a mapping, got {inner!r}")
        data = inner
    data[last] = value


def _fields(kind: type[Struct]) -> tuple[str, ...]:
    return kind.__struct_encode_fields__


def _refuse_unknown_keys(data: Any, kind: type[Struct], where: str) -> None:
    if not isinstance(data, dict):
        return
    hints = get_type_hints(kind)
    for key, value in data.items():
        here = f"{where}.{key}" if where else str(key)
        if key not in hints:
            hint = did_you_mean(str(key), hints)
            raise ConfigError(f"unknown key {here!r}{hint}; allowed here: {', '.join(_fields(kind))}")
        for inner in _structs_in(hints[key]):
            for index, item in enumerate(value if isinstance(value, list) else [value]):
                _refuse_unknown_keys(item, inner, f"{here}[{index}]" if isinstance(value, list) else here)


def _structs_in(hint: Any) -> list[type[Struct]]:
    if isinstance(hint, type) and issubclass(hint, Struct):
        return [hint]
    return [inner for argument in get_args(hint) for inner in _structs_in(argument)]


def _explain(message: str, data: Any) -> str:
    """Turn msgspec's "Expected `int` >= 1 - at `$.window.stride`" into ours, with the value that was given."""
    text, _, path = message.partition(" - at `")
    dotted = path.rstrip("`").removeprefix("$").lstrip(".")
    text = (text[:1].lower() + text[1:]).replace("`", "")
    if not dotted:
        return text
    given: Any = data
    for part in re.findall(r"[^.\[\]]+", dotted):
        try:
            given = given[int(part)] if part.isdigit() and isinstance(given, list) else given[part]
        except (KeyError, IndexError, TypeError):
            return f"{dotted}: {text}"
    if text.startswith("invalid enum value"):
        text = f"expected one of {', '.join(_choices(dotted))}"
    if "matching regex" in text:  # the one setting with a pattern is a camera's name
        text = "expected 1 to 64 letters, digits, '_', '.' or '-'"
    got = "" if ", got" in text or isinstance(given, dict) else f", got {redact(repr(given))}"
    return f"{dotted}: {text}{got}"


def _choices(dotted: str) -> tuple[str, ...]:
    """Return what a Literal setting of `Config` allows."""
    hint: Any = Config
    for part in dotted.split("."):
        hint = get_type_hints(hint)[part]
    return get_args(hint)
