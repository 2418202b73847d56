"""Optical flow beside each frame, as it arrives: the ring's frames become RGB and flow, (size, size, 5) uint8.

Flow is computed once per frame and not once per window: at stride 8 a window of 16 frames would need it twice. It is
kept as the 256 codes of the released data, so that it waits and is copied like a picture, at 2/3 of one's size.

It is of the prepared picture, after resize and crop, because that is all that reaches the worker. The released data's
was computed before the crop; the difference is at the crop's border, where what moves in from outside is unseen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_i3d.config import ModelConfig
from stream_i3d.flow import FlowMethod, FlowSequence, make_flow, quantise, to_gray
from stream_i3d.flow.normalise import STILL
from stream_i3d.inference.feed import Augment
from stream_i3d.inference.setup import STREAM_CHANNELS, ModelSetup

RGB_CHANNELS, FLOW_CHANNELS = STREAM_CHANNELS["rgb"], STREAM_CHANNELS["flow"]


class FlowFrames:
    """Puts the codes of the flow from the last picture beside each picture; an `Augment`.

    There is none, all codes `STILL`, for the first picture, for the first after a `reset`, and for one that is the last
    picture again: a camera slower than the sampling gives repeats, and nothing moved between these.
    """

    channels = RGB_CHANNELS + FLOW_CHANNELS

    def __init__(self, method: FlowMethod) -> None:
        self._flow = FlowSequence(method)
        self._last: NDArray[np.uint8] | None = None  # (size, size) gray

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(size, size, 3) uint8 RGB -> (size, size, 5) uint8: RGB, and the codes of the flow in x and y."""
        gray = to_gray(pixels)
        frame = np.full((*gray.shape, self.channels), STILL, np.uint8)
        frame[..., :RGB_CHANNELS] = pixels
        # Looked at, not told by the stamp: some cameras send the same picture again as a new one.
        if self._last is None or not np.array_equal(gray, self._last):
            frame[..., RGB_CHANNELS:] = quantise(self._flow.push(gray))
        self._last = gray
        return frame

    def reset(self) -> None:
        """Forget the last picture."""
        self._flow.reset()
        self._last = None


def make_augment(setup: ModelSetup) -> Augment | None:
    """Return what a camera's frames need for the network; None for one that sees RGB alone. One for each camera."""
    return make_flow_frames(setup.config) if setup.flow is not None else None


def make_flow_frames(model: ModelConfig) -> FlowFrames:
    """Return the flow that a configuration asks for.

    Raises:
        DeviceError: TV-L1 is to compute on a device that this machine lacks.
    """
    if model.flow != "tvl1":
        return FlowFrames(make_flow(model.flow))
    from stream_i3d.inference.torch_engine import (
        choose_device,  # it imports torch, which TV-L1 needs and the others do not
    )

    return FlowFrames(make_flow(model.flow, str(choose_device(model.device))))
