"""Two networks as one engine: one sees RGB, one optical flow, and their predictions are fused.

Carreira & Zisserman (CVPR 2017): trained apart, averaged at test time. The networks stay two, so that each keeps its
own checkpoint, normalisation and word. This module does not know how flow is computed: clips come with its codes
beside RGB, (T, H, W, 5) uint8, as flow_frames.py makes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.config import FusionName, ModelConfig
from stream_i3d.inference.engine import TorchEngine, choose_device, choose_precision, set_threads
from stream_i3d.inference.flow_frames import RGB_CHANNELS
from stream_i3d.inference.selfcheck.checked import Checkable, SelfCheck, load_checked, make_self_check
from stream_i3d.inference.selfcheck.comparison import Attempt, Difference, attempts, worst
from stream_i3d.inference.selfcheck.reference import CheckedNetwork, as_array, check_clips, reference_values
from stream_i3d.inference.setup import (
    ModelSetup,
    StreamName,
    StreamWeights,
    check_stream,
    check_streams_agree,
    label_names,
)
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.fusion import fuse
from stream_i3d.models.spec import ModelSpec
from stream_i3d.preprocess import Preprocessing

_CODES = (127.5, 127.5, 127.5)
"""Mean and deviation that turn flow's codes into [-1, 1], whatever RGB is normalised by."""

TwoBatches = tuple[torch.Tensor, torch.Tensor]
"""(B, 3, T, H, W) RGB and (B, 2, T, H, W) flow, float."""


class TwoStreamEngine:
    """An RGB and a flow engine behind the one `Engine` protocol; also a `FusingEngine`."""

    def __init__(self, rgb: TorchEngine, flow: TorchEngine, fusion: FusionName) -> None:
        self.labels = rgb.labels
        self.description, self.facts = f"{rgb.description}, RGB and flow, fused by {fusion}", rgb.facts
        self.temperature = 1.0  # of what `fuse` returns: each network's own stands before that
        self.temperatures = {"rgb": rgb.temperature, "flow": flow.temperature}
        self._rgb, self._flow, self._fusion = rgb, flow, fusion
        self.self_check = None if rgb.self_check is None or flow.self_check is None else _BothChecks(rgb, flow)

    def prepare(self, clips: Sequence[NDArray[np.uint8]]) -> TwoBatches:
        """Take B clips of (T, H, W, 5) uint8; afterwards their memory may be overwritten."""
        rgb, flow = zip(*(split_streams(clip) for clip in clips), strict=True)
        return self._rgb.prepare(rgb), self._flow.prepare(flow)

    def stream_logits(self, batch: TwoBatches) -> dict[str, NDArray[np.float32]]:
        """Run a prepared batch; return each network's (B, num_classes) float32, by "rgb" and "flow"."""
        rgb, flow = batch
        return {"rgb": self._rgb.logits(rgb), "flow": self._flow.logits(flow)}

    def fuse(self, logits: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """(B, num_classes) float32 of each network -> the same of both, in float32; see `models.fusion.fuse`.

        Probabilities are fused at each network's own temperature. Logits are added as they are: theirs were never
        measured together.
        """
        own = logits
        if self._fusion == "probabilities":
            own = {stream: rows / np.float32(self.temperatures[stream]) for stream, rows in logits.items()}
        fused = fuse([torch.from_numpy(rows) for rows in own.values()], self._fusion)
        return np.asarray(fused.numpy(), dtype=np.float32)

    def logits(self, batch: TwoBatches) -> NDArray[np.float32]:
        """Run a prepared batch; return the fused (B, num_classes) float32."""
        return self.fuse(self.stream_logits(batch))

    def warm_up(self, batch_sizes: Sequence[int]) -> None:
        """Run each batch size once on both."""
        self._rgb.warm_up(batch_sizes)
        self._flow.warm_up(batch_sizes)


class _BothChecks(SelfCheck):
    """The checks of two networks as one: the worse of the two counts."""

    def __init__(self, rgb: TorchEngine, flow: TorchEngine) -> None:
        assert rgb.self_check is not None and flow.self_check is not None
        self._parts = ((rgb, rgb.self_check), (flow, flow.self_check))
        facts = [check.facts for _, check in self._parts]
        worse = max(facts, key=lambda one: one.difference or 0.0)
        self.facts = structs.replace(worse, rejected=[way for one in facts for way in one.rejected])

    def difference(self, engine: Checkable, batch_size: int = 1) -> Difference:
        return worst([check.difference(part, batch_size) for part, check in self._parts])

    def passes(self, engine: Checkable, batch_size: int = 1) -> bool:
        return all(check.passes(part, batch_size) for part, check in self._parts)


def stream_preprocessing(stream: str, preprocessing: Preprocessing) -> Preprocessing:
    """Return how a stream's clips are normalised; the given mean and deviation are RGB's."""
    return structs.replace(preprocessing, mean=_CODES, std=_CODES) if stream == "flow" else preprocessing


def split_streams(clip: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(T, H, W, 5) uint8 -> views (T, H, W, 3) RGB and (T, H, W, 2) codes of flow."""
    return clip[..., :RGB_CHANNELS], clip[..., RGB_CHANNELS:]


def load_two_stream(setup: ModelSetup) -> TwoStreamEngine:
    """Load both networks and put them on the device.

    Raises:
        CheckpointError, LabelsError, DeviceError: What was asked for is not to be had, or does not fit together.
    """
    assert setup.flow is not None
    weights = StreamWeights(path=setup.path, spec=setup.spec)
    rgb, spec = load_stream("rgb", weights, setup.config, setup.preprocessing, setup.labels)
    flow, flow_spec = load_stream("flow", setup.flow, setup.config, setup.preprocessing)
    check_streams_agree(spec, flow_spec)
    return TwoStreamEngine(rgb, flow, setup.config.fusion)


def load_stream(
    stream: StreamName,
    weights: StreamWeights,
    config: ModelConfig,
    preprocessing: Preprocessing,
    labels: tuple[str, ...] | None = None,
) -> tuple[TorchEngine, ModelSpec]:
    """Load one stream's network and put it on the device.

    Args:
        stream: Which of the two.
        weights: Its file.
        config: Device, precision, threads.
        preprocessing: Of the frames; its mean and deviation are RGB's.
        labels: To use in place of the checkpoint's.

    Raises:
        CheckpointError, LabelsError, DeviceError: What was asked for is not to be had.
    """
    device = choose_device(config.device)
    precision = choose_precision(config.precision, device)
    set_threads(config.threads)
    model, spec = load_checkpoint(weights.path, weights.spec)
    name = Path(weights.path).name
    check_stream(stream, spec, name)  # another program's file tells only now what it is
    spec = structs.replace(spec, preprocessing=stream_preprocessing(stream, preprocessing))
    names = label_names(labels, spec)
    network = CheckedNetwork(path=weights.path, spec=weights.spec, name=None, preprocessing=spec.preprocessing)

    def load(way: Attempt) -> TorchEngine:
        return TorchEngine(model, spec, names, torch.device(way.device), way.precision)

    def make_check(engine: TorchEngine, way: Attempt) -> SelfCheck:
        clips = check_clips(spec.preprocessing, spec.in_channels, "window")
        return make_self_check(way, clips, as_array(reference_values(network)), "window")

    ways = attempts(Attempt(backend="torch", precision=precision, device=str(device)), [])
    return load_checked(name, ways, load, make_check), spec
