from __future__ import annotations

import pytest
import torch
from torch import nn

from stream_i3d.models.i3d import I3D
from stream_i3d.models.memory_format import lay_out


@pytest.mark.parametrize("width", [1 / 64, 1 / 8])
def test_a_network_is_laid_out_channels_last(width: float) -> None:
    model = I3D(3, width=width)
    assert lay_out(model) == torch.channels_last_3d
    stem = next(module for module in model.modules() if isinstance(module, nn.Conv3d))
    assert stem.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert not stem.weight.is_contiguous()


def test_a_2d_layer_keeps_the_plain_order() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, 3))
    assert lay_out(model) == torch.contiguous_format
    assert all(weight.is_contiguous() for weight in model.parameters())
