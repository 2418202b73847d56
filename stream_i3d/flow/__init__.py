"""Optical flow: the displacement of each pixel from one picture to the next, as input of the flow networks.

`make_flow` returns a `FlowMethod` by name. Importing this package loads neither torch nor OpenCV; `make_flow` imports
torch for TV-L1, and OpenCV for DIS and Farneback.
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
"""The names for `make_flow`, each with a description."""


def make_flow(name: str, device: str = "cpu") -> FlowMethod:
    """Return a flow method by its name.

    Args:
        name: One of `METHODS`.
        device: Device of TV-L1, such as "cpu" or "cuda". The other methods always run on the CPU.

    Raises:
        ConfigError: The name is not in `METHODS`.
        DeviceError: The device for TV-L1 does not exist.
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
