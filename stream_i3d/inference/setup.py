"""What network a configuration means, and what frames it wants: settled before torch is imported.

The supervisor needs the preprocessing to start captures, and every check that can be made without loading weights is
made here, so that a mistake is answered at once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct, structs

from stream_i3d.config import TWO_STREAM, Config, ModelConfig, WindowConfig
from stream_i3d.errors import CheckpointError, ConfigError, StreamI3DError
from stream_i3d.inference.graphs.file import ONNX, is_graph, read_graph_spec
from stream_i3d.messages import ModelName, ViewName
from stream_i3d.models.labels import check_labels, load_labels
from stream_i3d.models.registry import find_architecture
from stream_i3d.models.spec import ModelSpec, known_spec, resolve_checkpoint
from stream_i3d.preprocess import PLACE_PIXELS, Preprocessing

StreamName = Literal["rgb", "flow"]

STREAM_CHANNELS: dict[StreamName, int] = {"rgb": 3, "flow": 2}
"""Channels of each stream's input."""


class StreamWeights(Struct, frozen=True, kw_only=True):
    """The weights file of one network, and what is known of it without reading the weights (None: nothing)."""

    path: str
    spec: ModelSpec | None


class ModelSetup(Struct, frozen=True, kw_only=True):
    """A settled choice of network.

    Attributes:
        path: The weights file; with two streams, that of RGB.
        spec: What the file says of itself, or what is published about it; None for other programs' files.
        preprocessing: The checkpoint's, with the configuration's window settings over it.
        labels: The label list that was asked for; None takes the checkpoint's.
        flow: The weights of the flow network, with two streams; else None.
    """

    path: str
    spec: ModelSpec | None
    config: ModelConfig
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None
    flow: StreamWeights | None = None

    @property
    def model_name(self) -> ModelName:
        """The network's name and its files', as published."""
        paths = [self.path] if self.flow is None else [self.path, self.flow.path]
        return ModelName(name=self.config.name, checkpoint=" + ".join(Path(path).name for path in paths))


def settle_model(model: ModelConfig, window: WindowConfig) -> ModelSetup:
    """Resolve checkpoint, labels and preprocessing.

    Raises:
        CheckpointError: There is no such file, its header is broken, or two streams' files do not fit each other.
        LabelsError: The list cannot be read, or its length is not the network's.
        ConfigError: The checkpoint is of another architecture than `model.name`, there is none of that name, or
            streaming mode is not for such a network.
    """
    setup = _settle(model, window)
    name = setup.model_name.checkpoint
    if is_graph(setup.path) and setup.spec is not None and setup.spec.mode != window.mode:
        raise ConfigError(
            f"window.mode {window.mode} (--mode): {name} was exported for {setup.spec.mode} mode; give that, or the "
            "checkpoint that it was exported from"
        )
    if window.mode == "streaming":
        check_carried(setup.spec, setup.preprocessing, name, setup.config.name)
    check_view(setup, setup.preprocessing.view)
    return setup


def check_view(setup: ModelSetup, view: ViewName) -> None:
    """Check that a network can be run on frames of a view.

    Raises:
        ConfigError: It takes square frames alone.
    """
    reason = why_square(setup) if view == "whole" else None
    if reason is not None:
        raise ConfigError(f"view whole: {reason}; give view centre or squeeze (--view)")


def why_square(setup: ModelSetup) -> str | None:
    """Return why a network takes square frames alone; None if it takes those of the view `whole` as well."""
    name, made = setup.model_name.checkpoint, setup.preprocessing
    architecture = setup.config.name if setup.spec is None else setup.spec.architecture
    if setup.flow is None:
        options = {} if setup.spec is None else setup.spec.options
        if not find_architecture(architecture).takes_any_size(options):
            return f"{architecture} ({name}) takes square frames alone"
    if made.crop_size % PLACE_PIXELS:
        return (
            f"it needs frames whose side is a multiple of {PLACE_PIXELS} pixels, and {name} was trained on "
            f"{made.crop_size}"
        )
    if setup.config.backend in ("onnxruntime", "tensorrt") or Path(setup.path).suffix.lower() == ONNX:
        return "ONNX graphs take frames of one size alone, torch and OpenVINO those of any"
    return None


def checkpoint_spec(model: ModelConfig) -> ModelSpec | None:
    """Return what the checkpoint of a single network says of itself; None with two streams, or where it says nothing.

    Raises:
        CheckpointError: There is no such file, or its header is broken.
    """
    if model.two_stream:
        return None
    path = resolve_checkpoint(model.checkpoint)
    return read_graph_spec(path) if is_graph(path) else known_spec(model.checkpoint)


