"""What the engines of exported and converted graphs share. Normalisation is in the graph. Imports no torch.

The libraries' own parts are openvino_engine.py and onnx_engine.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream_i3d.errors import CheckpointError
from stream_i3d.inference.engine import ClipShape, Frames
from stream_i3d.inference.ring import HostMemory, RingMemory, RingShape
from stream_i3d.models.spec import ModelSpec
from stream_i3d.models.streaming_plan import STEP_FRAMES

Clips = NDArray[np.uint8]
"""(B, T, H, W, C)."""


class GraphEngine:
    """The part of an `Engine` that is the same for all libraries."""

    def __init__(self, shape: ClipShape) -> None:
        self.clip_shape = shape

    def make_ring(self, shape: RingShape) -> RingMemory:
        """Return plain memory for a camera's ring."""
        return HostMemory(shape)

    def prepare(self, clips: Sequence[Frames], device_frames: Sequence[object] = ()) -> Clips:
        """Take B clips of (T, H, W, C) uint8; afterwards their memory may be overwritten."""
        return np.stack(clips)


def clip_shape(spec: ModelSpec) -> ClipShape:
    """Return (T, H, W, C) of a clip; in streaming mode of one step's frames."""
    frames = STEP_FRAMES if spec.mode == "streaming" else spec.preprocessing.clip_len
    return frames, *spec.preprocessing.usual_frame_size, spec.in_channels


def check_signature(inputs: Sequence[object], outputs: Sequence[object], spec: ModelSpec, name: str) -> None:
    """Check that a graph of windows takes what its spec says, and gives feature maps.

    Args:
        inputs: The shape of its one input, without the batch; whatever the library says.
        outputs: The same of its one output.
        spec: What the file says of itself.
        name: The file's.

    Raises:
        CheckpointError: It does not.
    """
    wanted, given = clip_shape(spec), tuple(inputs)
    if given != wanted or len(outputs) != 3:
        raise CheckpointError(
            f"checkpoint {name!r} says that it turns {wanted} into a map of features, but its graph turns {given} into "
            f"{tuple(outputs)}: export it again"
        )
