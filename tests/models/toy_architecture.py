"""A new architecture as an engineer would add it: this file, and the row `ROW` in the registry's table."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from stream_i3d.models.arguments import check_clips, check_dimensions, scaled
from stream_i3d.models.head import initialise_head
from stream_i3d.models.registry import Architecture
from stream_i3d.models.time_conv import TimeConv3d
from stream_i3d.preprocess import Preprocessing

ROW = Architecture(
    name="toy",
    target="tests.models.toy_architecture:ToyNet",
    paper="none",
    inputs={"rgb": (3, 8, 32, 32)},
    options=("dropout",),
    preprocessing=Preprocessing(clip_len=8, short_side=32, crop_size=32),
)


class ToyNet(nn.Module):
    """One convolution, BatchNorm, average pooling and a linear head."""

    heads: ClassVar[tuple[str, ...]] = ("fc",)

    def __init__(
        self, num_classes: int = 400, in_channels: int = 3, *, dropout: float = 0.5, width: float = 1.0
    ) -> None:
        super().__init__()
        check_dimensions(num_classes, in_channels, width)
        self.num_classes, self.in_channels, self.width = num_classes, in_channels, width
        self.feature_channels = scaled(32, width)
        self.conv = TimeConv3d(in_channels, self.feature_channels, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm3d(self.feature_channels)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(self.feature_channels, num_classes)
        initialise_head(self.fc)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, T >= 2, H >= 8, W >= 8) -> (B, num_classes) logits."""
        logits: Tensor = self.fc(self.dropout(self.extract_features(x)))
        return logits

    def extract_features(self, x: Tensor) -> Tensor:
        """(B, in_channels, T, H, W) -> (B, feature_channels) >= 0."""
        check_clips(x.shape, self.in_channels, 2, 8)
        return F.relu(self.bn(self.conv(x))).mean(dim=(2, 3, 4))
