"""ResNet-50 I3D as MMAction2 publishes it: plain, heavy, and with non-local blocks of three kinds.

Carreira & Zisserman, "Quo Vadis, Action Recognition?" (CVPR 2017) is the inflation, He et al., "Deep Residual Learning"
(CVPR 2016) the trunk, Wang et al., "Non-local Neural Networks" (CVPR 2018) the layout of strides and the blocks.
Parameter names are those of MMAction2's published files (its backbone ResNet3d and I3DHead), so they load without
renaming. Where that code and the papers differ, the code is followed, because the weights were trained with it:
attention is not scaled by the channels, keys and values are sub-sampled in space only, and BatchNorm's eps is 1e-5.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from stream_i3d.errors import ConfigError, did_you_mean
from stream_i3d.models.arguments import check_clips, check_dimensions, scaled
from stream_i3d.models.head import initialise_head
from stream_i3d.models.time_conv import TimeConv3d

Triple = tuple[int, int, int]
"""(time, height, width)."""

Variant = Literal["plain", "heavy"]
NonLocalKind = Literal["gaussian", "embedded_gaussian", "dot_product"]

VARIANTS: tuple[Variant, ...] = ("plain", "heavy")
NON_LOCAL_KINDS: tuple[NonLocalKind, ...] = ("gaussian", "embedded_gaussian", "dot_product")

END_POINTS: tuple[str, ...] = ("conv1", "maxpool", "layer1", "pool2", "layer2", "layer3", "layer4")
"""The published names in the order of the forward pass."""

EXPANSION = 4
"""Output channels of a bottleneck per inner channel."""

MIN_FRAMES: dict[Variant, int] = {"plain": 8, "heavy": 2}
MIN_SIDE = 32
"""The strides multiply to 8 in time (2 in the heavy variant) and 32 in space: for smaller inputs the last map would be
empty or padding only."""

_PLANES = (64, 128, 256, 512)  # inner channels of each stage's bottlenecks
_INFLATED: dict[Variant, tuple[tuple[bool, ...], ...]] = {  # blocks of each stage with a kernel of 3 in time
    "plain": (
        (True, True, True),
        (True, False, True, False),
        (True, False, True, False, True, False),
        (False, True, False),
    ),
    "heavy": ((True,) * 3, (True,) * 4, (True,) * 6, (True,) * 3),
}
_NON_LOCAL: tuple[tuple[bool, ...], ...] = (  # blocks that are followed by a non-local one
    (False, False, False),
    (False, True, False, True),
    (False, True, False, True, False, True),
    (False, False, False),
)


class ConvBN(nn.Module):
    """Convolution without bias, BatchNorm, and optionally ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel: Odd kernel size per axis; both ends are padded by half of it.
        stride: Stride per axis.
        relu: Whether the output is rectified.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: Triple, stride: Triple = (1, 1, 1), *, relu: bool = True
    ) -> None:
        super().__init__()
        time, height, width = kernel
        padding = (time // 2, height // 2, width // 2)
        self.conv = TimeConv3d(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm3d(out_channels)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) -> (B, out, ceil(T / stride), ceil(H / stride), ceil(W / stride))."""
        x = self.bn(self.conv(x))
        return F.relu(x, inplace=True) if self.relu else x


class Projection(nn.Module):
    """A 1x1x1 convolution with bias, a module of its own so that its tensors have the published names."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) -> (B, out, T, H, W)."""
        projected: Tensor = self.conv(x)
        return projected


class NonLocalBlock(nn.Module):
    """Attention over all positions of the clip, added to the input (Wang et al., CVPR 2018).

    theta(x) are the queries, phi(x) the keys and g(x) the values; in the Gaussian kind x itself is query and key. phi
    and g are max-pooled 1x2x2, which saves three quarters of the pairs.

    Args:
        channels: Channels of input and output.
        inner: Channels of theta, phi and g; half of `channels` in the published networks.
        kind: Weight of a pair: a softmax over theta . phi, or theta . phi divided by the number of keys (dot product).
    """

    def __init__(self, channels: int, inner: int, kind: NonLocalKind) -> None:
        super().__init__()
        self.kind = kind
        pool = nn.MaxPool3d((1, 2, 2))
        self.g = nn.Sequential(Projection(channels, inner), pool)
        self.theta: nn.Module = nn.Identity() if kind == "gaussian" else Projection(channels, inner)
        self.phi: nn.Module = pool if kind == "gaussian" else nn.Sequential(Projection(channels, inner), pool)
        self.conv_out = ConvBN(inner, channels, (1, 1, 1), relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H >= 2, W >= 2) -> the same shape; any sign."""
        query = self.theta(x).flatten(2).transpose(1, 2)  # (B, T * H * W, C or inner)
        key = self.phi(x).flatten(2).transpose(1, 2)  # (B, T * (H // 2) * (W // 2), C or inner)
        value = self.g(x).flatten(2).transpose(1, 2)  # (B, T * (H // 2) * (W // 2), inner)
        if self.kind == "dot_product":
            found = query @ key.transpose(1, 2) / key.shape[1] @ value  # (B, T * H * W, inner)
        else:
            # Unscaled products of hundreds of channels reach hundreds; torch's attention keeps them in float32 for
            # half-precision inputs, and need not have all pairs in memory at once.
            found = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=1.0)[:, 0]
        found = found.transpose(1, 2).unflatten(2, x.shape[2:])  # (B, inner, T, H, W)
        added: Tensor = self.conv_out(found)
        return x + added


class Bottleneck(nn.Module):
    """A residual block: 3x1x1 (inflated) or 1x1x1, 1x3x3, 1x1x1; optionally followed by a non-local block.

    Args:
        in_channels: Channels of the input.
        planes: Published channels of the two inner convolutions; the output has four times as many.
        width: Factor on all channel counts but `in_channels`.
        stride: Spatial stride of the 1x3x3 convolution.
        inflated: Whether the first convolution has a kernel of 3 in time.
        non_local: Kind of the non-local block, or None.
    """

    def __init__(
        self,
        in_channels: int,
        planes: int,
        width: float,
        *,
        stride: int = 1,
        inflated: bool = False,
        non_local: NonLocalKind | None = None,
    ) -> None:
        super().__init__()
        out_channels, half = scaled(planes * EXPANSION, width), scaled(planes * EXPANSION // 2, width)
        planes = scaled(planes, width)
        strides = (1, stride, stride)
        self.conv1 = ConvBN(in_channels, planes, (3, 1, 1) if inflated else (1, 1, 1))
        self.conv2 = ConvBN(planes, planes, (1, 3, 3), strides)
        self.conv3 = ConvBN(planes, out_channels, (1, 1, 1), relu=False)
        fits = stride == 1 and in_channels == out_channels
        self.downsample = None if fits else ConvBN(in_channels, out_channels, (1, 1, 1), strides, relu=False)
        self.non_local_block = None if non_local is None else NonLocalBlock(out_channels, half, non_local)
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) -> (B, out, T, ceil(H / stride), ceil(W / stride)), >= 0 without a non-local block."""
        residual = self.conv3(self.conv2(self.conv1(x)))
        identity = x if self.downsample is None else self.downsample(x)
        x = F.relu(residual + identity, inplace=True)
        return x if self.non_local_block is None else self.non_local_block(x)


class Backbone(nn.Module):
    """The network without its head: a stem and four stages of 3, 4, 6 and 3 bottlenecks; see `ResNetI3D`."""

    def __init__(self, in_channels: int, variant: Variant, non_local: NonLocalKind | None, width: float) -> None:
        super().__init__()
        stride = 2 if variant == "plain" else 1  # in time, of the stem
        channels = scaled(_PLANES[0], width)
        self.conv1 = ConvBN(in_channels, channels, (5, 7, 7), (stride, 2, 2))
        self.maxpool = nn.MaxPool3d((1, 3, 3), (stride, 2, 2), padding=(0, 1, 1))
        self.pool2 = nn.MaxPool3d((2, 1, 1))
        for index, planes in enumerate(_PLANES):
            blocks: list[nn.Module] = []
            for inflated, followed in zip(_INFLATED[variant][index], _NON_LOCAL[index], strict=True):
                block = Bottleneck(
                    channels,
                    planes,
                    width,
                    stride=2 if index > 0 and not blocks else 1,
                    inflated=inflated,
                    non_local=non_local if followed else None,
                )
                blocks.append(block)
                channels = block.out_channels
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
        self.out_channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) -> (B, 2048 * width, T / 8, H / 32, W / 32); T / 2 in the heavy variant."""
        for name in END_POINTS:
            x = getattr(self, name)(x)  # each output replaces its input to limit memory
        return x


class Head(nn.Module):
    """The linear layer from features to logits, a module of its own for the published name, fc_cls."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.fc_cls = nn.Linear(in_channels, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """(B, in) -> (B, num_classes)."""
        logits: Tensor = self.fc_cls(features)
        return logits


class ResNetI3D(nn.Module):
    """ResNet-50 I3D. At 400 classes 28.0 M parameters plain, 33.0 heavy, 31.7 to 35.4 with non-local blocks.

    Takes clips (B, in_channels, T, H, W), floats normalised with ImageNet's mean and deviation, of T >= 8 (heavy: 2)
    and H, W >= 32; published at 32 frames, two apart, of 224 x 224. Fresh convolutions start from He et al.'s normal
    initialisation (ICCV 2015, fan-out), BatchNorms from 1 and 0, the head from N(0, 0.01) and zero bias, and non-local
    blocks as the identity.

    Args:
        num_classes: Classes of the head.
        in_channels: 3 for RGB, 2 for optical flow.
        variant: "plain" has kernels of 3 in time in half of its blocks, and its stem has a stride of 4 in time; "heavy"
            has them in all blocks, and its stem has no stride in time.
        non_local: The kind of the five non-local blocks in stages 2 and 3, or None for none.
        dropout: Probability of dropping a feature in training.
        width: Multiplies every channel count but the input's and the classes'; 1.0 is the published network.

    Raises:
        ConfigError: An argument outside its range.
    """

    heads: ClassVar[tuple[str, ...]] = ("cls_head.fc_cls",)
    pool_side: ClassVar[int | None] = None

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int = 3,
        *,
        variant: Variant = "plain",
        non_local: NonLocalKind | None = None,
        dropout: float = 0.5,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        check_dimensions(num_classes, in_channels, width)
        _check_arguments(variant, non_local, dropout)
        self.num_classes, self.in_channels, self.width = num_classes, in_channels, width
        self.variant, self.non_local = variant, non_local
        self.backbone = Backbone(in_channels, variant, non_local, width)
        self.feature_channels = self.backbone.out_channels
        self.dropout = nn.Dropout(dropout)
        self.cls_head = Head(self.feature_channels, num_classes)
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of each clip.

        Args:
            x: (B, in_channels, T >= 8 (heavy: 2), H >= 32, W >= 32) float.

        Returns:
            (B, num_classes) logits.

        Raises:
            ConfigError: The shape of `x` is not allowed.
        """
        logits: Tensor = self.cls_head(self.dropout(self.extract_features(x)))
        return logits

    def extract_features(self, x: Tensor) -> Tensor:
        """Return the head's input, (B, 2048 * width): the mean of the last map over time and space."""
        self._check_input(x)
        features: Tensor = self.backbone(x).mean(dim=(2, 3, 4))
        return features

    def feature_map(self, x: Tensor) -> Tensor:
        """Return the last map averaged over time, (B, 2048 * width, H / 32, W / 32) float32."""
        self._check_input(x)
        maps: Tensor = self.backbone(x).float().mean(dim=2)
        return maps

    def end_points(self, x: Tensor) -> dict[str, Tensor]:
        """Return the output of every stage by its published name, in order. All are in memory at once."""
        self._check_input(x)
        outputs: dict[str, Tensor] = {}
        for name in END_POINTS:
            x = outputs[name] = getattr(self.backbone, name)(x)
        return outputs

    def _check_input(self, x: Tensor) -> None:
        check_clips(x.shape, self.in_channels, MIN_FRAMES[self.variant], MIN_SIDE)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            if isinstance(module, Projection):
                initialise_head(module.conv)
            elif isinstance(module, NonLocalBlock):
                nn.init.zeros_(
                    module.conv_out.bn.weight
                )  # the block is the identity, so it can be added to a trained network
        initialise_head(self.cls_head.fc_cls)


def _check_arguments(variant: str, non_local: str | None, dropout: float) -> None:
    if variant not in VARIANTS:
        raise ConfigError(f"variant={variant!r} is not allowed: give one of {', '.join(VARIANTS)}")
    if non_local is not None and non_local not in NON_LOCAL_KINDS:
        raise ConfigError(
            f"non_local={non_local!r} is not allowed{did_you_mean(str(non_local), NON_LOCAL_KINDS)}: "
            f"give None or one of {', '.join(NON_LOCAL_KINDS)}"
        )
    if not 0.0 <= dropout < 1.0:
        raise ConfigError(
            f"dropout={dropout} is not allowed: it is the probability to drop a feature, at least 0 and below 1"
        )
