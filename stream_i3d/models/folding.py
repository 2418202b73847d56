"""A trained network in the form it runs in: the same function with less arithmetic.

BatchNorm in eval mode is a scale and a shift per channel, so it can be folded into the convolution before it (Jacob et
al., "Quantization and Training of Neural Networks", CVPR 2018, section 3.2). Folding is done in float64 and rounded
once; logits change by less than 1e-5 of their standard deviation.

For GPUs the first convolution can be rearranged (`rearrange_stem`). A 7 x 7 x 7 convolution of stride 2 over 3 channels
is a quarter of I3D's work, and matrix units take channels in groups of eight or more, so 3 channels leave most of them
idle. At stride 2 every two neighbours along an axis can become two channels of a map half as long: 3 channels become
24, the kernel 4 x 4 x 4 (zeros fill the eighth tap), the stride 1. That is half as much arithmetic again, but it suits
the hardware.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from stream_i3d.models.head import HasHeads
from stream_i3d.models.i3d import MaxPool3dSame, Unit3D
from stream_i3d.models.inception_table import same_padding
from stream_i3d.models.resnet_i3d import ConvBN

_Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear

_FIRST = ("conv3d", "conv2d", "conv", "linear")
"""Names of the layer before a `bn` in the units of stream_i3d.models. A new architecture uses one of them."""


class Float32(nn.Module):
    """A layer that always runs in float32, whatever the dtype of its input.

    Used for heads, because bfloat16 logits near 20 have steps of 0.125.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer.float()

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that the layer takes -> its output, float32."""
        with torch.autocast(x.device.type, enabled=False):
            y: Tensor = self.layer(x.float())
        return y


class SeparableMaxPool3d(nn.Module):
    """Max-pool 3 x 3 x 3 at stride 1 with "same" padding, axis by axis; equal to max_pool3d, faster on CPUs.

    torch's CPU kernel also records the index of each maximum. Measured on one thread, bfloat16 channels last, maps of
    Mixed_3b (192 x 8 x 28 x 28): 5.1 ms, axis by axis 1.5 ms; of Mixed_4b 0.9 and 0.4 ms.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> the same shape."""
        for axis in (2, 3, 4):
            x = _max_of_three(x, axis)
        return x


def inference_form(model: nn.Module) -> nn.Module:
    """Return a copy in which every BatchNorm after a convolution or linear layer is folded into it.

    Args:
        model: A float32 network of stream_i3d.models; not changed. It may be folded already.

    Returns:
        The copy, in eval mode, without gradients, with its heads in `Float32`. The names of its tensors are not those
        of a checkpoint.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for unit in list(folded.modules()):
        for name in _FIRST:
            layer, norm = getattr(unit, name, None), getattr(unit, "bn", None)
            if isinstance(layer, _Layer) and isinstance(norm, BatchNorm):
                _fold(layer, norm)
                unit.bn = nn.Identity()
    for name in folded.heads if isinstance(folded, HasHeads) else ():
        parent, _, child = name.rpartition(".")
        head = folded.get_submodule(name)
        if not isinstance(head, Float32):
            setattr(folded.get_submodule(parent), child, Float32(head))
    return folded


def is_folded(model: nn.Module) -> bool:
    """Return whether no BatchNorm is left, so that all but the heads may run in half precision."""
    return not any(hasattr(module, "running_var") for module in model.modules())


def in_half(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast a folded network except its heads, in place; it then takes inputs of `dtype` and returns float32."""
    heads = {part for module in model.modules() if isinstance(module, Float32) for part in module.modules()}
    for module in model.modules():
        if module not in heads:
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                if tensor.is_floating_point():
                    tensor.data = tensor.data.to(dtype)
    return model


def separate_pools(model: nn.Module) -> nn.Module:
    """Replace the 3 x 3 x 3 pools of stride 1 (one in each Inception module) by `SeparableMaxPool3d`, in place."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, MaxPool3dSame) and (child.kernel, child.stride) == ((3, 3, 3), (1, 1, 1)):
                setattr(parent, name, SeparableMaxPool3d())
    return model


def _fold(layer: _Layer, norm: BatchNorm) -> None:
    """Change the weights of `layer` so that it computes norm(layer(x))."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = torch.rsqrt(norm.running_var.double() + norm.eps) * norm.weight.double()
    shift = norm.bias.double() - norm.running_mean.double() * scale
    if layer.bias is not None:
        shift = shift + layer.bias.double() * scale
    weight = layer.weight.double() * scale.view(-1, *[1] * (layer.weight.ndim - 1))
    layer.weight = nn.Parameter(weight.to(layer.weight.dtype), requires_grad=False)
    layer.bias = nn.Parameter(shift.to(layer.weight.dtype), requires_grad=False)


def _max_of_three(x: Tensor, axis: int) -> Tensor:
    """Return the maximum over each element and its two neighbours along `axis`."""
    size = x.shape[axis]
    if size == 1:
        return x
    pairs = torch.maximum(x.narrow(axis, 0, size - 1), x.narrow(axis, 1, size - 1))
    out = torch.empty_like(x)
    if size > 2:
        torch.maximum(
            pairs.narrow(axis, 0, size - 2), pairs.narrow(axis, 1, size - 2), out=out.narrow(axis, 1, size - 2)
        )
    out.narrow(axis, 0, 1).copy_(pairs.narrow(axis, 0, 1))
    out.narrow(axis, size - 1, 1).copy_(pairs.narrow(axis, size - 2, 1))
    return out


_FEW_CHANNELS = 4
"""Convolutions with more input channels are not rearranged."""


class RearrangedStem(nn.Module):
    """A strided convolution and its ReLU as a convolution of stride 1 over more channels.

    Args:
        conv: The convolution, with strides of 1 or 2 and a bias (BatchNorm must be folded).
        same: Whether it has TensorFlow's "same" padding, which depends on the input size; else `conv.padding`.
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
        """(B, C, T, H, W) -> the output of the convolution and ReLU."""
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
    """Replace strided convolutions of few channels in a folded network by `RearrangedStem`, in place."""
    for parent in list(model.modules()):
        for name, unit in parent.named_children():
            conv = unit.conv3d if isinstance(unit, Unit3D) else unit.conv if isinstance(unit, ConvBN) else None
            if conv is None or conv.in_channels > _FEW_CHANNELS or max(conv.stride) == 1:
                continue
            assert isinstance(unit.bn, nn.Identity), "fold the network first"
            setattr(parent, name, RearrangedStem(conv, same=isinstance(unit, Unit3D)))
    return model


def _rearranged(weight: Tensor, stride: tuple[int, ...]) -> Tensor:
    """(out, C, T, H, W) -> (out, factors * C, taps...), with zeros in the added taps."""
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


def lay_out(model: nn.Module) -> torch.memory_format:
    """Change the weights of 3D convolutions to the channels-last memory format, in place.

    Networks with 2D layers are not changed, because those have another format.

    Returns:
        The memory format that the network's (B, C, T, H, W) inputs should have.
    """
    if any(weight.ndim == 4 for weight in model.parameters()):
        return torch.contiguous_format
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return torch.channels_last_3d
