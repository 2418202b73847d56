"""Reference values by torch: the network as it is, eager, in float32. Imported only where torch is needed anyway."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from stream_i3d.inference.selfcheck.clips import Clip
from stream_i3d.models.i3d import I3D
from stream_i3d.models.streaming_i3d import StreamingI3D
from stream_i3d.preprocess import Preprocessing, normalise


@torch.inference_mode()
def window_logits(model: torch.nn.Module, clips: Sequence[Clip], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return what a network in eval mode makes of single clips, (clips, num_classes) float32.

    Args:
        model: On the CPU, float32, with one input.
        clips: Each (T, H, W, C) uint8.
        preprocessing: How they are normalised.
    """
    rows = [model(normalise(torch.from_numpy(clip[None]), preprocessing)) for clip in clips]
    return np.asarray(torch.cat(rows).numpy(), np.float32)


@torch.inference_mode()
def stream_logits(model: torch.nn.Module, stream: Clip, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return what a carried network makes of each step of one stream, (steps, num_classes) float32.

    Args:
        model: An Inception I3D on the CPU, float32.
        stream: (8 * steps, H, W, 3) uint8.
        preprocessing: How it is normalised.
    """
    assert isinstance(model, I3D)
    emitted, _ = StreamingI3D(model)(normalise(torch.from_numpy(stream[None]), preprocessing))
    return np.asarray(emitted.logits[0].T.numpy(), np.float32)
