"""How Inception I3D looks along time when it is carried along a stream: what waits for what. Arithmetic only, no torch.

A layer of kernel k and stride s is fed s inputs per output, so it has to remember k - s of them; its output o sees the
inputs s o - (k - s) to s o + s - 1. In the whole-clip network, whose padding ("same", as TensorFlow's) puts
f = (k - s) // 2 zeros in front, output o sees s o - f to s o - f + k - 1. Where a layer's inputs come d late, the two
are the same numbers if the streamed output comes

    (k - s - f + d) / s

late, which must be whole: else the streamed layer stands between two outputs of the whole-clip one, in another phase.
From d = 1 on, and (within a step of 8 frames) from no other d, it is whole at every layer: hence the clip shifted by
one frame. The stem (7, stride 2) gives 2; Conv3d_2c and the Mixed modules (3) add 1 each: 5 before MaxPool3d_4a_3x3
(3, stride 2), 3 after it; five Mixed modules later 8, after MaxPool3d_5a_2x2 (2, stride 2) 4, and at the end 6.

So, fed 8 frames a step, step n emits what the whole-clip network, run on the stream without its first frame, gives as
step n - 6. What comes before that step 0 is no output of any clip. streaming_i3d.py runs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

STEP_FRAMES = 8
"""New frames per emitted step: the strides along time, multiplied."""

SHIFT_FRAMES = 1
"""Frames at a stream's start that are dropped, so that every layer is in the whole-clip network's phase."""


class TimeLayer(NamedTuple):
    """A layer that looks along time, or a Mixed module, whose branches look 1 and 3 steps wide."""

    name: str
    kernel: int
    stride: int

    @property
    def context(self) -> int:
        """Inputs to remember from one step to the next."""
        return self.kernel - self.stride


TIME_LAYERS = (
    TimeLayer("Conv3d_1a_7x7", 7, 2),
    TimeLayer("Conv3d_2c_3x3", 3, 1),
    TimeLayer("Mixed_3b", 3, 1),
    TimeLayer("Mixed_3c", 3, 1),
    TimeLayer("MaxPool3d_4a_3x3", 3, 2),
    TimeLayer("Mixed_4b", 3, 1),
    TimeLayer("Mixed_4c", 3, 1),
    TimeLayer("Mixed_4d", 3, 1),
    TimeLayer("Mixed_4e", 3, 1),
    TimeLayer("Mixed_4f", 3, 1),
    TimeLayer("MaxPool3d_5a_2x2", 2, 2),
    TimeLayer("Mixed_5b", 3, 1),
    TimeLayer("Mixed_5c", 3, 1),
)
"""All that look along time, in order; the other end points (1 wide in time) pass each time step on as it comes."""


class Late(NamedTuple):
    """When a layer's outputs come.

    Attributes:
        outputs: Along time, per step of `STEP_FRAMES` frames.
        delay: How many of its outputs later than in the whole-clip network; so many at the start mean nothing.
    """

    outputs: int
    delay: int


def lateness(shift: int = SHIFT_FRAMES) -> Mapping[str, Late]:
    """Return when each layer's outputs come, by its name.

    Args:
        shift: Frames dropped at the stream's start.

    Raises:
        ValueError: With this shift a layer's outputs lie between two of the whole-clip network's.
    """
    late, outputs, delay = {}, STEP_FRAMES, shift
    for layer in TIME_LAYERS:
        waited = layer.context - layer.context // 2 + delay
        if waited % layer.stride:
            raise ValueError(f"shifted by {shift} frames, {layer.name} is out of the whole-clip network's phase")
        outputs, delay = outputs // layer.stride, waited // layer.stride
        late[layer.name] = Late(outputs, delay)
    return late


def seen_frames(steps: int = 1) -> int:
    """Return how many frames `steps` neighbouring steps of the last layer see together; one sees 99."""
    frames, gap = 1, 1
    for layer in TIME_LAYERS:
        frames += (layer.kernel - 1) * gap
        gap *= layer.stride
    return frames + (steps - 1) * gap


LATENESS: Mapping[str, Late] = MappingProxyType(lateness())
"""When each layer's outputs come, by its name."""

DELAY_STEPS = LATENESS[TIME_LAYERS[-1].name].delay
"""Steps by which the last layer's outputs are late: 6."""

POOLED_STEPS = 2
"""Steps that the published average pool (2 x 7 x 7, stride 1) puts together before the head: all of a 16-frame clip."""

WARM_UP_STEPS = DELAY_STEPS + POOLED_STEPS - 1
"""Steps at a stream's start that give no prediction: 7. The first comes with frame 64, after 2.6 s at 25 a second."""

SEEN_FRAMES = seen_frames(POOLED_STEPS)
"""Frames that a prediction depends on: 107, or 4.3 s at 25 frames a second."""
