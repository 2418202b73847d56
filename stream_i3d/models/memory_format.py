"""Lays a network's weights out in memory: channels last where that is faster and right. Does not run it."""

from __future__ import annotations

import torch
from torch import nn


def lay_out(model: nn.Module) -> torch.memory_format:
    """Put the weights of a network's 3D convolutions in the better order, in place.

    Channels last is that, except for networks with 2D layers, which have another order.

    Returns:
        The order that the network's (B, C, T, H, W) inputs should have too.
    """
    if any(weight.ndim == 4 for weight in model.parameters()):
        return torch.contiguous_format
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return torch.channels_last_3d
