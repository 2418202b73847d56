"""Two networks as one engine: one sees RGB, one optical flow, and their predictions are fused.

Carreira & Zisserman (CVPR 2017): trained apart, averaged at test time. The networks stay two, so that each keeps its
own checkpoint, normalisation and word. This module does not know how flow is computed: clips come with its codes
beside RGB, (T, H, W, 5) uint8, as flow_frames.py makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from msgspec import structs

from stream_i3d.config import ModelConfig
from stream_i3d.inference.engine import Batch, Check, ClipShape, Engine, Frames, LoadedModel, State
from stream_i3d.inference.flow_frames import RGB_CHANNELS
from stream_i3d.inference.ring import HostMemory, RingMemory, RingShape
from stream_i3d.inference.selfcheck.checked import SelfCheck, load_checked, make_self_check
from stream_i3d.inference.selfcheck.comparison import Attempt, attempts
from stream_i3d.inference.selfcheck.reference import CheckedNetwork, as_array, check_clips, reference_values
from stream_i3d.inference.setup import (
    ModelSetup,
    StreamName,
    StreamWeights,
    check_stream,
    check_streams_agree,
    label_names,
)
from stream_i3d.inference.torch_engine import TorchEngine, choose_device, choose_precision, head_of, set_threads
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.spec import ModelSpec
from stream_i3d.preprocess import Preprocessing
from stream_i3d.recognition.head import Features, PublishedHead

_CODES = (127.5, 127.5, 127.5)
"""Mean and deviation that turn flow's codes into [-1, 1], whatever RGB is normalised by."""


class TwoStreamEngine:
    """An RGB and a flow engine as one, which gives the features of both."""

    def __init__(self, rgb: Engine, flow: Engine) -> None:
        self.description = f"{rgb.description}, RGB and flow"
        self.facts = rgb.facts
        *size, rgb_channels = rgb.clip_shape
        self.clip_shape: ClipShape = (size[0], size[1], size[2], rgb_channels + flow.clip_shape[-1])
        self._rgb, self._flow = rgb, flow

    def make_ring(self, shape: RingShape) -> RingMemory:
        """Return plain memory: each frame is divided between two networks."""
        return HostMemory(shape)

    def prepare(self, clips: Sequence[Frames], device_frames: Sequence[object] = ()) -> tuple[Batch, Batch]:
        """Take B clips of (T, H, W, 5) uint8; afterwards their memory may be overwritten."""
        rgb, flow = zip(*(split_streams(clip) for clip in clips), strict=True)
        return self._rgb.prepare(rgb), self._flow.prepare(flow)

    def run(self, batch: tuple[Batch, Batch], states: Sequence[State]) -> tuple[Features, list[State]]:
        """Run a prepared batch on both; return the features of "rgb" and "flow"."""
        rgb, flow = batch
        return {**self._rgb.run(rgb, states)[0], **self._flow.run(flow, states)[0]}, [None] * len(states)


class _BothChecks:
    """The checks of two networks as one: the worse of the two counts."""

    def __init__(self, parts: Sequence[Check]) -> None:
        self._parts = parts
        facts = [check.facts for check in parts]
        worse = max(facts, key=lambda one: one.difference or 0.0)
        self.facts = structs.replace(worse, rejected=[way for one in facts for way in one.rejected])

    def difference(self, batch_size: int = 1) -> object:
        return " and ".join(str(check.difference(batch_size)) for check in self._parts)

    def passes(self, batch_size: int = 1) -> bool:
        return all(check.passes(batch_size) for check in self._parts)


def stream_preprocessing(stream: str, preprocessing: Preprocessing) -> Preprocessing:
    """Return how a stream's clips are normalised; the given mean and deviation are RGB's."""
    return structs.replace(preprocessing, mean=_CODES, std=_CODES) if stream == "flow" else preprocessing


def split_streams(clip: Frames) -> tuple[Frames, Frames]:
    """(T, H, W, 5) uint8 -> views (T, H, W, 3) RGB and (T, H, W, 2) codes of flow."""
    return clip[..., :RGB_CHANNELS], clip[..., RGB_CHANNELS:]


def load_two_stream(setup: ModelSetup) -> LoadedModel:
    """Load both networks and put them on the device.

    Raises:
        CheckpointError, LabelsError, DeviceError: A part is missing, cannot be used, or does not fit the others.
    """
    assert setup.flow is not None
    weights = StreamWeights(path=setup.path, spec=setup.spec)
    rgb, spec = load_stream("rgb", weights, setup.config, setup.preprocessing, setup.labels)
    flow, flow_spec = load_stream("flow", setup.flow, setup.config, setup.preprocessing)
    check_streams_agree(spec, flow_spec)
    heads = {**rgb.head.heads, **flow.head.heads}
    checks = [check for check in (rgb.check, flow.check) if check is not None]
    engine = TwoStreamEngine(rgb.engine, flow.engine)
    engine.description += f", fused by {setup.config.fusion}"
    return LoadedModel(engine, PublishedHead(heads, setup.config.fusion), _BothChecks(checks))


def load_stream(
    stream: StreamName,
    weights: StreamWeights,
    config: ModelConfig,
    preprocessing: Preprocessing,
    labels: tuple[str, ...] | None = None,
) -> tuple[LoadedModel, ModelSpec]:
    """Load one stream's network and put it on the device.

    Args:
        stream: Which of the two.
        weights: Its file.
        config: Device, precision, threads.
        preprocessing: Of the frames; its mean and deviation are RGB's.
        labels: To use in place of the checkpoint's.

    Raises:
        CheckpointError, LabelsError, DeviceError: What was asked for is missing or cannot be used.
    """
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    set_threads(config.threads)
    model, spec = load_checkpoint(weights.path, weights.spec)
    name = Path(weights.path).name
    check_stream(stream, spec, name)  # another program's file tells only now what it is
    spec = structs.replace(spec, preprocessing=stream_preprocessing(stream, preprocessing))
    head = PublishedHead({stream: head_of(model, spec, label_names(labels, spec))})
    network = CheckedNetwork(path=weights.path, spec=weights.spec, name=None, preprocessing=spec.preprocessing)

    def load(way: Attempt) -> LoadedModel:
        return LoadedModel(TorchEngine(model, spec, torch.device(way.device), way.precision, stream=stream), head)

    def make_check(loaded: LoadedModel, way: Attempt) -> SelfCheck:
        clips = check_clips(spec.preprocessing, spec.in_channels, "window")
        return make_self_check(loaded, way, clips, as_array(reference_values(network)))

    ways = attempts(Attempt(backend="torch", precision=precision, device=str(device)), [])
    return load_checked(name, ways, load, make_check), spec
