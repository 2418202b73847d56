"""One camera's frames through a network in streaming mode, and the whole-clip network to compare it with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stream_i3d.inference.engine import LoadedModel, State
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.streaming_plan import SHIFT_FRAMES, STEP_FRAMES

Frames = NDArray[np.uint8]


def random_frames(steps: int, seed: int = 0) -> Frames:
    return np.random.default_rng(seed).integers(0, 256, (steps * STEP_FRAMES, 32, 32, 3), np.uint8)


def whole_clip(checkpoint: Path, frames: Frames) -> NDArray[np.float32]:
    """Logits of the published whole-clip network one frame on, (classes, steps): step n is the streamed one n + 7."""
    network, _ = load_checkpoint(checkpoint)
    shifted = np.concatenate((frames[SHIFT_FRAMES:], frames[-SHIFT_FRAMES:])).astype(np.float32)
    clip = torch.from_numpy(((shifted - 127.5) / 127.5).transpose(3, 0, 1, 2)[None])
    with torch.no_grad():
        logits: NDArray[np.float32] = network.temporal_logits(clip)[0].numpy()
    return logits


def carried(model: LoadedModel, frames: Frames) -> NDArray[np.float32]:
    """(classes, steps) of one camera that is carried along."""
    states: list[State] = [None]
    rows = []
    for chunk in np.split(frames, len(frames) // STEP_FRAMES):
        logits, states = step(model, [chunk], states)
        assert logits.dtype == np.float32
        rows.append(logits[0])
    return np.stack(rows, axis=1)


def step(model: LoadedModel, chunks: list[Frames], states: Sequence[State]) -> tuple[NDArray[np.float32], list[State]]:
    """(cameras, classes) logits of each camera's next 8 frames, and the states after them."""
    features, after = model.engine.run(model.engine.prepare(chunks), states)
    return model.head(features).logits, after
