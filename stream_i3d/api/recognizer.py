"""`Recognizer`: one object that recognises actions in video files, live sources and arrays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, get_type_hints, overload

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.config import (
    TWO_STREAM,
    BackendName,
    CameraConfig,
    Config,
    ModelConfig,
    ModeName,
    Precision,
    PublishConfig,
    SmoothingConfig,
    SmoothingName,
    load_config,
)
from stream_i3d.errors import ConfigError, EngineError, StreamI3DError, did_you_mean
from stream_i3d.messages import Frame, FrameStamp, LabelScore, Recognition, Segment, VideoRecognition, Window
from stream_i3d.shipped_configs import find_config

if TYPE_CHECKING:
    from stream_i3d.api.model import Features, Model
    from stream_i3d.api.stream import Stream
    from stream_i3d.inference.extract import Progress
    from stream_i3d.inference.offline import Ending

_SECTIONS = ("model", "window", "smoothing", "idle", "events", "capture")
_RENAMED: Mapping[str, str] = MappingProxyType({"name": "model", "method": "smoothing"})
_LEFT_OUT = frozenset({"checkpoint", "devices", "max_memory_mb", "adaptive", "batch_wait_ms"})
"""Settings that are given otherwise, or that only processes of a service have."""

_MIN_STACK, _MAX_STACK = 8, 1024
_ALL_LABELS = 2**31


@dataclass(frozen=True, slots=True)
class VideoResult:
    """What was recognised in a video.

    Attributes:
        video: The path or URL, without a password.
        top_k: Labels of the whole video, likeliest first: probabilities averaged over its windows.
        segments: Stretches in which one action was recognised, in order of time.
        predictions: One message per window, in order of time; the ones before the first whole window are "warming".
        problem: Why there are no predictions, or why they mean little; None if all is well.
    """

    video: str
    top_k: list[LabelScore]
    segments: list[Segment]
    predictions: list[VideoRecognition]
    problem: str | None = None

    @property
    def label(self) -> str | None:
        """The video's likeliest label; None without predictions."""
        return self.top_k[0].label if self.top_k else None

    @property
    def confidence(self) -> float:
        """Probability of `label`, in [0, 1]; 0 without predictions."""
        return self.top_k[0].probability if self.top_k else 0.0


