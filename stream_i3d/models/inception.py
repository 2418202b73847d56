"""Inception-v1 with BatchNorm for single pictures, the 2D network of inflation and the older designs.

Szegedy et al., "Going Deeper with Convolutions" (CVPR 2015), with BatchNorm (Ioffe & Szegedy, ICML 2015) and 3 x 3
filters where the first version had 5 x 5: the network that Carreira & Zisserman (CVPR 2017) inflated to I3D. Both
use the same table (inception_table.py), the Inception module `Mixed`, TensorFlow's "same" padding and the same names; a
tensor's name differs only in conv2d for conv3d.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from stream_i3d.errors import ConfigError
from stream_i3d.models.arguments import check_dimensions, check_keep_prob, scaled
from stream_i3d.models.head import initialise_head
from stream_i3d.models.inception_table import (
    BN_EPS,
    BN_MOMENTUM,
    CONVS,
    END_POINTS,
    MIN_SIDE,
    MIXED,
    POOLS,
    same_padding,
)
from stream_i3d.models.initialisation import initialise


class Mixed(nn.Module):
    """One Inception module, 2D or 3D: four parallel branches, concatenated along the channels.

    Args:
        in_channels: Channels of the input.
        channels: Output channels of b0, b1a, b1b, b2a, b2b and b3b.
        unit: Makes a convolution with BatchNorm and ReLU, given input channels, output channels and kernel.
        pool: The max-pool of the fourth branch, with kernel 3 and stride 1 along every axis.
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
        """(B, in, ...) >= 0 -> (B, b0 + b1b + b2b + b3b, ...) >= 0, the same size in time and space."""
        branches = (self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x)))
        return torch.cat(branches, dim=1)


def run_end_points(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Run the stages of a network; return the output of each by its published name, in order."""
    outputs: dict[str, Tensor] = {}
    for name in END_POINTS:
        x = outputs[name] = getattr(network, name)(x)
    return outputs


class Unit2D(nn.Module):
    """Convolution without bias, BatchNorm, ReLU, with TensorFlow's "same" padding.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel: Kernel size along both axes; odd.
        stride: Stride along both axes.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0  # at stride 1 an odd kernel pads both ends equally
        self.conv2d = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride)), all >= 0."""
        if self.stride > 1:
            height, width = (same_padding(size, self.kernel, self.stride) for size in x.shape[2:])
            x = F.pad(x, (*width, *height))  # F.pad counts axes from the last
        return F.relu(self.bn(self.conv2d(x)), inplace=True)


class MaxPool2dSame(nn.Module):
    """Max-pool with TensorFlow's "same" padding, for inputs that are not negative.

    Args:
        kernel: Kernel along both axes, 3 at most.
        stride: Stride along both axes, no larger than the kernel.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        assert kernel <= 3, "larger kernels may pad (1, 2), which no setting of max_pool2d can express"
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) >= 0 -> (B, C, ceil(H / stride), ceil(W / stride))."""
        # As in i3d.py: after a ReLU, -inf padding is equal to zeros, and ceil_mode gives the padding (0, 1).
        front = [same_padding(size, self.kernel, self.stride)[0] for size in x.shape[2:]]
        return F.max_pool2d(x, self.kernel, self.stride, front, ceil_mode=True)


class InceptionTrunk(nn.Module):
    """Inception-v1 without dropout and head. 5.6 M parameters.

    Args:
        in_channels: 3 for RGB, 20 for the x and y of ten flow fields.
        width: Multiplies every channel count but the input's; 1.0 is the published network.

    Raises:
        ConfigError: An argument outside its range.
    """

    def __init__(self, in_channels: int = 3, *, width: float = 1.0) -> None:
        super().__init__()
        check_dimensions(1, in_channels, width)
        self.in_channels, self.width = in_channels, width
        channels = in_channels
        for name in END_POINTS:
            stage, channels = _build_stage(name, channels, width)
            self.add_module(name, stage)
        self.feature_channels = channels
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of Mixed_5c, before the average pool.

        Args:
            x: (B, in_channels, H >= 32, W >= 32) float in [-1, 1].

        Returns:
            (B, 1024 * width, ceil(H / 32), ceil(W / 32)), all >= 0.

        Raises:
            ConfigError: The shape of `x` is not allowed.
        """
        self._check_input(x)
        for name in END_POINTS:
            x = getattr(self, name)(x)  # each output replaces its input to limit memory
        return x

    def extract_features(self, x: Tensor) -> Tensor:
        """Return the head's input, after the average pool; arguments and errors as for `forward`.

        Returns:
            (B, 1024 * width, H', W'); H' and W' are 1 for pictures up to 224 x 224.
        """
        return _average_pool(InceptionTrunk.forward(self, x))  # subclasses override forward

    def end_points(self, x: Tensor) -> dict[str, Tensor]:
        """Return the output of every stage by its published name, in order. All are in memory at once."""
        self._check_input(x)
        return run_end_points(self, x)

    def _check_input(self, x: Tensor) -> None:
        shape = tuple(x.shape)
        if len(shape) != 4 or shape[1] != self.in_channels:
            raise ConfigError(
                f"input of shape {shape} does not fit: give (batch, {self.in_channels}, height, width) floats"
            )
        if min(shape[2:]) < MIN_SIDE:
            raise ConfigError(
                f"pictures of {shape[2]} x {shape[3]} are too small: give at least {MIN_SIDE} x {MIN_SIDE}"
            )


