"""What the 2D Inception-v1 with BatchNorm and I3D share beside their table: the module, and how both begin and run.

One table (inception_table.py) serves both networks, so that a 2D tensor and its inflated counterpart differ in the name
of the convolution only.

This module does not know how many dimensions a picture has: the networks bring their own convolutions and pools.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from stream_i3d.errors import ConfigError
from stream_i3d.models.inception_table import END_POINTS


class Mixed(nn.Module):
    """One Inception module: four branches side by side, joined along the channels.

    Args:
        in_channels: Channels of the input.
        channels: Output channels of b0, b1a, b1b, b2a, b2b and b3b.
        unit: Makes a convolution with BatchNorm and ReLU from its input and output channels and its kernel.
        pool: The fourth branch's max-pool, of kernel 3 and stride 1 along every axis.
    """

    def __init__(
        self, in_channels: int, channels: tuple[int, ...], unit: Callable[[int, int, int], nn.Module], pool: nn.Module
    ) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = channels
        self.b0 = unit(in_channels, b0, 1)
        self.b1a = unit(in_channels, b1a, 1)
        self.b1b = unit(b1a, b1b, 3)
        self.b2a = unit(in_channels, b2a, 1)
        self.b2b = unit(b2a, b2b, 3)
        self.b3a = pool
        self.b3b = unit(in_channels, b3b, 1)
        self.out_channels = b0 + b1b + b2b + b3b

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, ...) >= 0 -> (B, b0 + b1b + b2b + b3b, ...) >= 0; time and space keep their sizes."""
        branches = (self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x)))
        return torch.cat(branches, dim=1)


def run_end_points(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Run a network's stages one after another; return each one's output by its published name, in order."""
    outputs: dict[str, Tensor] = {}
    for name in END_POINTS:
        x = outputs[name] = getattr(network, name)(x)
    return outputs


def check_keep_prob(dropout_keep_prob: float) -> None:
    """Refuse what is no probability to keep a feature.

    Raises:
        ConfigError: The value, its range and its meaning, which other ports got wrong.
    """
    if not 0.0 < dropout_keep_prob <= 1.0:
        raise ConfigError(
            f"dropout_keep_prob={dropout_keep_prob} is not allowed: it is the probability to keep a feature, "
            "above 0 and at most 1"
        )


def initialise(module: nn.Module) -> None:
    """Give the layers that a ReLU follows the weights that training starts from.

    He et al.'s normal initialisation (ICCV 2015, fan-in) for convolutions and linear layers, zero biases. BatchNorms
    keep PyTorch's 1 and 0; heads are set afterwards, by head.py.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
