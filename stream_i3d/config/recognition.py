"""Settings of what is recognised and how: cameras, the network, its windows, smoothing, idleness, events."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, structs

from stream_i3d.messages import CameraName, ViewName
from stream_i3d.settings import Section, setting

Seconds = Annotated[float, Meta(gt=0, le=86400)]
Megabytes = Annotated[float, Meta(ge=64, le=1_000_000)]
ModeName = Literal["window", "streaming"]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
FlowName = Literal["dis", "farneback", "tvl1"]
FusionName = Literal["probabilities", "logits"]
SmoothingName = Literal["ema", "mean", "vote", "none"]
BackendName = Literal["auto", "torch", "openvino", "onnxruntime", "tensorrt"]

DEFAULT_CHECKPOINT = "motion"
"""What is recognised with where nothing else is given: the network that comes with the package."""

TWO_STREAM = "two-stream-i3d"
"""The model.name of an RGB and a flow network whose predictions are fused."""

_OLD_TWO_STREAM = "two-stream"
"""What `TWO_STREAM` was called here; it is the name of the paper's 2D network, which cannot run live."""


class CameraConfig(Section, frozen=True, kw_only=True):
    """One camera; the command line has `--source [NAME=]SOURCE` for it."""

    source: Annotated[str, setting("A webcam's index, a device path, a URL, a file, or synthetic://.")]
    name: Annotated[CameraName | None, setting("Its name in topics, logs and events; null: made from its source.")] = (
        None
    )
    paused: Annotated[bool, setting("Whether it is paused at the start.")] = False
    view: Annotated[ViewName | None, setting("What of its picture is seen; null: as window.view says.")] = None


class ModelConfig(Section, frozen=True, kw_only=True):
    """The network, its weights, and what runs it.

    `two-stream-i3d` is two networks: `checkpoint` is the RGB one's, `flow_checkpoint` the other's. Its old name here,
    `two-stream`, is read as that where there is a `flow_checkpoint`.
    """

    name: Annotated[
        str,
        setting(
            "Architecture of the weights; two-stream-i3d for RGB and flow.", flag="--model", completes="architectures"
        ),
    ] = "i3d"
    checkpoint: Annotated[
        str,
        setting(
            "Weights: 'motion' (carried), a name of `weights list`, or a file (.safetensors, .pt, .pth; of `export`: "
            ".xml, .onnx).",
            flag="--checkpoint",
            completes="checkpoints",
        ),
    ] = DEFAULT_CHECKPOINT
    flow_checkpoint: Annotated[
        str | None,
        setting(
            "Weights of the flow network, with --model two-stream-i3d.",
            flag="--flow-checkpoint",
            completes="checkpoints",
        ),
    ] = None
    flow: Annotated[FlowName, setting("Optical flow, with two streams; tvl1 is slow.", flag="--flow")] = "dis"
    fusion: Annotated[
        FusionName, setting("Two streams' predictions: average their probabilities, or add logits.", flag="--fusion")
    ] = "probabilities"
    labels: Annotated[
        str | None,
        setting(
            "Label list: kinetics400, kinetics600, ucf101, hmdb51 or a text file (default: the checkpoint's own).",
            flag="--labels",
            completes="label_lists",
        ),
    ] = None
    backend: Annotated[BackendName, setting("What runs the network.", flag="--backend")] = "auto"
    device: Annotated[str, setting("auto, cpu, cuda, cuda:N.", flag="--device", completes="devices")] = "auto"
    devices: Annotated[
        list[str],
        Meta(max_length=64),
        setting("A worker on each of these devices, which share the cameras; one may be named twice."),
    ] = []
    precision: Annotated[Precision, setting("Numbers that the network computes with.", flag="--precision")] = "auto"
    compile: Annotated[bool, setting("With torch: compile kernels; slow to start.", flag="--compile/--no-compile")] = (
        False
    )
    threads: Annotated[
        int,
        Meta(ge=0, le=1024),
        setting("CPU threads for inference (0: as many as there are cores).", flag="--threads"),
    ] = 0
    max_memory_mb: Annotated[
        Megabytes | None, setting("A worker that holds more memory (MiB) is started again, in order; null: no limit.")
    ] = None
    device_ring: Annotated[
        bool, setting("Whether a GPU keeps the cameras' frames, so that each is uploaded once, not with every window.")
    ] = True

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
    """Windows on the stream. Null takes what the checkpoint was trained with."""

    mode: Annotated[
        ModeName,
        setting(
            "Run whole windows, or carry the network along the stream: half the work, sees 4 s, reacts later.",
            flag="--mode",
        ),
    ] = "window"
    stride: Annotated[
        int, Meta(ge=1, le=10000), setting("Sampled frames from one window to the next.", flag="--stride", live=True)
    ] = 8
    clip_len: Annotated[
        Annotated[int, Meta(ge=8, le=1024)] | None,
        setting("Frames in a window (default: as trained, else 16).", flag="--clip-len"),
    ] = None
    frame_interval: Annotated[
        Annotated[int, Meta(ge=1, le=64)] | None,
        setting("Gap between a window's frames (default: as trained, else 1).", flag="--frame-interval"),
    ] = None
    sample_fps: Annotated[
        Annotated[float, Meta(ge=1, le=240)] | None,
        setting("Frames per second the model sees (default: as trained, else 25).", flag="--sample-fps"),
    ] = None
    view: Annotated[
        ViewName | None,
        setting(
            "What the network sees of a picture: its centre square, the whole of it in its own shape, or the whole of "
            "it squeezed into a square (default: as the checkpoint says, else centre).",
            flag="--view",
        ),
    ] = None
    max_span_ratio: Annotated[
        float, Meta(gt=1, le=10), setting("A window that took longer than so many times its nominal length is dropped.")
    ] = 1.5
    averaging: Annotated[
        int, Meta(ge=1, le=64), setting("Predictions in a row averaged in streaming mode.", flag="--averaging")
    ] = 1
    adaptive: Annotated[
        bool, setting("Whether strides are raised, alike for all cameras, while the machine cannot keep up.")
    ] = True
    batch_wait_ms: Annotated[
        float,
        Meta(ge=0, le=100),
        setting("Milliseconds that a window waits at most for those of other cameras, where larger batches pay."),
    ] = 2.0

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
    """How predictions are smoothed over time."""

    method: Annotated[
        SmoothingName,
        setting("Exponential average (ema), mean or majority vote of the last windows.", flag="--smoothing", live=True),
    ] = "ema"
    time_constant_s: Annotated[Seconds, setting("Seconds, for ema.", flag="--time-constant", live=True)] = 0.5
    last: Annotated[int, Meta(ge=1, le=1000), setting("Windows, for mean and vote.", flag="--last", live=True)] = 5


