"""OpenCV's flow methods. They are faster than TV-L1, but the published flow networks were not trained on them.

DIS: Kroeger, Timofte, Dai, Van Gool, "Fast Optical Flow using Dense Inverse Search" (ECCV 2016).
Farneback: Farneback, "Two-Frame Motion Estimation Based on Polynomial Expansion" (SCIA 2003).
"""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from stream_i3d.errors import ConfigError, did_you_mean
from stream_i3d.flow.method import Field, Gray, check_shapes

Preset = Literal["ultrafast", "fast", "medium"]
"""OpenCV's DIS presets, which differ in patch density and finest level."""


class DISFlow:
    """Dense inverse search; a `FlowMethod`.

    The default "medium" matches down to half of the picture's size (the others to a quarter), and is closest to TV-L1.
    scripts/bench_flow.py measures the speeds.
    """

    def __init__(self, preset: Preset = "medium") -> None:
        if preset not in get_args(Preset):
            allowed = ", ".join(get_args(Preset))
            raise ConfigError(f"DIS preset {preset!r} is not one of {allowed}{did_you_mean(preset, get_args(Preset))}")
        presets = {
            "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
            "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
            "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
        }
        self._dis = cv2.DISOpticalFlow.create(presets[preset])

    def __call__(self, previous: Gray, current: Gray) -> Field:
        """Return the flow (see `FlowMethod`). Floats are rounded to uint8, the only input type of DIS."""
        check_shapes(previous.shape, current.shape)
        # Without an initial flow, so that the result does not depend on earlier calls.
        return np.asarray(self._dis.calc(_as_uint8(previous), _as_uint8(current), None), dtype=np.float32)  # type: ignore[call-overload]


class FarnebackFlow:
    """Polynomial expansion; a `FlowMethod`. Settings as in OpenCV's sample, 5 levels for motion up to 20 pixels."""

    def __call__(self, previous: Gray, current: Gray) -> Field:
        """Return the flow (see `FlowMethod`)."""
        check_shapes(previous.shape, current.shape)
        flow = cv2.calcOpticalFlowFarneback(  # type: ignore[call-overload]
            _as_uint8(previous),
            _as_uint8(current),
            None,
            pyr_scale=0.5,
            levels=5,
            winsize=15,
            iterations=3,
            poly_n=5,
            poly_sigma=1.2,
            flags=0,
        )
        return np.asarray(flow, dtype=np.float32)


def _as_uint8(gray: Gray) -> NDArray[np.uint8]:
    if gray.dtype == np.uint8:
        return np.ascontiguousarray(gray, dtype=np.uint8)
    return np.clip(np.rint(gray), 0, 255).astype(np.uint8)
