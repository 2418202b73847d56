"""Measures a checkpoint on a set of videos: the scores of their clips are averaged and compared with the true classes.

The network runs as in the live path: uint8 clips in, the engine's mixed precision, the checkpoint's temperature.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from msgspec import structs
from numpy.typing import NDArray
from torch import Tensor, nn

from stream_i3d.config import ModeName
from stream_i3d.errors import ConfigError, EngineError
from stream_i3d.inference.engine import LoadedModel
from stream_i3d.inference.selfcheck.comparison import Difference, compare, tolerance_of
from stream_i3d.inference.selfcheck.reference import as_array, check_clips, make_values, model_values, thinned
from stream_i3d.inference.setup import STREAM_CHANNELS, StreamName, check_carried, label_names
from stream_i3d.inference.torch_engine import (
    MixedPrecision,
    TorchEngine,
    choose_device,
    choose_precision,
    head_of,
    set_threads,
)
from stream_i3d.inference.two_stream import stream_preprocessing
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.i3d import I3D
from stream_i3d.models.registry import find_architecture
from stream_i3d.models.spec import ModelSpec, known_spec, resolve_checkpoint
from stream_i3d.preprocess import Preprocessing
from stream_i3d.recognition.head import PublishedHead
from stream_i3d.training import results
from stream_i3d.training.config import TrainConfig
from stream_i3d.training.datasets import make_test_dataset, with_clip
from stream_i3d.training.loading import Batch, ClipDataset, fixed_parts, make_loader
from stream_i3d.training.metrics import EVALUATIONS, confidence_bins, measure
from stream_i3d.training.results import Average, Evaluation, SkippedVideo, probabilities_of, video_results

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with the name of the work, the units done and the units in all."""

_CLIPS_AT_ONCE = {"cpu": 8, "cuda": 64}

_WENT_BAD = "it went bad while it was read"
_NOT_FINITE = "the network's output is not finite for it"


def no_progress(what: str, done: int, total: int) -> None:
    """Report nothing."""


class NamedDataset(ClipDataset, Protocol):
    """A dataset to measure a network on."""

    names: tuple[str, ...]
    """Name of each item: the path of a file, or the number of a generated scene."""

    skipped: tuple[tuple[str, str], ...]
    """Paths and reasons of the videos that cannot be read."""


class Network:
    """A checkpoint's network on its device, and the preprocessing of its clips."""

    def __init__(self, model: nn.Module, spec: ModelSpec, config: TrainConfig, name: str) -> None:
        """Args: `spec` describes `model`; `config` has the device and clip settings; `name` is the file's name."""
        self.spec = structs.replace(spec, preprocessing=with_clip(spec.preprocessing, config.clip))
        self.name = name
        self.streams: tuple[StreamName, ...] = _streams(spec)
        self.labels = label_names(None, spec)
        self.preprocessing = self.spec.preprocessing
        self.device = choose_device(config.run.device)
        self.precision = choose_precision(config.run.precision, self.device)
        set_threads(config.run.threads)
        self._engine: TorchEngine | None = None
        if len(self.streams) == 1:
            [stream] = self.streams
            own = structs.replace(self.spec, preprocessing=self._normalisation(stream))
            self._engine = TorchEngine(model, own, self.device, self.precision, stream=stream)
        # A file of two networks, or of one with two inputs, does not run live and is called as a whole.
        mixed = MixedPrecision(model, self.device, self.precision) if self._engine is None else self._engine.network
        self._mixed = mixed
        self.description = mixed.description

    def logits(self, clips: Mapping[str, Tensor]) -> Tensor:
        """Run the network.

        Args:
            clips: By stream: (B, T, H, W, C) uint8, RGB or flow codes.

        Returns:
            (B, num_classes) float32 on the CPU; not checked for being finite.
        """
        count = next(iter(clips.values())).shape[0]
        step = _CLIPS_AT_ONCE[self.device.type]
        rows = []
        for start in range(0, count, step):
            inputs = [
                self._mixed.inputs(clips[stream][start : start + step], self._normalisation(stream))
                for stream in self.streams
            ]
            rows.append(torch.from_numpy(self._logits(inputs)))
        return torch.cat(rows)

    def _logits(self, inputs: Sequence[Tensor]) -> NDArray[np.float32]:
        if self._engine is None:
            return self._mixed.run(self._mixed.model, *inputs)
        [batch] = inputs
        return self._head(self._engine.run(batch, [None] * len(batch))[0]).logits

    @property
    def _head(self) -> PublishedHead:
        [stream] = self.streams
        return PublishedHead({stream: head_of(self._mixed.model, self.spec, self.labels)})

    def set_temperature(self, temperature: float) -> None:
        """Use another temperature; the file is not changed."""
        self.spec = structs.replace(self.spec, temperature=temperature, calibration="validation")

    def live_model(self, mode: ModeName) -> LoadedModel:
        """Return this network as it runs live.

        Raises:
            ConfigError: The network has other inputs than RGB, or in streaming mode is not an Inception I3D.
        """
        if mode == "streaming":
            check_carried(self.spec, self.preprocessing, self.name, self.spec.architecture)
            carried = TorchEngine(self._carried, self.spec, self.device, self.precision, mode="streaming")
            return LoadedModel(carried, self._head)
        if self.streams != ("rgb",) or self._engine is None:
            raise ConfigError(
                f"{self.name} sees {' and '.join(self.streams)}: the live path is measured for RGB networks only; "
                "leave out --streaming"
            )
        return LoadedModel(self._engine, self._head)

    def temporal_logits(self, clips: Tensor) -> Tensor:
        """Run an Inception I3D on RGB clips of any length; (B, T, H, W, 3) uint8 -> (B, num_classes, T') float32."""
        inputs = self._mixed.inputs(clips, self.preprocessing)
        logits = torch.from_numpy(self._mixed.run(self._carried.temporal_logits, inputs))
        return logits if logits.ndim == 3 else logits.mean(dim=(3, 4))

    @property
    def _carried(self) -> I3D:
        assert isinstance(self._mixed.model, I3D)
        return self._mixed.model

    def _normalisation(self, stream: str) -> Preprocessing:
        return stream_preprocessing(stream, self.preprocessing)