class Recognizer:
    """Recognises actions with one network, in this process.

    Weights are loaded at first use, or by `load`; everything else is checked when it is made. Not thread-safe: use one
    in each thread.

    Example:
        >>> recognizer = Recognizer("motion", device="cpu")
        >>> recognizer("clip.mp4").label
        'waving'
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        *,
        config: str | Path | None = None,
        device: str | None = None,
        backend: BackendName | None = None,
        precision: Precision | None = None,
        mode: ModeName | None = None,
        labels: str | None = None,
        stride: int | None = None,
        top_k: int | None = None,
        smoothing: SmoothingName | None = None,
        min_confidence: float | None = None,
        **options: Any,
    ) -> None:
        """Choose a network and its settings. None takes what `config` says, else the default.

        Args:
            checkpoint: Name of carried or published weights (`stream-i3d weights list`), or a file; default "motion".
            config: YAML file, or the name of one that comes with the package; the other arguments lie over it.
            device: "auto", "cpu", "cuda" or "cuda:N".
            backend: "auto", "torch", "openvino", "onnxruntime" or "tensorrt".
            precision: "auto", "fp32", "bf16" or "fp16".
            mode: "window", or "streaming" to carry the network along the stream.
            labels: Name of a carried label list, or a text file with a label per line.
            stride: Frames from one prediction to the next.
            top_k: Length of the lists of likeliest labels.
            smoothing: "ema", "mean", "vote" or "none".
            min_confidence: Confidence below which `label` is None, in [0, 1].
            **options: Any other setting of the sections model, window, smoothing, idle, events and capture of the
                configuration, by its name there, such as `flow_checkpoint`, `clip_len`, `time_constant_s` or `fast`;
                the architecture, `model.name` there, is `model` here.

        Raises:
            ConfigError: An option is unknown or its value is not allowed.
            CheckpointError: There is no such checkpoint, or its header is damaged.
            LabelsError: The label list cannot be read, or has another length than the network's head.
        """
        given = {
            "device": device,
            "backend": backend,
            "precision": precision,
            "mode": mode,
            "labels": labels,
            "stride": stride,
            "top_k": top_k,
            "smoothing": smoothing,
            "min_confidence": min_confidence,
            **options,
        }
        overrides = {_key_of(name): value for name, value in given.items() if value is not None}
        if checkpoint is not None:
            overrides |= {"model.checkpoint": str(checkpoint), **_implied(checkpoint, overrides)}
        self._configure(load_config(None if config is None else find_config("run", config), overrides))

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Return a recognizer for a whole configuration; raises as the constructor does."""
        recognizer = cls.__new__(cls)
        recognizer._configure(config)
        return recognizer

    def _configure(self, config: Config) -> None:
        from stream_i3d.api.model import Model
        from stream_i3d.capture.ffmpeg_options import silence_ffmpeg

        silence_ffmpeg()  # it would print URLs with their passwords
        self._model: Model = Model(config)
        self._config = self._model.config

    def load(self) -> Self:
        """Load the network now, rather than at first use; return the recognizer.

        Raises:
            CheckpointError: The weights are damaged or do not fit.
            DeviceError: This machine lacks the device or precision.
            ConfigError: The backend's package is not installed, or cannot run the network.
        """
        _ = self._model.loaded
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the network's classes, in the order of its outputs."""
        return self._model.loaded.labels

    @overload
    def __call__(self, video: str | Path) -> VideoResult: ...  # type: ignore[overload-overlap]  # str is iterable, too

    @overload
    def __call__(self, video: Iterable[str | Path]) -> Iterator[VideoResult]: ...

    def __call__(self, video: str | Path | Iterable[str | Path]) -> VideoResult | Iterator[VideoResult]:
        """Recognise video files, as fast as they can be read.

        Args:
            video: Path of a file, its http(s) URL, or `synthetic://?duration=SECONDS`; or several of them.

        Returns:
            The result; of several videos an iterator of results in the same order, each made when it is asked for.
            After an error `next` goes on with the following video.

        Raises:
            SourceError: A video cannot be read.
            ConfigError: It is a camera, or never ends; use `stream`.
            EngineError: The network's output was not finite for some windows.
        """
        if isinstance(video, str | Path):
            return self._recognize(str(video))
        return map(self._recognize, map(str, video))

    def messages(
        self,
        video: str | Path,
        *,
        progress: Progress = lambda time, duration: None,
        ended: Callable[[Ending], None] = lambda ending: None,
    ) -> Iterator[VideoRecognition | Segment]:
        """Yield a video's predictions as they are made, then its segments; arguments and errors as for a call.

        Args:
            video: The video.
            progress: Called with the media time reached and the whole duration (None if unknown), in seconds.
            ended: Called once at the end of the video, with the number of predictions and any problem.
        """
        return self._model.recognize(str(video), self._config, progress, ended)

    def stream(self, *sources: str | Path | int) -> Stream:
        """Recognise live sources in this process.

        Args:
            *sources: Each a webcam's index or device path, an rtsp, rtmp or http(s) URL, a video file (at its own
                speed, or with the option `fast=True` at full speed), or `synthetic://`; `NAME=SOURCE` names the camera.

        Returns:
            An iterator of predictions, which is also a context manager. Capturing starts at once, in a thread per
            source. The network runs in the thread that iterates.

        Raises:
            ConfigError: There is no source, one means nothing, or two have the same name.
        """
        from stream_i3d.api.stream import Stream
        from stream_i3d.capture.address import split_name
        from stream_i3d.files import kind_of
        from stream_i3d.service.camera_names import name_cameras

        if not sources:
            raise ConfigError("stream: give a source, such as a webcam's index, a URL, a video file or synthetic://")
        given = [split_name(str(source), lambda path: kind_of(path) is not None) for source in sources]
        cameras = [CameraConfig(source=source, name=name) for name, source in given]
        return Stream.open(self._model, self._config, name_cameras(structs.replace(self._config, cameras=cameras)))

    def predict(self, frames: NDArray[np.uint8]) -> Recognition:
        """Recognise the action in a clip that is in memory.

        Args:
            frames: (T, H, W, 3) uint8 RGB, at the network's rate (25 frames a second for most), of any size: they are
                resized and cropped as those of a camera. T is at least a window's length; of longer clips the
                windows' probabilities are averaged.

        Returns:
            A prediction. `label` is None below `min_confidence`; `top_k` always lists the likeliest labels.

        Raises:
            ConfigError: The array has another type or shape, or too few frames.
            EngineError: The network's output is not finite.
        """
        _check_frames(frames)
        every = SmoothingConfig(method="mean", last=max(1, len(frames)))
        idle = structs.replace(self._config.idle, min_motion=0, skip_inference=False)
        camera = self._model.camera("frames", structs.replace(self._config, smoothing=every, idle=idle))
        results: list[Recognition] = []
        for frame in self._prepared(frames):
            if camera.push(frame):
                results += [one for one in camera.run() if isinstance(one, Recognition) and one.state != "warming"]
        if camera.windows_failed:
            raise EngineError(
                "the network's output is not finite for these frames: give precision='fp32', or another backend"
            )
        if not results:
            made = self._model.preprocessing
            raise ConfigError(
                f"frames: {len(frames)} are given, and the first prediction takes {self._model.first_prediction} "
                f"({made.sample_fps:g} a second)"
            )
        end_time = (len(frames) - 1) / self._model.preprocessing.sample_fps
        window = Window(first_frame=0, last_frame=len(frames) - 1, start_time=0.0, end_time=end_time)
        return structs.replace(results[-1], window=window)

    def features(
        self,
        video: str | Path,
        *,
        stack_size: int | None = None,
        step_size: int | None = None,
        progress: Progress = lambda time, duration: None,
    ) -> Features:
        """Return what the head of an I3D network sees, averaged over time and space, stack by stack.

        Args:
            video: As for a call.
            stack_size: Frames in a stack, 8 to 1024; default is the clip length.
            step_size: Frames from the start of a stack to the start of the next; default is the stride.
            progress: As for `messages`.

        Returns:
            `features`, (steps, 1024) float32 at the published width, and `times`, (steps,) seconds of media time of
            each stack's last frame. No rows if the video is shorter than a stack.

        Raises:
            ConfigError: A size is out of range, or the video never ends.
            CheckpointError: The network is not an Inception I3D, or is an export.
            SourceError: The video cannot be read.
            EngineError: Features are not finite.
        """
        stack = self._model.preprocessing.clip_len if stack_size is None else stack_size
        step = self._config.window.stride if step_size is None else step_size
        if not _MIN_STACK <= stack <= _MAX_STACK:
            raise ConfigError(f"stack_size {stack}: allowed are {_MIN_STACK} to {_MAX_STACK} frames")
        if step < 1:
            raise ConfigError(f"step_size {step}: give 1 or more frames")
        return self._model.features(str(video), stack, step, progress)

    def _recognize(self, video: str) -> VideoResult:
        from stream_i3d.redact import redact

        top_k = self._config.publish.top_k
        config = structs.replace(self._config, publish=PublishConfig(top_k=_ALL_LABELS))
        endings: list[Ending] = []
        predictions: list[VideoRecognition] = []
        segments: list[Segment] = []
        means = _Means()
        for message in self._model.recognize(video, config, lambda time, duration: None, endings.append):
            if isinstance(message, Segment):
                segments.append(message)
                continue
            means.add(message)
            predictions.append(structs.replace(message, top_k=message.top_k[:top_k]))
        problem = endings[0].problem if endings else None
        return VideoResult(redact(video), means.top(top_k), segments, predictions, problem)

    def _prepared(self, frames: NDArray[np.uint8]) -> Iterator[Frame]:
        """(T, H, W, 3) uint8 RGB -> T frames of (crop_size, crop_size, 3) uint8 RGB with their stamps."""
        from stream_i3d.preprocess import prepare_frame

        made, began_ns, wall_time = self._model.preprocessing, time.monotonic_ns(), time.time()
        for number, rgb in enumerate(frames):
            stamp = FrameStamp(
                camera="frames",
                epoch=0,
                seq=number,
                capture_ns=began_ns,
                wall_time=wall_time,
                media_time=number / made.sample_fps,
            )
            yield Frame(stamp, prepare_frame(np.ascontiguousarray(rgb[:, :, ::-1]), made))


