"""ConvNet + LSTM: Inception-v1 on each frame, then a batch-normalised LSTM over the frames.

Donahue et al., "Long-term Recurrent Convolutional Networks" and Ng et al., "Beyond Short Snippets" (both CVPR 2015), in
the variant of Carreira & Zisserman (CVPR 2017), section 2.1: the LSTM has 512 units and takes the features after
Inception-v1's last average pool. The training loss is the cross-entropy of the outputs at all time steps; in tests the
last output counts. The paper takes every fifth frame at 25 frames/s, which is `frame_interval` 5 here.

The LSTM is that of Cooijmans et al., "Recurrent Batch Normalization" (ICLR 2017; arXiv 1603.09025). The contributions
of the input and of the last state to the gates, and the cell on its way to the output, are normalised separately, with
statistics per time step. Every scale starts at 0.1, because at 1 the gradients of the hyperbolic tangents vanish.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from stream_i3d.errors import ConfigError
from stream_i3d.models.arguments import check_clips, check_dimensions, check_keep_prob, scaled
from stream_i3d.models.head import initialise_head
from stream_i3d.models.inception import InceptionTrunk
from stream_i3d.models.inception_table import MIN_SIDE

_GAMMA = 0.1
_EPS = 1e-5
_MOMENTUM = 0.1
_FORGET_BIAS = 1.0  # the usual initial value (Jozefowicz et al., ICML 2015)


class StepBatchNorm(nn.Module):
    """BatchNorm with running statistics per time step; scale and shift are shared by all steps.

    Args:
        features: Number of features.
        max_steps: Steps with their own statistics; later steps use those of the last.
        shift: Whether there is a learned shift. The gates have a bias already.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, max_steps: int, *, shift: bool) -> None:
        super().__init__()
        self.max_steps = max_steps
        self.weight = nn.Parameter(torch.full((features,), _GAMMA))
        self.bias = nn.Parameter(torch.zeros(features)) if shift else None
        self.register_buffer("running_mean", torch.zeros(max_steps, features))
        self.register_buffer("running_var", torch.ones(max_steps, features))

    def forward(self, x: Tensor, step: int, *, last: bool) -> Tensor:
        """Normalise the values of one time step.

        Args:
            x: (B, features), B >= 2 in training.
            step: Index of the time step, from 0.
            last: Whether it is the last step of the clip. In training, all later steps then get the same update of
                their statistics, so that none is left without data.

        Returns:
            (B, features) float32.
        """
        x, scale = x.float(), self.weight.float()
        shift = None if self.bias is None else self.bias.float()
        row = min(step, self.max_steps - 1)
        if not self.training:
            mean, variance = self.running_mean[row].float(), self.running_var[row].float()
            return F.batch_norm(x, mean, variance, scale, shift, eps=_EPS)
        with torch.no_grad():
            rows = slice(row, self.max_steps if last else row + 1)
            self.running_mean[rows].lerp_(x.mean(dim=0).to(self.running_mean.dtype), _MOMENTUM)
            self.running_var[rows].lerp_(x.var(dim=0).to(self.running_var.dtype), _MOMENTUM)
        return F.batch_norm(x, None, None, scale, shift, training=True, eps=_EPS)


class BatchNormLSTM(nn.Module):
    """One layer of batch-normalised LSTM. The state is zero at the start of every clip.

    Args:
        in_features: Features of the input at each step.
        units: Number of cells, and of output features.
        max_steps: Steps with their own statistics; 25 as in the published training clips.
    """

    def __init__(self, in_features: int, units: int, max_steps: int = 25) -> None:
        super().__init__()
        if max_steps < 1:
            raise ConfigError(f"max_steps={max_steps}: give a whole number of at least 1")
        self.units = units
        self.input = nn.Linear(in_features, 4 * units, bias=False)
        self.recurrent = nn.Linear(units, 4 * units, bias=False)
        self.bias = nn.Parameter(torch.zeros(4 * units))
        self.bn_input = StepBatchNorm(4 * units, max_steps, shift=False)
        self.bn_recurrent = StepBatchNorm(4 * units, max_steps, shift=False)
        self.bn_cell = StepBatchNorm(units, max_steps, shift=True)
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        """Return the output at every step.

        Args:
            x: (B, T, in_features) float; B >= 2 in training.

        Returns:
            (B, T, units) in (-1, 1), the dtype of `x`; the cells are computed in float32.

        Raises:
            ConfigError: A batch of one clip in training, which has no statistics.
        """
        batch, steps = x.shape[:2]
        if self.training and batch < 2:
            raise ConfigError(
                f"a batch of {batch} has no statistics for the LSTM's BatchNorm: "
                "train on at least 2 clips at once, or call eval()"
            )
        from_input = self.input(x)  # (B, T, 4 * units), all steps in one product
        hidden = cell = torch.zeros(batch, self.units, device=x.device)
        outputs: list[Tensor] = []
        for step in range(steps):
            last = step == steps - 1
            gates = (
                self.bn_input(from_input[:, step], step, last=last)
                + self.bn_recurrent(self.recurrent(hidden.to(from_input.dtype)), step, last=last)
                + self.bias
            )
            forget, inward, outward, candidate = gates.chunk(4, dim=1)
            cell = forget.sigmoid() * cell + inward.sigmoid() * candidate.tanh()
            hidden = outward.sigmoid() * self.bn_cell(cell, step, last=last).tanh()
            outputs.append(hidden)
        return torch.stack(outputs, dim=1).to(x.dtype)

    def _initialise(self) -> None:
        nn.init.xavier_uniform_(self.input.weight)
        with torch.no_grad():
            for gate in self.recurrent.weight.chunk(4):  # orthogonal for each gate
                nn.init.orthogonal_(gate)
            self.bias[: self.units].fill_(_FORGET_BIAS)


_UNITS = 512


class ConvNetLSTM(nn.Module):
    """Inception-v1 + LSTM (Carreira & Zisserman, CVPR 2017). 9.0 M parameters at 400 classes; the paper has 9 M.

    Takes clips (B, in_channels, T, H, W), floats in [-1, 1], of any T >= 1 and H, W >= 32; published at 25 frames of
    224 x 224, five apart, in training and 50 in tests.

    Args:
        num_classes: Classes of the head.
        in_channels: 3 for RGB, 2 for optical flow.
        dropout_keep_prob: Probability of *keeping* one of Inception-v1's features in training.
        max_steps: Frames for which the LSTM has its own statistics; 25 as in the published training clips.
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
        """Return the logits of each clip, after its last frame.

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
        pooled = self.trunk.extract_features(frames).mean(dim=(2, 3))  # a 1 x 1 map up to 224 x 224
        sequence = pooled.reshape(x.shape[0], x.shape[2], -1)  # (B, T, 1024 * width)
        outputs: Tensor = self.lstm(self.dropout(sequence))
        return outputs.transpose(1, 2)
