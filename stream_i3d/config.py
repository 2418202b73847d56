"""One validated schema for everything that can be set; YAML over defaults, flags over YAML, unknown keys fail.

Knows nothing of models or cameras beyond their settings: what a checkpoint demands is merged in by service.plan.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, structs, to_builtins

from stream_i3d.errors import ConfigError, did_you_mean
from stream_i3d.messages import CameraName
from stream_i3d.settings import Section, convert_settings, load_settings, look_up_variables
from stream_i3d.sink_settings import RecorderSettings, SinkSettings, StoreSettings

Seconds = Annotated[float, Meta(gt=0, le=86400)]
Megabytes = Annotated[float, Meta(ge=64, le=1_000_000)]
ModeName = Literal["window", "streaming"]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
FlowName = Literal["dis", "farneback", "tvl1"]
FusionName = Literal["probabilities", "logits"]
SmoothingName = Literal["ema", "mean", "vote", "none"]
LogFormat = Literal["text", "json"]
BackendName = Literal["auto", "torch", "openvino", "onnxruntime", "tensorrt"]

TWO_STREAM = "two-stream-i3d"
"""The model.name of an RGB and a flow network whose predictions are fused."""

_OLD_TWO_STREAM = "two-stream"
"""What `TWO_STREAM` was called here; it is the name of the paper's 2D network, which cannot run live."""


class CameraConfig(Section, frozen=True, kw_only=True):
    """One camera. `source` is a webcam index, a device path, a URL, a file, or synthetic://; `paused`: at the start."""

    source: str
    name: CameraName | None = None
    paused: bool = False


class ModelConfig(Section, frozen=True, kw_only=True):
    """The network: its name, weights (`motion` or a path), labels (a carried list or a text file), where it runs.

    `backend` is the library that runs it, `compile` whether torch compiles kernels of its own (slow to start),
    `device_ring` whether a GPU keeps the cameras' frames, so that each goes up once and not with every window. A worker
    that holds more memory than `max_memory_mb` (null: no limit) is started again, in order.

    With `devices` there is a worker on each of them (one may be named twice), and they share the cameras.

    `two-stream-i3d` is two networks: `checkpoint` is the RGB one's, `flow_checkpoint` the other's, `flow` the method
    that computes what the latter sees, `fusion` how their predictions become one. Its old name here, `two-stream`, is
    read as that where there is a `flow_checkpoint`.
    """

    name: str = "i3d"
    checkpoint: str = "motion"
    flow_checkpoint: str | None = None
    flow: FlowName = "dis"
    fusion: FusionName = "probabilities"
    labels: str | None = None
    backend: BackendName = "auto"
    device: str = "auto"
    devices: Annotated[list[str], Meta(max_length=64)] = []
    precision: Precision = "auto"
    compile: bool = False
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    max_memory_mb: Megabytes | None = None
    device_ring: bool = True

    def __post_init__(self) -> None:
        """Check that the flow network's weights are there if, and only if, there is such a network; and the devices."""
        if self.devices and self.device != "auto":
            raise ValueError("device and devices exclude each other: give one of them")
        if self.name == _OLD_TWO_STREAM:
            if self.flow_checkpoint is None:
                raise ValueError(
                    f"{_OLD_TWO_STREAM!r} is the 2D network of that name, which does not run live: for I3D networks of "
                    f"RGB and flow give name {TWO_STREAM} (--model {TWO_STREAM}) and flow_checkpoint "
                    "(--flow-checkpoint)"
                )
            structs.force_setattr(self, "name", TWO_STREAM)
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
    def all_devices(self) -> list[str]:
        """Where a worker runs, each."""
        return self.devices or [self.device]

    @property
    def two_stream(self) -> bool:
        """Whether this is an RGB and a flow network."""
        return self.name == TWO_STREAM


class WindowConfig(Section, frozen=True, kw_only=True):
    """Windows on the stream. None takes what the checkpoint was trained with.

    With `adaptive`, strides are raised, alike for all cameras, while the machine cannot keep up. A window waits at most
    `batch_wait_ms` for those of other cameras that are about to come, where larger batches pay.

    In `streaming` mode the network is carried along the stream instead, each frame passes through it once, and
    `averaging` is how many predictions in a row it averages.
    """

    mode: ModeName = "window"
    stride: Annotated[int, Meta(ge=1, le=10000)] = 8
    clip_len: Annotated[int, Meta(ge=8, le=1024)] | None = None
    frame_interval: Annotated[int, Meta(ge=1, le=64)] | None = None
    sample_fps: Annotated[float, Meta(ge=1, le=240)] | None = None
    max_span_ratio: Annotated[float, Meta(gt=1, le=10)] = 1.5
    averaging: Annotated[int, Meta(ge=1, le=64)] = 1
    adaptive: bool = True
    batch_wait_ms: Annotated[float, Meta(ge=0, le=100)] = 2.0

    def __post_init__(self) -> None:
        """Check that the settings are those of the mode."""
        if self.mode == "window":
            if self.averaging != 1:
                raise ValueError(
                    f"averaging {self.averaging} is of no use to single windows: give mode streaming (--mode "
                    "streaming), or smooth by smoothing.method mean"
                )
            return
        if self.stride not in (4, 8):
            raise ValueError(
                f"stride {self.stride} is not possible in streaming mode: give 8, or 4 for twice the predictions at "
                "twice the work"
            )
        if self.frame_interval not in (None, 1):
            raise ValueError(
                f"frame_interval {self.frame_interval} is not possible in streaming mode, which sees every frame: give "
                "1, or a lower sample_fps"
            )


