"""ConvNet + LSTM: Inception-v1 looks at each frame, a batch-normalised LSTM at their order.

Donahue et al., "Long-term Recurrent Convolutional Networks" and Ng et al., "Beyond Short Snippets" (both CVPR 2015), in
the variant of Carreira & Zisserman (CVPR 2017), section 2.1: the LSTM, of 512 units, takes the features after
Inception-v1's last average pool; cross-entropy on the outputs at all time steps in training, the last one's output
in tests. Every fifth frame of 25 a second is taken: a matter of sampling (`frame_interval` 5), not of the network.

This module does not know how frames are sampled or in which precision it runs.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from stream_i3d.models.arguments import check_clips, check_dimensions, scaled
from stream_i3d.models.batch_norm_lstm import BatchNormLSTM
from stream_i3d.models.head import initialise_head
from stream_i3d.models.inception import InceptionTrunk
from stream_i3d.models.inception_plan import check_keep_prob
from stream_i3d.models.inception_table import MIN_SIDE

_UNITS = 512


class ConvNetLSTM(nn.Module):
    """Inception-v1 + LSTM (Carreira & Zisserman, CVPR 2017). 9.0 M parameters at 400 classes; the paper has 9 M.

    Takes clips (B, in_channels, T, H, W), floats in [-1, 1], of any T >= 1 and H, W >= 32; published at 25 frames of
    224 x 224, five apart, in training and 50 in tests.

    Args:
        num_classes: Classes of the head.
        in_channels: 3 for RGB, 2 for optical flow.
        dropout_keep_prob: Probability to *keep* one of Inception-v1's features in training.
        max_steps: Frames for which the LSTM keeps statistics of their own; 25, those of the training clips.
        width: Multiplies every channel count but the input's and the classes'; 1.0 is the published network.

    Raises:
        ConfigError: An argument outside its range.
    """

    heads: ClassVar[tuple[str, ...]] = ("logits",)

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int = 3,
        dropout_keep_prob: float = 0.5,
        *,
        max_steps: int = 25,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        check_dimensions(num_classes, in_channels, width)
        check_keep_prob(dropout_keep_prob)
        self.num_classes, self.in_channels, self.width = num_classes, in_channels, width
        self.trunk = InceptionTrunk(in_channels, width=width)
        self.dropout = nn.Dropout(1.0 - dropout_keep_prob)
        self.feature_channels = scaled(_UNITS, width)
        self.lstm = BatchNormLSTM(self.trunk.feature_channels, self.feature_channels, max_steps)
        self.logits = nn.Linear(self.feature_channels, num_classes)
        initialise_head(self.logits)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of each clip, those after its last frame.

        Args:
            x: (B, in_channels, T >= 1, H >= 32, W >= 32) float in [-1, 1]; B >= 2 in training.

        Returns:
            (B, num_classes) logits.

        Raises:
            ConfigError: The shape of `x` is not allowed.
        """
        logits: Tensor = self.logits(self.extract_features(x)[:, :, -1])
        return logits

    def temporal_logits(self, x: Tensor) -> Tensor:
        """Return the logits after each frame, (B, num_classes, T); arguments and errors as `forward`."""
        logits: Tensor = self.logits(self.extract_features(x).transpose(1, 2))  # (B, T, num_classes)
        return logits.transpose(1, 2)

    def training_loss(self, x: Tensor, targets: Tensor) -> Tensor:
        """Return the published training's loss: cross-entropy on the outputs at all time steps, averaged.

        Args:
            x: As for `forward`.
            targets: (B,) int64, each clip's class.

        Returns:
            () float32.
        """
        logits = self.temporal_logits(x).float()
        return F.cross_entropy(logits, targets[:, None].expand(-1, logits.shape[2]))

    def extract_features(self, x: Tensor) -> Tensor:
        """Return the LSTM's outputs, (B, 512 * width, T) in (-1, 1); arguments and errors as `forward`."""
        check_clips(x.shape, self.in_channels, 1, MIN_SIDE)
        frames = x.transpose(1, 2).flatten(0, 1)  # (B * T, C, H, W)
        pooled = self.trunk.extract_features(frames).mean(dim=(2, 3))  # one place up to 224 x 224
        sequence = pooled.reshape(x.shape[0], x.shape[2], -1)  # (B, T, 1024 * width)
        outputs: Tensor = self.lstm(self.dropout(sequence))
        return outputs.transpose(1, 2)