DEFAULT_MIN_CONFIDENCE = 0.3
"""The live threshold where neither the user nor the checkpoint gives one."""


class IdleConfig(Section, frozen=True, kw_only=True):
    """When nothing is recognised."""

    min_confidence: Annotated[
        Fraction | None,
        setting(
            "Below it nothing is recognised: idle (default: the checkpoint's recommendation, else 0.3).",
            flag="--min-confidence",
            live=True,
        ),
    ] = None
    min_motion: Annotated[
        float,
        Meta(ge=0, le=255),
        setting("Grey levels of change below which a window is idle (0: never).", flag="--min-motion", live=True),
    ] = 2.0
    skip_inference: Annotated[
        bool,
        setting(
            "Do not run the network on motionless windows.", flag="--skip-inference/--no-skip-inference", live=True
        ),
    ] = False

    @property
    def threshold(self) -> float:
        """The confidence below which nothing is recognised, in [0, 1]."""
        return DEFAULT_MIN_CONFIDENCE if self.min_confidence is None else self.min_confidence


class EventsConfig(Section, frozen=True, kw_only=True):
    """When an action starts and ends: thresholds with hysteresis.

    Not `on` and `off`: in YAML 1.1 these words are booleans, also as keys.
    """

    on_threshold: Annotated[Fraction, setting("An action starts at this confidence, held for min_on_s.")] = 0.5
    off_threshold: Annotated[Fraction, setting("An action ends below this confidence, held for min_off_s.")] = 0.35
    min_on_s: Annotated[float, Meta(ge=0, le=3600), setting("Seconds.")] = 0.3
    min_off_s: Annotated[float, Meta(ge=0, le=3600), setting("Seconds.")] = 0.3

    def __post_init__(self) -> None:
        """Check that the thresholds make a hysteresis."""
        if self.off_threshold > self.on_threshold:
            raise ValueError(
                f"off_threshold {self.off_threshold:g} must not be above on_threshold {self.on_threshold:g}"
            )