class SmoothingConfig(Section, frozen=True, kw_only=True):
    """How predictions are smoothed: `ema` uses time_constant_s, `mean` and `vote` the last `last` windows."""

    method: SmoothingName = "ema"
    time_constant_s: Seconds = 0.5
    last: Annotated[int, Meta(ge=1, le=1000)] = 5


DEFAULT_MIN_CONFIDENCE = 0.3
"""The live threshold where neither the user nor the checkpoint gives one."""


class IdleConfig(Section, frozen=True, kw_only=True):
    """When nothing is recognised: confidence under min_confidence, or less motion than min_motion grey levels.

    Without `min_confidence` (null) the checkpoint's recommended threshold applies, else 0.3.
    """

    min_confidence: Fraction | None = None
    min_motion: Annotated[float, Meta(ge=0, le=255)] = 2.0
    skip_inference: bool = False

    @property
    def threshold(self) -> float:
        """The confidence below which nothing is recognised, in [0, 1]."""
        return DEFAULT_MIN_CONFIDENCE if self.min_confidence is None else self.min_confidence


class EventsConfig(Section, frozen=True, kw_only=True):
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


class PublishConfig(Section, frozen=True, kw_only=True):
    """Where results go: the ZeroMQ PUB socket, and JSON lines to a file ('-' is standard output). More: `sinks`.

    A publisher process that holds more memory than `max_memory_mb` (null: no limit), and than the pictures that its
    recorders keep, is started again, in order.
    """

    address: str = "tcp://127.0.0.1:5556"
    jsonl: str | None = None
    top_k: Annotated[int, Meta(ge=1, le=1000)] = 5
    status_interval_s: Seconds = 5.0
    max_memory_mb: Megabytes | None = 500.0


class CaptureConfig(Section, frozen=True, kw_only=True):
    """How cameras are opened and watched (docs/cameras.md).

    A camera is stalled without a new frame for `stall_timeout_s`, or with the same picture for `frozen_timeout_s`
    (null: never); one that sends nothing for `read_timeout_s` is connected anew.
    With `fast`, files are read at full speed; with `loop`, they begin again at their end.
    A camera's capture process that holds more memory than `max_memory_mb` (MiB; null: no limit) is started again, in
    order, and a file's is ended. `auto` is 500 for pictures up to 4K and grows with larger ones. Pictures that would
    take more are refused before they are decoded; with `auto`, those above 35.7 million pixels (8192 x 4352).
    """

    open_timeout_s: Seconds = 5.0
    read_timeout_s: Seconds = 8.0
    stall_timeout_s: Seconds = 5.0
    frozen_timeout_s: Seconds | None = 30.0
    retry: bool = True
    backoff_first_s: Seconds = 1.0
    backoff_limit_s: Seconds = 60.0
    max_memory_mb: Megabytes | Literal["auto"] | None = "auto"
    fast: bool = False
    loop: bool = False


class PreviewConfig(Section, frozen=True, kw_only=True):
    """Pictures for whoever watches, made only while somebody does: at most so many a second, so large, so good."""

    enabled: bool = True
    fps: Annotated[float, Meta(gt=0, le=240)] = 30.0
    max_side: Annotated[int, Meta(ge=64, le=8192)] = 1280
    quality: Annotated[int, Meta(ge=1, le=100)] = 80


class ControlConfig(Section, frozen=True, kw_only=True):
    """Where the service takes requests: an address, `auto` (one port above publish.address), `off` or null.

    With `stay` it goes on when every camera has ended or was removed, and may start with none. What is changed at run
    time is kept in the file `state`, for the next start; without one it is forgotten.
    """

    address: str | None = "auto"
    stay: bool = False
    state: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None


class SecurityConfig(Section, frozen=True, kw_only=True):
    """Who may connect (docs/security.md): with keys, on every socket but the private frame channels, only `clients`.

    `key` is the file of the service's secret key; `clients` a folder of its clients' public keys, or a list of folders
    and files. Without both nobody needs a key, and only this machine can connect.
    """

    key: str | None = None
    clients: str | list[str] | None = None

    def __post_init__(self) -> None:
        """Check that the service has a key if, and only if, it has clients."""
        if (self.key is None) != (not self.clients):
            raise ValueError(
                "key and clients belong together: give the service's secret key (--key NAME.key_secret) and its "
                "clients' public ones (--clients FOLDER)"
            )

    @property
    def keyed(self) -> bool:
        """Whether clients need keys."""
        return self.key is not None

    @property
    def client_places(self) -> list[str]:
        """`clients` as a list."""
        return [self.clients] if isinstance(self.clients, str) else self.clients or []


