"""What a network costs: parameters, and floating-point operations of one input. Knows no architecture by name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stream_i3d.models.registry import build_model, find_architecture


def count_parameters(model: nn.Module) -> int:
    """Return how many trainable numbers a network has (BatchNorm's running statistics are none)."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_flops(model: nn.Module, *shapes: Sequence[int]) -> int:
    """Return the floating-point operations of one forward pass, a multiply-add counted as two.

    Convolutions, linear layers and matrix products are counted, as the literature does; BatchNorm, pooling and
    activations, under one per cent here, are not. On a network on the meta device nothing is computed.

    Args:
        model: On any device; its mode and weights stay as they are.
        *shapes: The shape of each input, batch included: (B, C, T, H, W).

    Raises:
        ConfigError: The network does not take such inputs.
    """
    device = next(model.parameters()).device
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()  # in training BatchNorm would take these inputs into its statistics
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model(*(torch.zeros(tuple(shape), device=device) for shape in shapes))
    finally:
        for module, training in modes.items():
            module.training = training
    total: int = counter.get_total_flops()
    return total


@cache
def architecture_cost(name: str) -> tuple[int, int]:
    """Return the parameters at its default classes, and the operations on one input, of an architecture.

    Raises:
        ConfigError: There is none of that name.
    """
    with torch.device("meta"):
        model = build_model(name)
    shapes = [(1, *shape) for shape in find_architecture(name).inputs.values()]
    return count_parameters(model), count_flops(model, *shapes)
