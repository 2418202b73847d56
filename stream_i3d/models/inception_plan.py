"""The plan of Inception-v1 with BatchNorm, which the 2D network and I3D share: channels, names, padding, the module.

Szegedy et al., "Going Deeper with Convolutions" (CVPR 2015), with the BatchNorm of Ioffe & Szegedy (ICML 2015) and
3 x 3 in place of 5 x 5 filters, as Carreira & Zisserman (CVPR 2017) inflate it. One table serves both networks, so
that a 2D tensor and its inflated counterpart differ in the name of the convolution only.

This module does not know how many dimensions a picture has: the networks bring their own convolutions and pools.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from stream_i3d.errors import ConfigError

Triple = tuple[int, int, int]
"""(time, height, width)."""

BN_EPS = 1e-3
BN_MOMENTUM = 0.01
"""In PyTorch's sense: the weight of the new batch. TensorFlow's decay of 0.99 is the same thing."""

MIN_SIDE = 32
"""The strides multiply to 32 in space: below that, the last map would be padding only."""

CONVS: dict[str, tuple[int, int, int]] = {  # channels, kernel, stride
    "Conv3d_1a_7x7": (64, 7, 2),
    "Conv3d_2b_1x1": (64, 1, 1),
    "Conv3d_2c_3x3": (192, 3, 1),
}
POOLS: dict[str, tuple[Triple, Triple]] = {  # kernel, stride; the first two leave time alone
    "MaxPool3d_2a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_3a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_4a_3x3": ((3, 3, 3), (2, 2, 2)),
    "MaxPool3d_5a_2x2": ((2, 2, 2), (2, 2, 2)),
}
MIXED: dict[str, tuple[int, int, int, int, int, int]] = {  # b0, b1a, b1b, b2a, b2b, b3b
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
END_POINTS: tuple[str, ...] = (
    "Conv3d_1a_7x7",
    "MaxPool3d_2a_3x3",
    "Conv3d_2b_1x1",
    "Conv3d_2c_3x3",
    "MaxPool3d_3a_3x3",
    "Mixed_3b",
    "Mixed_3c",
    "MaxPool3d_4a_3x3",
    "Mixed_4b",
    "Mixed_4c",
    "Mixed_4d",
    "Mixed_4e",
    "Mixed_4f",
    "MaxPool3d_5a_2x2",
    "Mixed_5b",
    "Mixed_5c",
)
"""The published names, in the order the data passes through them; the 2D network bears them too."""


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the (front, back) zeros that TensorFlow's "same" padding adds along one axis of `size` elements."""
    total = max(kernel - (size % stride or stride), 0)
    return total // 2, total - total // 2


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
