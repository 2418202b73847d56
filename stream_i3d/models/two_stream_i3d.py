"""Two-stream I3D: one network sees RGB, one sees optical flow, and their predictions are fused.

Carreira & Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset" (CVPR 2017), section 2.4:
the two are trained apart and their predictions averaged at test time; the released code adds the logits. For its
example clip (v_CricketShot_g04_c01, 79 frames) and its weights, the added logits have 41.813675 at "playing cricket"
and the norm 138.468658: that is `fusion="logits"`.

This module does not know how flow is computed (20 pixels of displacement must come as 1.0), nor checkpoints.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from stream_i3d.errors import ConfigError
from stream_i3d.models.fusion import Fusion, check_fusion, fuse
from stream_i3d.models.i3d import I3D

FLOW_CHANNELS = 2
"""Displacement along x and along y."""


class TwoStreamI3D(nn.Module):
    """An RGB I3D and a flow I3D with fused predictions. 25.4 M parameters at 400 classes.

    The streams are plain `I3D` networks, so a checkpoint of each loads by `model.rgb.load_state_dict` and
    `model.flow.load_state_dict`; all parameters together have the prefixes ``rgb.`` and ``flow.``.

    Args:
        num_classes: Classes of both heads.
        in_channels: Channels of the RGB clips.
        dropout_keep_prob: Probability to *keep* a feature in training; 1.0 switches dropout off.
        fusion: "probabilities" averages the streams' probabilities, "logits" adds their logits.
        width: Multiplies every channel count but the inputs' and the classes'; 1.0 is the published network.

    Raises:
        ConfigError: An argument outside its range.
    """

    heads: ClassVar[tuple[str, ...]] = ("rgb.logits.conv3d", "flow.logits.conv3d")

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
        self.rgb = I3D(num_classes, in_channels, dropout_keep_prob, width=width)
        self.flow = I3D(num_classes, FLOW_CHANNELS, dropout_keep_prob, width=width)

    def forward(self, rgb: Tensor, flow: Tensor) -> Tensor:
        """Return the fused prediction for each clip.

        Args:
            rgb: (B, in_channels, T >= 8, H >= 32, W >= 32) float in [-1, 1].
            flow: (B, 2, T', H', W') float in [-1, 1], x and y; as many clips as `rgb`, and usually its sizes.

        Returns:
            (B, num_classes). With fusion "probabilities" these are float32 log-probabilities, the logarithm of the
            mean of the streams' softmaxes, so a softmax of them is that mean; with "logits" the sum of the logits.

        Raises:
            ConfigError: A shape is not allowed.
        """
        return self.fuse(*self.stream_logits(rgb, flow))

    def stream_logits(self, rgb: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """Return each stream's own logits, (B, num_classes) twice; arguments and errors as `forward`."""
        if rgb.shape[:1] != flow.shape[:1]:
            raise ConfigError(
                f"{rgb.shape[0]} RGB clips and {flow.shape[0]} of flow do not fit: give one of flow to each of RGB"
            )
        return self.rgb(rgb), self.flow(flow)

    def fuse(self, rgb_logits: Tensor, flow_logits: Tensor) -> Tensor:
        """Fuse what `stream_logits` returned; (B, num_classes) twice -> (B, num_classes) as `forward` returns."""
        return fuse((rgb_logits, flow_logits), self.fusion)

    def extract_features(self, rgb: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features that each head sees, (B, 1024 * width, T', H', W') each, after the average pools."""
        return self.rgb.extract_features(rgb), self.flow.extract_features(flow)