def with_checkpoint_threshold(config: Config) -> Config:
    """Return a configuration whose `idle.min_confidence`, where the user gave none, is the checkpoint's recommendation.

    A checkpoint that cannot be read leaves the configuration as it is: loading it reports the error.
    """
    if config.idle.min_confidence is not None:
        return config
    try:
        spec = checkpoint_spec(config.model)
    except StreamI3DError:
        return config
    if spec is None or spec.min_confidence is None:
        return config
    return structs.replace(config, idle=structs.replace(config.idle, min_confidence=spec.min_confidence))


def calibration_note(config: Config) -> str | None:
    """Return a line on a checkpoint that its training could not calibrate; None for any other.

    Args:
        config: As the user gave it, before `with_checkpoint_threshold`.
    """
    spec = checkpoint_spec(config.model)
    if spec is None or spec.calibration != "none":
        return None
    settled = with_checkpoint_threshold(config).idle
    if config.idle.min_confidence is not None:
        origin = "as configured"
    else:
        origin = "the default" if spec.min_confidence is None else "as the checkpoint recommends"
    return (
        f"the checkpoint is not calibrated: its confidences are no shares of right answers; min_confidence is "
        f"{settled.threshold:g}, {origin}"
    )


def _settle(model: ModelConfig, window: WindowConfig) -> ModelSetup:
    if model.two_stream:
        return _settle_two_streams(model, window)
    path, spec = resolve_checkpoint(model.checkpoint), checkpoint_spec(model)
    _check_runs_alone(model.name if spec is None else spec.architecture, path.name)
    if spec is not None and spec.architecture != model.name:
        raise ConfigError(
            f"model.name {model.name!r}: checkpoint {path.name} is of architecture {spec.architecture!r}; "
            f"use --model {spec.architecture} or another checkpoint"
        )
    labels = None if model.labels is None else load_labels(model.labels)
    if labels is not None and spec is not None:
        check_labels(labels, spec.num_classes)
    preprocessing = _merge(spec.preprocessing if spec else find_architecture(model.name).preprocessing, window)
    if is_graph(path) and spec is not None and preprocessing.clip_len != spec.preprocessing.clip_len:
        raise ConfigError(
            f"window.clip_len {preprocessing.clip_len}: {path.name} was exported for {spec.preprocessing.clip_len} "
            "frames; leave it out, or give the checkpoint that it was exported from"
        )
    return ModelSetup(path=str(path), spec=spec, config=model, preprocessing=preprocessing, labels=labels)


def _check_runs_alone(architecture: str, checkpoint: str) -> None:
    """Check that a network sees one stream: those of two are trained and evaluated, but do not run live.

    Raises:
        ConfigError: It sees RGB and flow, or there is no such architecture.
    """
    if len(find_architecture(architecture).streams) > 1:
        raise ConfigError(
            f"checkpoint {checkpoint}: {architecture!r} sees RGB and optical flow in one network, and does not run "
            f"live; give two I3D checkpoints with --model {TWO_STREAM}, or measure it with `evaluate`"
        )


def settle_stream(stream: StreamName, checkpoint: str) -> StreamWeights:
    """Resolve the weights of one stream.

    Raises:
        CheckpointError: There is no such file, its header is broken, or it is not of an I3D of that stream.
    """
    path = resolve_checkpoint(checkpoint)
    if is_graph(path):
        raise CheckpointError(
            f"checkpoint {path.name} is an exported network, which runs alone: for {stream} give the weights that it "
            "was exported from"
        )
    spec = known_spec(checkpoint)
    if spec is not None:
        check_stream(stream, spec, path.name)
    return StreamWeights(path=str(path), spec=spec)


def check_stream(stream: StreamName, spec: ModelSpec, name: str) -> None:
    """Check that a checkpoint is of an Inception I3D with the channels of its stream.

    Raises:
        CheckpointError: It is not.
    """
    if spec.architecture not in ("i3d", "i3d-flow"):
        raise CheckpointError(
            f"checkpoint {name} is of architecture {spec.architecture!r}: two streams are made of i3d networks, of RGB "
            "(3 channels) and of optical flow (2 channels)"
        )
    if spec.in_channels != STREAM_CHANNELS[stream]:
        flag = "--checkpoint" if stream == "rgb" else "--flow-checkpoint"
        raise CheckpointError(
            f"checkpoint {name} takes {spec.in_channels} channels, the {stream} stream has {STREAM_CHANNELS[stream]}: "
            f"give {flag} weights that were trained on {'RGB' if stream == 'rgb' else 'optical flow'}"
        )