class _Means:
    """Each label's probability, averaged over a video's windows."""

    def __init__(self) -> None:
        self._labels: dict[int, str] = {}
        self._sums: dict[int, float] = {}
        self._windows = 0

    def add(self, prediction: Recognition) -> None:
        """Add a window whose `top_k` has all labels; one without probabilities is left out."""
        self._windows += bool(prediction.top_k)
        for score in prediction.top_k:
            self._labels[score.index] = score.label
            self._sums[score.index] = self._sums.get(score.index, 0.0) + score.raw_probability

    def top(self, count: int) -> list[LabelScore]:
        """Return the likeliest labels, best first."""
        means = {index: min(1.0, total / self._windows) for index, total in self._sums.items()}
        best = sorted(means, key=lambda index: (-means[index], index))[:count]
        return [
            LabelScore(index=index, label=self._labels[index], probability=means[index], raw_probability=means[index])
            for index in best
        ]


@cache
def _options() -> Mapping[str, str]:
    """Return the dotted key of each option by its name."""
    kinds = get_type_hints(Config)
    options = {
        _RENAMED.get(name, name): f"{section}.{name}"
        for section in _SECTIONS
        for name in kinds[section].__struct_fields__
        if name not in _LEFT_OUT
    }
    return MappingProxyType({**options, "top_k": "publish.top_k"})