def load_network(checkpoint: str, config: TrainConfig) -> Network:
    """Load the checkpoint to measure.

    Args:
        checkpoint: "motion", a name of published weights, or a file.
        config: Device, precision, threads and preprocessing of the clips.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        DeviceError: The device or the precision is not available.
        ConfigError: The clip settings do not fit the network.
    """
    path = resolve_checkpoint(checkpoint)
    model, spec = load_checkpoint(path, known_spec(checkpoint))
    network = Network(model, spec, config, path.name)
    if network.precision == "fp32" or len(network.streams) > 1:
        return network
    difference = _difference(network, model)
    if difference.within(tolerance_of(network.precision, int8=False)):
        return network
    log.warning("%s fails its self-check in %s (%s): fp32 is used instead", path.name, network.precision, difference)
    return Network(model, spec, structs.replace(config, run=structs.replace(config.run, precision="fp32")), path.name)


def _difference(network: Network, model: nn.Module) -> Difference:
    """Compare a network with the same weights in float32 on the clips of the self-check."""
    [stream], channels, made = network.streams, network.spec.in_channels, network.preprocessing
    clips = torch.from_numpy(np.stack(check_clips(made, channels, "window")))
    normalised = stream_preprocessing(stream, made)
    reference = make_values(model_values(model, normalised, channels, "window"))
    found = thinned(np.asarray(network.logits({stream: clips}).numpy(), np.float32))
    return compare(as_array(reference), found, network.spec.temperature)


@dataclass(frozen=True, slots=True)
class VideoScores:
    """The network's output for each video that could be read.

    Attributes:
        indices: V indices of dataset items, in order.
        targets: (V,) int64: the true classes.
        scores: (V, C) float32: the average over a video's clips.
        single: (V, C) float32: the logits of the middle clip; with three crops, of one of them.
        failed: Items without scores, because the output for one of their clips was not finite.
    """

    indices: tuple[int, ...]
    targets: Tensor
    scores: Tensor
    single: Tensor
    failed: tuple[int, ...] = ()