def check_streams_agree(rgb: ModelSpec, flow: ModelSpec) -> None:
    """Check that two networks can be fused: that their outputs mean the same.

    Raises:
        CheckpointError: They cannot.
    """
    if rgb.num_classes != flow.num_classes:
        raise CheckpointError(
            f"the RGB checkpoint has {rgb.num_classes} classes and the flow checkpoint {flow.num_classes}: give two "
            "that were trained on the same classes"
        )
    for index, (ours, theirs) in enumerate(zip(rgb.labels or (), flow.labels or (), strict=False)):
        if ours != theirs:
            raise CheckpointError(
                f"class {index} is {ours!r} in the RGB checkpoint and {theirs!r} in the flow checkpoint: give two that "
                "were trained on the same classes in the same order"
            )


def label_names(asked: tuple[str, ...] | None, spec: ModelSpec) -> tuple[str, ...]:
    """Return what to call the outputs of a network: as was asked for, or as the checkpoint says, or by number.

    Raises:
        LabelsError: They are not as many as there are outputs.
    """
    labels = asked or spec.labels or tuple(f"class {index}" for index in range(spec.num_classes))
    check_labels(labels, spec.num_classes)
    return labels


def check_takes_rgb(setup: ModelSetup, spec: ModelSpec) -> None:
    """Check that a network that runs alone sees pictures.

    Raises:
        CheckpointError: It sees something else.
    """
    if spec.in_channels != 3:
        raise CheckpointError(
            f"checkpoint {setup.model_name.checkpoint} takes {spec.in_channels} channels, a picture has 3: for optical "
            f"flow give it as --flow-checkpoint with --model {TWO_STREAM} and an RGB --checkpoint"
        )


def wait_passively() -> None:
    """Let idle OpenMP threads sleep rather than spin; must be called before torch is first imported.

    Spinning threads and other busy processes (capture, a subscriber) keep each other off the cores. docs/decisions.md:
    beside a busy process on 2 cores the median latency was 1,820 ms, and 20 ms with this.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _merge(preprocessing: Preprocessing, window: WindowConfig) -> Preprocessing:
    chosen = {
        "clip_len": window.clip_len,
        "frame_interval": window.frame_interval,
        "sample_fps": window.sample_fps,
        "view": window.view,
    }
    return structs.replace(preprocessing, **{key: value for key, value in chosen.items() if value is not None})


def _settle_two_streams(model: ModelConfig, window: WindowConfig) -> ModelSetup:
    rgb, flow = settle_stream("rgb", model.checkpoint), settle_stream("flow", str(model.flow_checkpoint))
    if rgb.spec is not None and flow.spec is not None:
        check_streams_agree(rgb.spec, flow.spec)
    labels = None if model.labels is None else load_labels(model.labels)
    for weights in (rgb, flow):
        if labels is not None and weights.spec is not None:
            check_labels(labels, weights.spec.num_classes)
    return ModelSetup(
        path=rgb.path,
        spec=rgb.spec,
        config=model,
        preprocessing=shared_preprocessing([rgb, flow], window),
        labels=labels,
        flow=flow,
    )


def shared_preprocessing(streams: Sequence[StreamWeights], window: WindowConfig) -> Preprocessing:
    """Return the first stream's preprocessing under the window settings; all streams see the same frames.

    Raises:
        CheckpointError: The streams were trained on frames of different sizes or rates.
    """
    merged = [_merge(weights.spec.preprocessing if weights.spec else Preprocessing(), window) for weights in streams]
    for setting in ("short_side", "crop_size", "sample_fps", "clip_len", "frame_interval"):
        values = [getattr(preprocessing, setting) for preprocessing in merged]
        if len(set(values)) > 1:
            raise CheckpointError(
                f"the RGB checkpoint was trained with {setting}={values[0]} and the flow checkpoint with {values[1]}, "
                "but both streams see the same frames: give two that were trained alike"
            )
    return merged[0]


def check_carried(spec: ModelSpec | None, preprocessing: Preprocessing, checkpoint: str, name: str = "i3d") -> None:
    """Check that a network can be carried along a stream: an Inception I3D that sees every frame, in RGB.

    Args:
        spec: What is known of the checkpoint; None for nothing yet.
        preprocessing: Of its frames.
        checkpoint: What to call it.
        name: The architecture that was asked for.

    Raises:
        ConfigError: It cannot.
    """
    channels = "" if spec is None or spec.in_channels == 3 else f" of {spec.in_channels} channels"
    if name != "i3d" or channels:
        raise ConfigError(
            f"streaming mode is for Inception I3D on RGB, and {checkpoint} is {name}{channels}: give an i3d "
            "checkpoint, or leave out window.mode (--mode)"
        )
    if preprocessing.frame_interval != 1:
        raise ConfigError(
            f"streaming mode sees every frame, and {checkpoint} was trained on every "
            f"{preprocessing.frame_interval}th: give --frame-interval 1 and --sample-fps "
            f"{preprocessing.sample_fps / preprocessing.frame_interval:g}, or leave out window.mode (--mode)"
        )
