"""3D-fused two-stream: two Inception-v1 trunks, joined in space and time by one 3D convolution.

Feichtenhofer, Pinz & Zisserman, "Convolutional Two-Stream Network Fusion for Video Action Recognition" (CVPR 2016), in
the variant of Carreira & Zisserman (CVPR 2017), section 2.3: five RGB frames ten apart and the flow around each; the
maps before Inception-v1's last average pool (5 x 7 x 7) pass a 3x3x3 convolution with 512 channels, a 3x3x3 max-pool
and a fully connected layer. The new layers start from Gaussian noise.

The paper does not say what is between the pool and the last layer. A layer on the whole 3 x 4 x 4 map would have 49 M
parameters and the paper has 39 M, so the map is averaged here: 39.8 M. As everywhere in Inception-v1, BatchNorm and a
ReLU follow the convolution; the pool has a stride of 2. Flow is scaled so that 20 pixels are 1.0.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from stream_i3d.models.arguments import check_dimensions, check_keep_prob, scaled
from stream_i3d.models.head import initialise_head
from stream_i3d.models.i3d import MaxPool3dSame, Unit3D
from stream_i3d.models.inception import InceptionTrunk
from stream_i3d.models.initialisation import initialise
from stream_i3d.models.two_stream import FLOW_CHANNELS, FLOW_STACK, snapshots

_FUSED = 512


class FusedTwoStream(nn.Module):
    """3D-fused two-stream Inception-v1 (Carreira & Zisserman, CVPR 2017). 39.8 M parameters at 400 classes.

    Takes n >= 1 snapshots of a video, ten frames each; published at 5, which is 2 s at 25 frames/s.

    Args:
        num_classes: Classes of the head.
        in_channels: Channels of the RGB frames.
        dropout_keep_prob: Probability of *keeping* a feature in training; 1.0 disables dropout.
        width: Multiplies every channel count but the inputs' and the classes'; 1.0 is the published network.

    Raises:
        ConfigError: An argument outside its range.
    """

    heads: ClassVar[tuple[str, ...]] = ("logits",)

    def __init__(
        self, num_classes: int = 400, in_channels: int = 3, dropout_keep_prob: float = 0.5, *, width: float = 1.0
    ) -> None:
        super().__init__()
        check_dimensions(num_classes, in_channels, width)
        check_keep_prob(dropout_keep_prob)
        self.num_classes, self.in_channels, self.width = num_classes, in_channels, width
        self.rgb = InceptionTrunk(in_channels, width=width)
        self.flow = InceptionTrunk(FLOW_CHANNELS * FLOW_STACK, width=width)
        self.feature_channels = scaled(_FUSED, width)
        self.fusion = Unit3D(self.rgb.feature_channels + self.flow.feature_channels, self.feature_channels, kernel=3)
        self.pool = MaxPool3dSame((3, 3, 3), (2, 2, 2))
        self.dropout = nn.Dropout(1.0 - dropout_keep_prob)
        self.logits = nn.Linear(self.feature_channels, num_classes)
        initialise(self.fusion)
        initialise_head(self.logits)

    def forward(self, rgb: Tensor, flow: Tensor) -> Tensor:
        """Return the logits of each video.

        Args:
            rgb: (B, in_channels, n, H >= 32, W >= 32) float in [-1, 1], one frame per snapshot; or all 10 n frames.
            flow: (B, 2, 10 n, H, W) float in [-1, 1], x and y, of the same sides.

        Returns:
            (B, num_classes) logits.

        Raises:
            ConfigError: A shape is not allowed.
        """
        logits: Tensor = self.logits(self.dropout(self.extract_features(rgb, flow)))
        return logits

    def extract_features(self, rgb: Tensor, flow: Tensor) -> Tensor:
        """Return the head's input, (B, 512 * width) >= 0; arguments and errors as for `forward`."""
        frames, stacks = snapshots(rgb, flow, self.in_channels)
        maps = torch.cat((self.rgb(frames), self.flow(stacks)), dim=1)  # (B * n, 2048 * width, H / 32, W / 32)
        maps = maps.reshape(rgb.shape[0], -1, *maps.shape[1:]).transpose(1, 2)  # (B, 2048 * width, n, H / 32, W / 32)
        pooled: Tensor = self.pool(self.fusion(maps))
        return pooled.mean(dim=(2, 3, 4))
