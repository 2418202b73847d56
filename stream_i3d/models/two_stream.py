"""The 2D two-stream network: Inception-v1 on one RGB frame, Inception-v1 on a stack of ten flow fields.

Simonyan & Zisserman, "Two-Stream Convolutional Networks for Action Recognition in Videos" (NIPS 2014), with the trunk
of Carreira & Zisserman (CVPR 2017), section 2.3: the flow network's first layer has twice as many input channels as
there are flow fields, predictions are averaged, and so they are over the snapshots of a video in tests. The averaging
is part of the network, which is trained as a whole.

This module does not know how flow is computed (20 pixels of displacement must come as 1.0).
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from stream_i3d.errors import ConfigError
from stream_i3d.models.arguments import check_clips
from stream_i3d.models.fusion import Fusion, average_predictions, check_fusion, fuse
from stream_i3d.models.inception import InceptionV1
from stream_i3d.models.inception_table import MIN_SIDE

FLOW_STACK = 10
"""Flow fields that are stacked to one picture of the flow network."""

FLOW_CHANNELS = 2
"""Displacement along x and along y."""


class TwoStream(nn.Module):
    """Two Inception-v1 networks with fused predictions. 12.1 M parameters at 400 classes; the paper has 12 M.

    Takes n >= 1 snapshots of a video at once: one in training, 25 in the paper's tests. A snapshot is ten frames,
    0.4 s at 25 a second, of which the RGB network sees the sixth alone.

    Args:
        num_classes: Classes of both heads.
        in_channels: Channels of the RGB frames.
        dropout_keep_prob: Probability to *keep* a feature in training; 1.0 switches dropout off.
        fusion: "probabilities" averages the streams' probabilities, as published; "logits" adds their logits.
        width: Multiplies every channel count but the inputs' and the classes'; 1.0 is the published network.

    Raises:
        ConfigError: An argument outside its range.
    """

    heads: ClassVar[tuple[str, ...]] = ("rgb.logits.conv2d", "flow.logits.conv2d")

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int = 3,
        dropout_keep_prob: float = 0.5,
        *,
        fusion: Fusion = "probabilities",
        width: float = 1.0,
    ) -> None:
        super().__init__()
        check_fusion(fusion)
        self.num_classes, self.in_channels, self.width, self.fusion = num_classes, in_channels, width, fusion
        self.rgb = InceptionV1(num_classes, in_channels, dropout_keep_prob, width=width)
        self.flow = InceptionV1(num_classes, FLOW_CHANNELS * FLOW_STACK, dropout_keep_prob, width=width)

    def forward(self, rgb: Tensor, flow: Tensor) -> Tensor:
        """Return the fused prediction for each video.

        Args:
            rgb: (B, in_channels, n, H >= 32, W >= 32) float in [-1, 1], one frame per snapshot; or all 10 n frames.
            flow: (B, 2, 10 n, H, W) float in [-1, 1], x and y.

        Returns:
            (B, num_classes). With fusion "probabilities" these are float32 log-probabilities, the logarithm of the
            mean of all softmaxes, so a softmax of them is that mean; with "logits" the sum of the streams' logits.

        Raises:
            ConfigError: A shape is not allowed.
        """
        return fuse(self.stream_logits(rgb, flow), self.fusion)

    def stream_logits(self, rgb: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """Return each stream's own prediction, (B, num_classes) twice; arguments and errors as `forward`.

        Over several snapshots the predictions are averaged as `fusion` says: log-probabilities, or mean logits.
        """
        frames, stacks = snapshots(rgb, flow, self.in_channels)
        return self._averaged(self.rgb(frames), rgb.shape[0]), self._averaged(self.flow(stacks), rgb.shape[0])

    def _averaged(self, logits: Tensor, videos: int) -> Tensor:
        """(B * n, classes) -> (B, classes)."""
        logits = logits.reshape(videos, -1, self.num_classes)  # (B, n, classes)
        if self.fusion == "logits" or logits.shape[1] == 1:
            return logits.mean(dim=1)
        return average_predictions(logits, dim=1)


def snapshots(rgb: Tensor, flow: Tensor, in_channels: int) -> tuple[Tensor, Tensor]:
    """Lay out the clips of both streams as the pictures of 2D networks.

    Args:
        rgb: (B, in_channels, n, H, W), or (B, in_channels, 10 n, H, W), of which the sixth of each ten is taken.
        flow: (B, 2, 10 n, H, W).
        in_channels: What the RGB network takes.

    Returns:
        (B * n, in_channels, H, W), and (B * n, 20, H, W) with the channels x1, y1, x2, y2 and so on, as Simonyan &
        Zisserman stack them.

    Raises:
        ConfigError: A shape is not allowed.
    """
    check_clips(rgb.shape, in_channels, 1, MIN_SIDE)
    check_clips(flow.shape, FLOW_CHANNELS, FLOW_STACK, MIN_SIDE)
    count, left_over = divmod(flow.shape[2], FLOW_STACK)
    fits = rgb.shape[0] == flow.shape[0] and rgb.shape[3:] == flow.shape[3:]
    if left_over or not fits or rgb.shape[2] not in (count, flow.shape[2]):
        raise ConfigError(
            f"RGB of shape {tuple(rgb.shape)} and flow of {tuple(flow.shape)} do not fit: give as many videos, of the "
            f"same sides, with {FLOW_STACK} flow fields per snapshot, and one or all of its RGB frames"
        )
    if rgb.shape[2] == flow.shape[2]:
        rgb = rgb[:, :, FLOW_STACK // 2 :: FLOW_STACK]
    frames = rgb.transpose(1, 2).flatten(0, 1)
    # In memory (B, n * 10, 2, H, W): each ten fields' x and y then lie side by side, and are channels by a new shape.
    stacks = flow.transpose(1, 2).reshape(-1, FLOW_STACK * FLOW_CHANNELS, *flow.shape[3:])
    return frames, stacks
