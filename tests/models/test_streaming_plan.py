from __future__ import annotations

import pytest

from stream_i3d.models.inception_table import CONVS, END_POINTS, MIXED, POOLS
from stream_i3d.models.streaming_plan import (
    DELAY_STEPS,
    LATENESS,
    SEEN_FRAMES,
    SHIFT_FRAMES,
    STEP_FRAMES,
    TIME_LAYERS,
    WARM_UP_STEPS,
    lateness,
    seen_frames,
)


def along_time(name: str) -> tuple[int, int]:
    """Kernel and stride of an end point along time, as the network's own plan has them."""
    if name in MIXED:
        return 3, 1
    if name in POOLS:
        (kernel, _, _), (stride, _, _) = POOLS[name]
        return kernel, stride
    _, kernel, stride = CONVS[name]
    return kernel, stride


def test_the_layers_are_those_of_the_network_that_look_along_time() -> None:
    looking = [(name, *along_time(name)) for name in END_POINTS if along_time(name) != (1, 1)]
    assert [tuple(layer) for layer in TIME_LAYERS] == looking


def test_the_figures_are_those_of_the_design() -> None:
    assert (STEP_FRAMES, SHIFT_FRAMES, DELAY_STEPS, WARM_UP_STEPS) == (8, 1, 6, 7)
    assert (seen_frames(), SEEN_FRAMES) == (99, 107)  # the published receptive field, and with the average pool
    assert LATENESS["MaxPool3d_5a_2x2"] == (1, 4)
    assert LATENESS["Mixed_4f"] == (2, 8)
    assert LATENESS["Conv3d_1a_7x7"] == (4, 2)


def test_no_other_shift_within_a_step_is_in_phase() -> None:
    fitting = []
    for shift in range(STEP_FRAMES):
        try:
            lateness(shift)
        except ValueError as error:
            assert "out of the whole-clip network's phase" in str(error)
        else:
            fitting.append(shift)
    assert fitting == [SHIFT_FRAMES]
    with pytest.raises(ValueError, match="shifted by 0 frames, Conv3d_1a_7x7"):
        lateness(0)
