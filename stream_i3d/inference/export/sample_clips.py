"""Clips to calibrate a quantised network on and to compare two forms of a network on: from videos, or generated."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_i3d.capture.address import VIDEO_SUFFIXES
from stream_i3d.capture.video_folder import find_videos, log_left_out
from stream_i3d.config import CaptureConfig, ModelConfig
from stream_i3d.errors import ConfigError, SourceError
from stream_i3d.inference.feed import Augmenting
from stream_i3d.inference.flow_frames import RGB_CHANNELS, make_flow_frames
from stream_i3d.inference.offline import open_offline, read_frames
from stream_i3d.models.spec import ModelSpec
from stream_i3d.preprocess import Preprocessing, prepare_frame
from stream_i3d.scenes import LABELS, render_clip
from stream_i3d.scenes.render import Scene

log = logging.getLogger(__name__)

Clip = NDArray[np.uint8]
"""(T, H, W, C)."""

Progress = Callable[[str, int, int], None]
"""Told what is going on, how much of it is done, and of how much."""

_SCENES_SEED = 5_000_000
"""First number of the seeds here; those of the training begin with 1 and 2, those of its tests with 7,000,000."""


def video_clips(folder: Path, spec: ModelSpec, limit: int, progress: Progress) -> list[Clip]:
    """Return clips of the videos in a folder and its subfolders, as the network sees them live.

    Args:
        folder: Where the videos are.
        spec: Of the network; one of 2 channels gets codes of DIS flow.
        limit: Clips at most; from each video about as many, one after another, at least one.
        progress: Told of each video.

    Raises:
        ConfigError: There is no such folder, or no video in it that is long enough.
    """
    if not folder.is_dir():
        raise ConfigError(f"no folder {str(folder)!r}: give one of videos like those that the network will see")
    found = find_videos(folder)
    log_left_out(folder, found.left_out)
    paths = [Path(path) for path in found.videos]
    clips: list[Clip] = []
    for done, path in enumerate(paths):
        progress("reading videos", done, len(paths))
        share = math.ceil((limit - len(clips)) / (len(paths) - done))
        if not share:
            break
        try:
            clips += _first_clips(path, spec, share)
        except SourceError as error:
            log.warning("%s is left out: %s", path, error)
    if not clips:
        raise ConfigError(
            f"no video in {str(folder)!r} has {spec.preprocessing.window_frames} frames: give a folder of "
            f"{', '.join(suffix[1:] for suffix in VIDEO_SUFFIXES[:10])} or other video files"
        )
    return clips


def generated_clips(spec: ModelSpec, count: int, progress: Progress) -> list[Clip]:
    """Return clips that need no videos: generated scenes, or, for a network of flow, noise."""
    clips: list[Clip] = []
    for index in range(count):
        progress("making clips", index, count)
        clips.append(_scene(spec.preprocessing, index) if spec.in_channels == RGB_CHANNELS else _noise(spec, index))
    return clips


def generated_streams(spec: ModelSpec, count: int, frames: int, progress: Progress) -> list[Clip]:
    """Return streams of generated scenes that last, (frames, H, W, 3) each: what leaves the picture comes in again."""
    made, streams = spec.preprocessing, []
    for index in range(count):
        progress("making streams", index, count)
        scene = Scene(np.random.default_rng((_SCENES_SEED, index)), LABELS[index % len(LABELS)], _scene_size(made))
        pictures = (scene.frame(number / made.sample_fps) for number in range(frames))
        streams.append(np.stack([prepare_frame(picture, made) for picture in pictures]))
    return streams


def knows_scenes(spec: ModelSpec) -> bool:
    """Tell whether generated scenes are what a network was trained on."""
    return spec.labels is not None and set(spec.labels) == set(LABELS)


def _first_clips(path: Path, spec: ModelSpec, count: int) -> list[Clip]:
    made = spec.preprocessing
    clips: list[Clip] = []
    window: list[Clip] = []
    for frame in _frames(path, spec):
        window.append(frame)
        if len(window) == made.window_frames:
            clips.append(np.stack(window[:: made.frame_interval]))
            window.clear()
        if len(clips) == count:
            break
    return clips


def _frames(path: Path, spec: ModelSpec) -> Iterator[Clip]:
    """Yield a video's sampled frames, (H, W, C) uint8."""
    flow = spec.in_channels != RGB_CHANNELS
    augmenting = Augmenting(make_flow_frames(ModelConfig()) if flow else None, spec.preprocessing.sample_fps)
    source = open_offline(str(path), CaptureConfig())
    try:
        for frame in read_frames(source, "video", spec.preprocessing):
            pixels = augmenting(frame.stamp, frame.pixels)
            yield pixels[..., RGB_CHANNELS:] if flow else pixels
    finally:
        source.close()


def _scene(made: Preprocessing, index: int) -> Clip:
    size, label = _scene_size(made), LABELS[index % len(LABELS)]
    frames = render_clip((_SCENES_SEED, index), label, made.window_frames, made.sample_fps, size)
    return np.stack([prepare_frame(frame, made) for frame in frames[:: made.frame_interval]])


def _scene_size(made: Preprocessing) -> tuple[int, int]:
    side = min(made.short_side, 240)  # the generator's things are of that order; larger pictures are resized
    return side * 4 // 3, side


def _noise(spec: ModelSpec, index: int) -> Clip:
    size, made = spec.preprocessing.crop_size, spec.preprocessing
    rng = np.random.default_rng([_SCENES_SEED, index])
    return rng.integers(0, 256, (made.clip_len, size, size, spec.in_channels), np.uint8)