def score_videos(
    network: Network,
    dataset: ClipDataset,
    config: TrainConfig,
    average: Average,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> VideoScores:
    """Run all clips of all videos through the network.

    Args:
        network: Its preprocessing must be the dataset's.
        dataset: `clips[stream]` of a sample is (clips * crops, T, H, W, C).
        config: Numbers of clips and crops, and the workers that prepare them.
        average: Whether probabilities or logits are averaged over a video's clips.
        progress: Called with the number of videos done and the number in all.

    Raises:
        EngineError: The network's output is finite for no video.
    """
    temperature = network.spec.temperature
    per_batch = max(1, _CLIPS_AT_ONCE[network.device.type] // (config.clip.test_clips * config.clip.test_crops))
    loader: Iterable[Batch] = make_loader(
        dataset, fixed_parts(len(dataset), per_batch, 1, 0), config.data, network.device
    )
    rows: dict[int, tuple[int, Tensor, Tensor]] = {}
    failed: set[int] = set()
    done = 0
    for batch in loader:
        videos, clips = next(iter(batch["clips"].values())).shape[:2]
        flat = {stream: one.flatten(0, 1) for stream, one in batch["clips"].items()}  # (B * N, T, H, W, C)
        logits = network.logits(flat).reshape(videos, clips, -1)
        scores = (logits if average == "score" else (logits / temperature).softmax(dim=2)).mean(dim=1)
        middle = logits[:, clips // 2]
        for index, label, score, single in zip(
            batch["index"].tolist(), batch["label"].tolist(), scores, middle, strict=True
        ):
            if not (torch.isfinite(score).all() and torch.isfinite(single).all()):
                failed.add(index)
                continue
            rows[index] = (label, score, single)  # an item that replaces an unreadable one comes twice
        done += videos
        progress(done, len(dataset))
    indices = tuple(sorted(rows))
    if failed and not indices:
        raise EngineError(f"the output of {network.name} is not finite for any video: give run.precision=fp32")
    return VideoScores(
        indices,
        torch.tensor([rows[index][0] for index in indices]),
        torch.stack([rows[index][1] for index in indices]),
        torch.stack([rows[index][2] for index in indices]),
        tuple(sorted(failed)),
    )


def videos_for(network: Network, config: TrainConfig, data: str | None) -> NamedDataset:
    """Return the videos to evaluate a network on.

    Args:
        network: Its preprocessing, input streams and classes are used.
        config: The data, and the numbers of clips and crops.
        data: A folder or list in place of the configuration's validation set.

    Raises:
        ConfigError: There are no such videos, or their classes are not those of the network.
    """
    labels = network.spec.labels  # None: the classes of the configuration, or those found
    dataset = make_test_dataset(config, network.preprocessing, network.streams, labels, data)
    if len(dataset.labels) != network.spec.num_classes:
        raise ConfigError(
            f"{data or data_name(config)} has {len(dataset.labels)} classes, and {network.name} was trained on "
            f"{network.spec.num_classes}: give data.labels, or videos of these classes"
        )
    return dataset


def evaluate(
    network: Network,
    dataset: NamedDataset,
    config: TrainConfig,
    *,
    data: str | None = None,
    average: Average = "prob",
    names: Sequence[str] = tuple(EVALUATIONS),
    progress: Progress = no_progress,
) -> Evaluation:
    """Evaluate a network on videos.

    Args:
        network: The network, from `load_network`.
        dataset: The videos, from `videos_for` with the same `config` and `data`.
        config: Numbers of clips and crops of each video.
        data: The folder or list that was given in place of the configuration's validation set.
        average: Whether probabilities or logits are averaged over a video's clips.
        names: Keys of `metrics.EVALUATIONS`.
        progress: Called as the work proceeds.

    Raises:
        ConfigError: There are no such videos, or their classes are not those of the network.
    """
    if config.data.source == "scenes" and data is None:
        config = with_clips(config, 1, 1)  # a scene is one clip
    labels, temperature = dataset.labels, network.spec.temperature
    scored = score_videos(network, dataset, config, average, lambda done, total: progress("evaluating", done, total))
    single = scored
    if config.clip.test_crops != 1:  # the crops along the longer side are larger than a live window
        one = with_clips(config, 1, 1)
        cut = videos_for(network, one, data)
        single = score_videos(network, cut, one, average, lambda done, total: progress("single clips", done, total))
    probabilities = probabilities_of(scored.scores, average, temperature)
    video_names = [dataset.names[index] for index in scored.indices]
    return Evaluation(
        checkpoint=network.name,
        architecture=network.spec.architecture,
        temperature=temperature,
        calibrated=network.spec.calibrated,
        data=data or data_name(config),
        protocol=_protocol(network, config, average),
        labels=labels,
        metrics=measure(probabilities, scored.targets, names),
        clip_metrics=measure(probabilities_of(single.single, "score", temperature), single.targets, names),
        reliability=confidence_bins(probabilities, scored.targets),
        videos=video_results(video_names, scored.scores, scored.targets, labels),
        skipped=_skipped(dataset, scored),
    )


def _skipped(dataset: NamedDataset, scored: VideoScores) -> list[SkippedVideo]:
    kept, failed = set(scored.indices), set(scored.failed)
    return [
        *(SkippedVideo(video=video, reason=reason) for video, reason in dataset.skipped),
        *(
            SkippedVideo(video=name, reason=_NOT_FINITE if index in failed else _WENT_BAD)
            for index, name in enumerate(dataset.names)
            if index not in kept
        ),
    ]


def _streams(spec: ModelSpec) -> tuple[StreamName, ...]:
    """Return the input streams of a network; an RGB architecture with two input channels takes flow."""
    streams = find_architecture(spec.architecture).streams
    if streams == ("rgb",) and spec.in_channels == 2:
        return ("flow",)
    return tuple(stream for stream in STREAM_CHANNELS if stream in streams)


def with_clips(config: TrainConfig, clips: int | None, crops: Literal[1, 3] | None) -> TrainConfig:
    """Return a configuration with other numbers of test clips and crops; None keeps the present value."""
    chosen = {"test_clips": clips, "test_crops": crops}
    given = {name: value for name, value in chosen.items() if value is not None}
    return structs.replace(config, clip=structs.replace(config.clip, **given))


def data_name(config: TrainConfig) -> str:
    """Return a name of a configuration's validation set, for messages."""
    if config.data.source == "scenes":
        return "held-out scenes"
    if config.data.val is not None:
        return config.data.val
    return f"{config.data.val_fraction:.0%} of {config.data.train}"


def _protocol(network: Network, config: TrainConfig, average: Average) -> results.Protocol:
    made = network.preprocessing
    side = made.crop_size if config.clip.test_crops == 1 else made.short_side
    apart = f", {made.frame_interval} apart," if made.frame_interval > 1 else ""
    return results.Protocol(
        clips=config.clip.test_clips,
        crops=config.clip.test_crops,
        average=average,
        clip=f"{made.clip_len} frames{apart} at {made.sample_fps:g} frames/s, {side} x {side}",
        engine=network.description,
    )