class Head2D(nn.Module):
    """The 1x1 convolution with bias that turns features into logits; its tensors are logits.conv2d.*."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(in_channels, num_classes, kernel_size=1)
        initialise_head(self.conv2d)

    def forward(self, features: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, num_classes, H, W)."""
        logits: Tensor = self.conv2d(features)
        return logits


class InceptionV1(InceptionTrunk):
    """Inception-v1 with BatchNorm (Szegedy et al. 2015; Ioffe & Szegedy 2015). 6.6 M parameters at 1000 classes.

    Takes pictures (B, in_channels, H, W), floats in [-1, 1], of any H, W >= 32; published at 224 x 224.

    Args:
        num_classes: Classes of the head; 1000 for ImageNet.
        in_channels: 3 for RGB, 20 for the x and y of ten flow fields.
        dropout_keep_prob: Probability of *keeping* a feature in training; 1.0 disables dropout.
        width: Multiplies every channel count but the input's and the classes'; 1.0 is the published network.

    Raises:
        ConfigError: An argument outside its range.
    """

    heads: ClassVar[tuple[str, ...]] = ("logits.conv2d",)

    def __init__(
        self, num_classes: int = 1000, in_channels: int = 3, dropout_keep_prob: float = 0.5, *, width: float = 1.0
    ) -> None:
        check_dimensions(num_classes, in_channels, width)
        check_keep_prob(dropout_keep_prob)
        super().__init__(in_channels, width=width)
        self.num_classes = num_classes
        self.dropout = nn.Dropout(1.0 - dropout_keep_prob)
        self.logits = Head2D(self.feature_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of each picture; arguments and errors as for `InceptionTrunk.forward`.

        Returns:
            (B, num_classes) logits; the mean over space for pictures larger than 224.
        """
        logits: Tensor = self.logits(self.dropout(self.extract_features(x)))
        return logits.mean(dim=(2, 3))


def _build_stage(name: str, in_channels: int, width: float) -> tuple[nn.Module, int]:
    """Return the stage called `name` and its number of output channels."""
    if name in POOLS:
        (_, kernel, _), (_, stride, _) = POOLS[name]
        return MaxPool2dSame(kernel, stride), in_channels
    if name in CONVS:
        channels, kernel, stride = CONVS[name]
        return Unit2D(in_channels, scaled(channels, width), kernel, stride), scaled(channels, width)
    scaled_channels = tuple(scaled(channels, width) for channels in MIXED[name])
    mixed = Mixed(in_channels, scaled_channels, Unit2D, MaxPool2dSame(3, 1))
    return mixed, mixed.out_channels


def _average_pool(x: Tensor) -> Tensor:
    """Average over 7 x 7 windows at stride 1, or over the whole map if it is smaller; the dtype is kept."""
    height, width = x.shape[2:]
    kernel = (min(7, height), min(7, width))
    if kernel == (height, width):
        return x.mean(dim=(2, 3), keepdim=True)
    return F.avg_pool2d(x.float(), kernel, stride=1).to(x.dtype)  # in float32, as in i3d.py
