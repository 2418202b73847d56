"""Lays a network's weights out in memory: channels last where that is faster and right. Does not run it."""

from __future__ import annotations

import torch
from torch import nn


def lay_out(model: nn.Module) -> torch.memory_format:
    """Put the weights of a network's 3D convolutions in the better order, in place.

    Channels last is that, except for networks with 2D layers, which have another order, and for those with a
    convolution of one input channel (an I3D of width 1/16 or less): over one time step, oneDNN's bf16 kernel then
    adds up what the memory held before (seen with torch 2.13.0, oneDNN 3.12.0; numbers up to 1e10, or NaN).

    Returns:
        The order that the network's (B, C, T, H, W) inputs should have too.
    """
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv3d)]
    one_channel = any(module.weight.shape[1] == 1 for module in convolutions)
    if one_channel or any(weight.ndim == 4 for weight in model.parameters()):
        return torch.contiguous_format
    for module in convolutions:
        module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return torch.channels_last_3d
