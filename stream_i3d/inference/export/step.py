"""Streaming mode's part of an export: streams in place of clips, and steps to calibrate on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.inference.export.sample_clips import Clip, Progress, generated_streams, video_clips
from stream_i3d.inference.graphs.file import CONTEXT, FRAMES, STEPS
from stream_i3d.models.i3d import I3D
from stream_i3d.models.spec import ModelSpec
from stream_i3d.models.streaming_i3d import StreamingI3D
from stream_i3d.models.streaming_plan import STEP_FRAMES
from stream_i3d.preprocess import normalise

STREAM_STEPS = 16
"""Of a stream to calibrate or to compare on: 128 frames, and 9 predictions."""

CALIBRATION_STEPS, CALIBRATION_BYTES = 300, 2**30
"""As many as clips in window mode, or fewer: their contexts are kept in memory, 17 MB each at full size."""

Item = dict[str, NDArray[Any]]


def sample_streams(folder: Path | None, spec: ModelSpec, count: int, progress: Progress) -> list[Clip]:
    """Return streams of `STREAM_STEPS` steps of the videos in a folder, or generated ones; (T, H, W, 3) uint8.

    Raises:
        ConfigError: There is no such folder, or no video in it that is long enough.
    """
    frames = STREAM_STEPS * STEP_FRAMES
    if folder is None:
        return generated_streams(spec, count, frames, progress)
    made = structs.replace(spec.preprocessing, clip_len=frames)
    return video_clips(folder, structs.replace(spec, preprocessing=made), count, progress)


def calibration_items(model: torch.nn.Module, spec: ModelSpec, streams: Sequence[Clip]) -> list[Item]:
    """Return the inputs of some steps of streams, with the contexts that the network has there.

    Of each stream as many, drawn from all of its length, so that warm streams and beginning ones count.
    """
    assert isinstance(model, I3D)
    network = StreamingI3D(model)
    blank = network.blank(*spec.preprocessing.usual_frame_size)
    most = max(len(streams), min(CALIBRATION_STEPS, CALIBRATION_BYTES // blank.nbytes))
    items: list[Item] = []
    rng = np.random.default_rng(0)
    for stream in streams:
        state = blank
        chunks = np.split(stream, len(stream) // STEP_FRAMES)
        wanted = rng.choice(len(chunks), min(len(chunks), most // len(streams)), replace=False).tolist()
        for number, chunk in enumerate(chunks):
            if number in wanted:
                contexts = {CONTEXT.format(at): context.numpy() for at, context in enumerate(state.contexts)}
                items.append({FRAMES: chunk[None], STEPS: np.array([number], np.int64), **contexts})
            _, state = network(normalise(torch.from_numpy(chunk[None]), spec.preprocessing), state)
    return items
