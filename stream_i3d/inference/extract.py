"""Features of whole videos, stack by stack, in the files that the well-known extraction tools write.

The live path's own reader, sampling, preprocessing and flow; the networks' features in place of their logits. For
dance.mp4: dance_rgb.npy and dance_flow.npy, (N, 1024) float32 at the published width; dance_fps.npy, a number, the rate
the frames were sampled at; dance_timestamps_ms.npy, (N,) float64, the media time of each stack's last frame.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stream_i3d.capture.address import SourceAddress
from stream_i3d.capture.reader import FrameReader
from stream_i3d.config import CaptureConfig, ModelConfig, WindowConfig
from stream_i3d.errors import ConfigError, EngineError
from stream_i3d.inference.engine import LoadedModel
from stream_i3d.inference.feed import Augmenting
from stream_i3d.inference.flow_frames import RGB_CHANNELS, make_flow_frames
from stream_i3d.inference.offline import frames_of, offline_address, offline_reader, open_offline
from stream_i3d.inference.setup import StreamName, settle_stream, shared_preprocessing
from stream_i3d.redact import redact
from stream_i3d.sampling import too_slow

log = logging.getLogger(__name__)

STREAMS: tuple[StreamName, ...] = ("rgb", "flow")

Progress = Callable[[float, float | None], None]
"""Called with the media time reached and the whole duration (None if unknown), in seconds."""


def no_progress(time: float, duration: float | None) -> None:
    """Do nothing."""


class Extracted(NamedTuple):
    """What a video gives: (stacks, width) float32 by stream, and (stacks,) float64 end times in ms of media time."""

    features: dict[StreamName, NDArray[np.float32]]
    times_ms: NDArray[np.float64]


class ExtractJob(Struct, frozen=True, kw_only=True):
    """What to extract.

    Attributes:
        streams: Whose features; "rgb", "flow" or both.
        model: Weights, flow method and device.
        stack_size: Frames in a stack.
        step_size: Frames from one stack's first to the next one's.
        fps: Frames per second the video is sampled at.
        output: Folder of the files.
    """

    streams: tuple[StreamName, ...]
    model: ModelConfig
    stack_size: int = 64
    step_size: int = 64
    fps: float = 25.0
    output: Path

    def files(self, video: str) -> dict[str, Path]:
        """Return the files of a video by what they hold."""
        return {kind: self.output / f"{_stem(video)}_{kind}.npy" for kind in (*self.streams, "fps", "timestamps_ms")}

    def done(self, video: str) -> bool:
        """Tell whether all files of a video are there."""
        return all(path.is_file() for path in self.files(video).values())


class Extractor:
    """The networks of a job, loaded once for all videos."""

    def __init__(self, job: ExtractJob) -> None:
        """Load the weights.

        Raises:
            CheckpointError, DeviceError: What was asked for is missing or cannot be used.
        """
        from stream_i3d.inference.two_stream import load_stream  # it imports torch

        self._job = job
        weights = {stream: settle_stream(stream, _checkpoint(stream, job.model)) for stream in job.streams}
        window = WindowConfig(clip_len=job.stack_size, frame_interval=1, sample_fps=job.fps)
        self._preprocessing = shared_preprocessing(list(weights.values()), window)
        self._models: dict[StreamName, LoadedModel] = {
            stream: load_stream(stream, own, job.model, self._preprocessing)[0] for stream, own in weights.items()
        }

    def run(self, video: str, progress: Progress = no_progress) -> int:
        """Write a video's files; return how many stacks it has, 0 for one shorter than a stack.

        Arguments and errors are those of `extract`; after an error nothing is written.

        Raises:
            ConfigError: The files cannot be written.
        """
        found = self.extract(video, progress)
        arrays: dict[str, NDArray[Any]] = {str(stream): rows for stream, rows in found.features.items()}
        arrays |= {"fps": np.array(self._job.fps), "timestamps_ms": found.times_ms}
        _write_all({path: arrays[kind] for kind, path in self._job.files(video).items()})
        return len(found.times_ms)

    def extract(self, video: str, progress: Progress = no_progress) -> Extracted:
        """Return a video's features.

        Args:
            video: As for `offline_address`.
            progress: Called with the media time reached and the whole duration (None where unknown), in seconds.

        Raises:
            SourceError: The video cannot be read.
            EngineError: A stack's features are not finite.
        """
        rows: dict[StreamName, list[NDArray[np.float32]]] = {stream: [] for stream in self._models}
        times_ms: list[float] = []
        source = open_offline(video, CaptureConfig())
        reader = offline_reader(source, "video", self._preprocessing)
        try:
            for stack, time in self._stacks(reader, source.duration_s, progress):
                times_ms.append(time * 1000)
                for stream, features in self._features(stack).items():
                    if not np.isfinite(features).all():
                        raise EngineError(
                            f"{redact(video)}: the {stream} network's features are not finite for the stack that ends "
                            f"at {time:.2f} s, so nothing is written: give --precision fp32"
                        )
                    rows[stream].append(features)
        finally:
            source.close()
        slow = too_slow(redact(video), reader.pictures, reader.end_s, self._preprocessing)
        if slow is not None and times_ms:
            log.warning("%s", slow)
        arrays = {
            stream: np.array(features, np.float32).reshape(-1, self._models[stream].head.channels)
            for stream, features in rows.items()
        }
        return Extracted(arrays, np.array(times_ms, np.float64))

    def _stacks(
        self, reader: FrameReader, duration_s: float | None, progress: Progress
    ) -> Iterator[tuple[NDArray[np.uint8], float]]:
        """Yield every stack, (stack_size, size, size, 3 or 5) uint8, with its last frame's media time in seconds.

        Not by the live schedule: that rejects windows over a gap in the video's time, and here each stack counts.
        """
        size, step = self._job.stack_size, self._job.step_size
        augment = make_flow_frames(self._job.model) if "flow" in self._models else None
        augmenting = Augmenting(augment, self._job.fps)
        kept: deque[NDArray[np.uint8]] = deque(maxlen=size)
        for number, frame in enumerate(frames_of(reader), start=1):
            kept.append(augmenting(frame.stamp, frame.pixels))
            progress(frame.stamp.time, duration_s)
            if number >= size and (number - size) % step == 0:
                yield np.stack(kept), frame.stamp.time

    def _features(self, stack: NDArray[np.uint8]) -> dict[StreamName, NDArray[np.float32]]:
        """(stack_size, size, size, 3 or 5) uint8 -> (1024 * width,) float32 for each stream."""
        parts = {"rgb": stack[..., :RGB_CHANNELS], "flow": stack[..., RGB_CHANNELS:]}
        found: dict[StreamName, NDArray[np.float32]] = {}
        for stream, model in self._models.items():
            features, _ = model.engine.run(model.engine.prepare([parts[stream]]), [None])
            found[stream] = model.head.pooled(features)[0]
        return found


def parse_streams(text: str) -> tuple[StreamName, ...]:
    """Return the streams of "rgb,flow", "rgb" or "flow".

    Raises:
        ConfigError: It is something else.
    """
    given = [word.strip() for word in text.split(",")]
    if not set(given) <= set(STREAMS) or len(set(given)) != len(given):
        raise ConfigError(f"streams {text!r}: give rgb, flow or rgb,flow")
    return tuple(stream for stream in STREAMS if stream in given)


def check_videos(videos: Sequence[str]) -> None:
    """Check that every video has files of its own.

    Raises:
        ConfigError: Two have the same stem, or one is a camera.
    """
    taken: dict[str, str] = {}
    for video in videos:
        stem = _stem(video)
        if stem in taken:
            raise ConfigError(
                f"{taken[stem]} and {video} would both write {stem}_*.npy: extract them in two calls with two --output"
            )
        taken[stem] = video


def make_output(folder: Path) -> None:
    """Make the folder of the files.

    Raises:
        ConfigError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {folder}: {error.strerror}; give --output another one") from None


def _stem(video: str) -> str:
    address: SourceAddress = offline_address(video)
    return Path(address.target).stem if address.kind == "file" else address.default_name


def _checkpoint(stream: StreamName, model: ModelConfig) -> str:
    return model.checkpoint if stream == "rgb" else str(model.flow_checkpoint)


def _write_all(arrays: Mapping[Path, NDArray[Any]]) -> None:
    """Write all files or none: each under a name of its own first, and renamed once all are whole.

    Raises:
        ConfigError: They cannot be written.
    """
    parts: dict[Path, Path] = {}
    try:
        for path, array in arrays.items():
            parts[path] = path.with_name(f".{path.name}.{os.getpid()}.part")
            parts[path].unlink(missing_ok=True)  # of a process of this number that crashed
            with parts[path].open("xb") as file:  # made new: it could be somebody's link
                np.save(file, array, allow_pickle=False)
        for path, part in parts.items():
            part.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; give --output a folder with room") from None
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
