"""The first convolution rearranged for GPUs: strides become channels, and the result is the same.

A 7 x 7 x 7 convolution of stride 2 over 3 channels is a quarter of I3D's work. Matrix units take channels in groups of
eight or more, so 3 leave most of them idle. Where the stride is 2, every two neighbours along that axis may as well be
two channels of a map half as long: 3 channels become 24, the kernel 4 x 4 x 4 (zeros fill its eighth tap), the stride
1; the arithmetic grows by half and suits the hardware. This module does not know devices.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from stream_i3d.models.i3d import Unit3D
from stream_i3d.models.inception_table import same_padding
from stream_i3d.models.resnet_i3d import ConvBN

_FEW_CHANNELS = 4
"""Convolutions of more input channels than this are left alone."""


class RearrangedStem(nn.Module):
    """A strided convolution (and the ReLU after it) as one of stride 1 over more channels.

    Args:
        conv: The convolution, with a bias: BatchNorm must be folded. Its strides are 1 or 2.
        same: Whether it is padded as TensorFlow's "same", which depends on the size; else by `conv.padding`.
    """

    def __init__(self, conv: nn.Conv3d, *, same: bool) -> None:
        super().__init__()
        assert conv.bias is not None and set(conv.stride) <= {1, 2}
        self.kernel, self.stride, self.same = conv.kernel_size, conv.stride, same
        self.padding = tuple(int(size) for size in conv.padding)
        weight = _rearranged(conv.weight, conv.stride)
        outputs, inputs, *taps = weight.shape
        self.conv = nn.Conv3d(inputs, outputs, (taps[0], taps[1], taps[2]))
        self.conv.weight, self.conv.bias = nn.Parameter(weight, requires_grad=False), conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> what the convolution returns, rectified."""
        amounts: list[int] = []
        for size, kernel, stride, fixed in zip(x.shape[2:], self.kernel, self.stride, self.padding, strict=True):
            front, outputs = fixed, (size + 2 * fixed - kernel) // stride + 1
            if self.same:
                front, outputs = same_padding(size, kernel, stride)[0], -(-size // stride)
            taps = -(-kernel // stride)
            amounts = [front, (outputs + taps - 1) * stride - front - size, *amounts]  # F.pad counts axes from the last
        x = _to_channels(F.pad(x, amounts), self.stride)
        return F.relu(self.conv(x), inplace=True)


def rearrange_stem(model: nn.Module) -> nn.Module:
    """Exchange the strided convolutions of few channels in a folded network for `RearrangedStem`, in place."""
    for parent in list(model.modules()):
        for name, unit in parent.named_children():
            conv = unit.conv3d if isinstance(unit, Unit3D) else unit.conv if isinstance(unit, ConvBN) else None
            if conv is None or conv.in_channels > _FEW_CHANNELS or max(conv.stride) == 1:
                continue
            assert isinstance(unit.bn, nn.Identity), "fold the network first"
            setattr(parent, name, RearrangedStem(conv, same=isinstance(unit, Unit3D)))
    return model


def _rearranged(weight: Tensor, stride: tuple[int, ...]) -> Tensor:
    """(out, C, T, H, W) -> (out, factors * C, taps...), zeros in the taps that the strides add."""
    out, channels = weight.shape[:2]
    taps = [-(-kernel // step) for kernel, step in zip(weight.shape[2:], stride, strict=True)]
    missing = [tap * step - kernel for tap, step, kernel in zip(taps, stride, weight.shape[2:], strict=True)]
    weight = F.pad(weight, [size for axis in reversed(missing) for size in (0, axis)])
    split = [size for pair in zip(taps, stride, strict=True) for size in pair]
    weight = weight.reshape(out, channels, *split).permute(0, 3, 5, 7, 1, 2, 4, 6)
    return weight.reshape(out, -1, *taps).contiguous()


def _to_channels(x: Tensor, stride: tuple[int, ...]) -> Tensor:
    """(B, C, T, H, W) -> (B, factors * C, T / stride, H / stride, W / stride), channels last in memory."""
    batch, channels = x.shape[:2]
    sizes = [size // step for size, step in zip(x.shape[2:], stride, strict=True)]
    split = [size for pair in zip(sizes, stride, strict=True) for size in pair]
    x = x.reshape(batch, channels, *split).permute(0, 2, 4, 6, 3, 5, 7, 1)  # (B, T', H', W', t, h, w, C)
    return x.reshape(batch, *sizes, -1).permute(0, 4, 1, 2, 3)