def _key_of(option: str) -> str:
    options = _options()
    if option not in options:
        names = ["checkpoint", "config", *options]
        raise ConfigError(
            f"Recognizer has no option {option!r}{did_you_mean(option, names)}; allowed are {', '.join(names)}"
        )
    return options[option]


def _implied(checkpoint: str | Path, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the architecture and mode that a checkpoint asks for, where the caller has not said."""
    from stream_i3d.inference.setup import checkpoint_spec

    if "model.flow_checkpoint" in overrides:
        return {} if "model.name" in overrides else {"model.name": TWO_STREAM}
    try:
        spec = checkpoint_spec(ModelConfig(checkpoint=str(checkpoint)))
    except StreamI3DError:
        return {}  # reported when the settings are checked as a whole
    if spec is None:
        return {}
    implied = {"model.name": spec.architecture, "window.mode": spec.mode}
    return {key: value for key, value in implied.items() if key not in overrides}


def _check_frames(frames: NDArray[np.uint8]) -> None:
    """Check that an array is a clip of RGB pictures.

    Raises:
        ConfigError: It is not.
    """
    wanted = "give (T, H, W, 3) uint8 RGB"
    if not isinstance(frames, np.ndarray):
        raise ConfigError(f"frames: a {type(frames).__name__}, not a NumPy array; {wanted}")
    if frames.ndim != 4 or frames.shape[3] != 3:
        raise ConfigError(f"frames: an array of shape {frames.shape}; {wanted}")
    if frames.dtype != np.uint8:
        raise ConfigError(f"frames: an array of {frames.dtype}; {wanted}, with values from 0 to 255")
    if 0 in frames.shape:
        raise ConfigError(f"frames: an array of shape {frames.shape} holds no pictures; {wanted}")
