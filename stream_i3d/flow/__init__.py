"""Optical flow: how far each pixel moved from one picture to the next, as the flow networks read it.

`make_flow` chooses a method by name; all have one protocol, `FlowMethod`. Importing this package loads neither torch
nor OpenCV: `make_flow` imports what its method needs, TV-L1 only torch, DIS and Farneback only OpenCV.
"""

from __future__ import annotations

from stream_i3d.errors import ConfigError, did_you_mean
from stream_i3d.flow.method import Field, FlowMethod, FlowSequence, Gray, flow_stack
from stream_i3d.flow.normalise import BOUND, dequantise, quantise, to_gray, to_model_input

__all__ = [
    "BOUND",
    "METHODS",
    "Field",
    "FlowMethod",
    "FlowSequence",
    "Gray",
    "dequantise",
    "flow_stack",
    "make_flow",
    "quantise",
    "to_gray",
    "to_model_input",
]

METHODS = {
    "tvl1": "TV-L1 (Zach, Pock, Bischof 2007), what the published flow networks were trained on; CPU or CUDA",
    "dis": "dense inverse search (Kroeger et al. 2016), OpenCV's; many times faster; CPU",
    "farneback": "polynomial expansion (Farneback 2003), OpenCV's; CPU",
}
"""The names `make_flow` knows, each with a line about it."""


def make_flow(name: str, device: str = "cpu") -> FlowMethod:
    """Return a flow method by its name.

    Args:
        name: One of `METHODS`.
        device: Where TV-L1 computes, such as "cpu" or "cuda"; the others are on the CPU whatever is given, so that one
            `device` can stand for flow and networks.

    Raises:
        ConfigError: For a name that is not in `METHODS`.
        DeviceError: For TV-L1 on a device that is not there.
    """
    if name == "tvl1":
        from stream_i3d.flow.tvl1 import TVL1Flow

        return TVL1Flow(device)
    if name == "dis":
        from stream_i3d.flow.opencv import DISFlow

        return DISFlow()
    if name == "farneback":
        from stream_i3d.flow.opencv import FarnebackFlow

        return FarnebackFlow()
    allowed = ", ".join(METHODS)
    raise ConfigError(f"flow method {name!r} is not one of {allowed}{did_you_mean(name, METHODS)}")
