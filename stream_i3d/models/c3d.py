"""C3D with BatchNorm.

Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks" (ICCV 2015), in the variant of Carreira &
Zisserman (CVPR 2017), section 2.2: eight 3x3x3 convolutions, five max-pools and two fully connected layers, BatchNorm
after all of these layers, and a first pool with a stride of 2 in time. The paper gives that pool's stride only; its
kernel is 2x2x2 here as in the other pools, because a kernel of 1 would ignore every second frame. Pools keep
incomplete windows, as with TensorFlow's "same" padding, so the last map is 4 x 4 at 112 x 112 and there are 79.6 M
parameters (79 M in the paper).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from stream_i3d.errors import ConfigError
from stream_i3d.models.arguments import check_dimensions, check_keep_prob, scaled
from stream_i3d.models.head import initialise_head
from stream_i3d.models.inception_table import BN_EPS, BN_MOMENTUM
from stream_i3d.models.initialisation import initialise
from stream_i3d.models.time_conv import TimeConv3d

_CONVS: dict[str, int] = {  # channels
    "conv1": 64,
    "conv2": 128,
    "conv3a": 256,
    "conv3b": 256,
    "conv4a": 512,
    "conv4b": 512,
    "conv5a": 512,
    "conv5b": 512,
}
_POOLED = ("conv1", "conv2", "conv3b", "conv4b", "conv5b")
"""The convolutions that are followed by a pool: pool1 to pool5."""

_HIDDEN = 4096

MAX_FRAMES = 32
"""Five pools halve 32 frames to one time step, the number that the fully connected layers take."""


class ConvUnit(nn.Module):
    """3x3x3 convolution without bias, BatchNorm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = TimeConv3d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn = nn.BatchNorm3d(out_channels, eps=BN_EPS, momentum=BN_MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) -> (B, out, T, H, W) >= 0."""
        return F.relu(self.bn(self.conv(x)), inplace=True)


class LinearUnit(nn.Module):
    """Linear layer without bias, BatchNorm, ReLU, dropout."""

    def __init__(self, in_features: int, out_features: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=False)
        self.bn = nn.BatchNorm1d(out_features, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in) -> (B, out) >= 0."""
        dropped: Tensor = self.dropout(F.relu(self.bn(self.linear(x)), inplace=True))
        return dropped


class C3D(nn.Module):
    """C3D with BatchNorm (Tran et al. 2015; Carreira & Zisserman 2017). 79.6 M parameters at 400 classes.

    Takes only clips of `clip_len` frames of `crop_size` x `crop_size`, because of its fully connected layers.
    Published at 16 frames of 112 x 112; the paper's tests average the predictions for the 15 clips of 240 frames.

    Args:
        num_classes: Classes of the head.
        in_channels: 3 for RGB, 2 for optical flow.
        dropout_keep_prob: Probability of *keeping* a feature in training, after each fully connected layer.
        clip_len: Frames of a clip, 1 to 32.
        crop_size: Pixels of a frame's sides.
        width: Multiplies every channel count but the input's and the classes'; 1.0 is the published network.

    Raises:
        ConfigError: An argument outside its range.
    """

    heads: ClassVar[tuple[str, ...]] = ("fc8",)

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int = 3,
        dropout_keep_prob: float = 0.5,
        *,
        clip_len: int = 16,
        crop_size: int = 112,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        check_dimensions(num_classes, in_channels, width)
        check_keep_prob(dropout_keep_prob)
        if not 1 <= clip_len <= MAX_FRAMES or crop_size < 1:
            raise ConfigError(
                f"clip_len={clip_len}, crop_size={crop_size}: give 1 to {MAX_FRAMES} frames of at least 1 pixel"
            )
        self.num_classes, self.in_channels, self.width = num_classes, in_channels, width
        self.clip_len, self.crop_size = clip_len, crop_size
        channels = in_channels
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        for name, published in _CONVS.items():
            stages[name] = ConvUnit(channels, scaled(published, width))
            channels = scaled(published, width)
            if name in _POOLED:
                stages[f"pool{_POOLED.index(name) + 1}"] = nn.MaxPool3d(2, ceil_mode=True)
        self.features = nn.Sequential(stages)
        side = -(-crop_size // MAX_FRAMES)  # rounded up, as every pool rounds
        self.feature_channels = scaled(_HIDDEN, width)
        self.fc6 = LinearUnit(channels * side * side, self.feature_channels, 1.0 - dropout_keep_prob)
        self.fc7 = LinearUnit(self.feature_channels, self.feature_channels, 1.0 - dropout_keep_prob)
        self.fc8 = nn.Linear(self.feature_channels, num_classes)
        initialise(self)
        initialise_head(self.fc8)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of each clip.

        Args:
            x: (B, in_channels, clip_len, crop_size, crop_size) float in [-1, 1]; B >= 2 in training.

        Returns:
            (B, num_classes) logits.

        Raises:
            ConfigError: The shape of `x` is not allowed.
        """
        logits: Tensor = self.fc8(self.extract_features(x))
        return logits

    def extract_features(self, x: Tensor) -> Tensor:
        """Return the head's input, (B, 4096 * width) >= 0, the output of fc7; arguments and errors as for `forward`."""
        self._check_input(x)
        x = self.features(x).flatten(1)  # (B, 512 * width * 1 * 4 * 4)
        features: Tensor = self.fc7(self.fc6(x))
        return features

    def _check_input(self, x: Tensor) -> None:
        wanted = (self.in_channels, self.clip_len, self.crop_size, self.crop_size)
        if x.shape[1:] != wanted:
            raise ConfigError(
                f"input of shape {tuple(x.shape)} does not fit: give (batch, {', '.join(map(str, wanted))}) floats"
            )
        if self.training and x.shape[0] < 2:
            raise ConfigError(
                f"a batch of {x.shape[0]} has no statistics for the fully connected layers' BatchNorm: "
                "train on at least 2 clips at once, or call eval()"
            )