class LoggingConfig(Section, frozen=True, kw_only=True):
    """What is logged, to standard error: from which level on, as `text` for people or `json`, one object a line."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: LogFormat = "text"


class MonitoringConfig(Section, frozen=True, kw_only=True):
    """Metrics, health and status over HTTP (docs/monitoring.md).

    `address` is HOST:PORT, `auto` (127.0.0.1:8556), `off` or null. Off loopback clients must give a token: `token`, or
    what stands in `token_file`, which only its owner can read.
    """

    address: str | None = None
    token: str | None = None
    token_file: str | None = None

    def __post_init__(self) -> None:
        """Check that there is one token at most."""
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file are two ways to give the same: leave one of them out")


class Config(Section, frozen=True, kw_only=True):
    """Everything `run` can be told."""

    cameras: list[CameraConfig] = []
    model: ModelConfig = ModelConfig()
    window: WindowConfig = WindowConfig()
    smoothing: SmoothingConfig = SmoothingConfig()
    idle: IdleConfig = IdleConfig()
    events: EventsConfig = EventsConfig()
    publish: PublishConfig = PublishConfig()
    sinks: list[SinkSettings] = []
    capture: CaptureConfig = CaptureConfig()
    preview: PreviewConfig = PreviewConfig()
    control: ControlConfig = ControlConfig()
    security: SecurityConfig = SecurityConfig()
    logging: LoggingConfig = LoggingConfig()
    monitoring: MonitoringConfig = MonitoringConfig()

    def __post_init__(self) -> None:
        """Check that the sinks can be told apart, and have what they need."""
        names = [name_sink(self.sinks, index) for index in range(len(self.sinks))]
        if len(set(names)) < len(names):
            raise ValueError(f"sinks: their names must differ, got {', '.join(names)}; give each a name of its own")
        if sum(isinstance(sink, StoreSettings) for sink in self.sinks) > 1:
            raise ValueError("sinks: there can be one store only; take the others out")
        if not self.preview.enabled and any(isinstance(sink, RecorderSettings) for sink in self.sinks):
            raise ValueError("sinks: a recorder is made of previews: leave preview.enabled true, or take it out")


def name_sink(sinks: Sequence[SinkSettings], index: int) -> str:
    """Return the name of a sink: the given one, else its type, numbered from the second on."""
    sink = sinks[index]
    kind = str(sink.__struct_config__.tag)
    before = sum(type(one) is type(sink) for one in sinks[:index])
    return sink.name or (f"{kind}-{before + 1}" if before else kind)


LIVE_SETTINGS = (
    "idle.min_confidence",
    "idle.min_motion",
    "idle.skip_inference",
    "smoothing.method",
    "smoothing.time_constant_s",
    "smoothing.last",
    "window.stride",
    "publish.top_k",
)
"""What may be changed while the service runs, for all cameras; the words of the YAML file."""


def live_settings(config: Config) -> dict[str, Any]:
    """Return the values of `LIVE_SETTINGS`, the threshold in force included."""
    sections = (key.split(".") for key in LIVE_SETTINGS)
    values = {f"{section}.{key}": getattr(getattr(config, section), key) for section, key in sections}
    return {**values, "idle.min_confidence": config.idle.threshold}


def change_settings(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return `config` with some of its `LIVE_SETTINGS` changed: all of `changes`, or none.

    Raises:
        ConfigError: A key is not one of them, or its value is not allowed.
    """
    data = to_builtins(config)
    for key, value in changes.items():
        if key not in LIVE_SETTINGS:
            hint = did_you_mean(key, LIVE_SETTINGS)
            raise ConfigError(f"{key[:64]!r} cannot be changed at run time{hint}; allowed: {', '.join(LIVE_SETTINGS)}")
        section, name = key.split(".")
        if value is None:  # "as configured" has no meaning for a change
            raise ConfigError(f"{key}: expected {type(live_settings(config)[key]).__name__}, got None; give a value")
        data[section][name] = value
    return convert(data)


def load_config(path: Path | None, overrides: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Config:
    """Read `path` (None: defaults only), put `overrides` over it, and validate the whole.

    Args and errors are those of `settings.load_settings`. In the cameras of `overrides` too, `${NAME}` is looked up:
    their passwords need not stand in the list of processes.
    """
    if "cameras" in overrides:
        overrides = {**overrides, "cameras": look_up_variables(overrides["cameras"], environ, "cameras")}
    return load_settings(Config, path, overrides, environ, _as_meant)


def convert(data: Any) -> Config:
    """Return plain `data` as a validated Config; a ConfigError names the key, what was given and what is allowed."""
    return convert_settings(Config, data, _as_meant)


def _as_meant(data: dict[str, Any]) -> dict[str, Any]:
    """Read a webcam's index without quotes as everyone means it."""
    if isinstance(cameras := data.get("cameras"), list):
        data["cameras"] = [
            {**camera, "source": str(camera["source"])}
            if isinstance(camera, dict) and type(camera.get("source")) is int
            else camera
            for camera in cameras
        ]
    return data
