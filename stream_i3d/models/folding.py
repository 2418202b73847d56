"""The form a trained network runs in: the same function with less arithmetic. Pure: networks in, networks out.

A BatchNorm at rest is a scale and a shift per channel, so it disappears into the convolution before it (Jacob et al.,
"Quantization and Training of Neural Networks", CVPR 2018, section 3.2). Folded in float64 and rounded once, the logits
stay within 1e-5 of their deviation. This module does not know devices, precisions or where it runs.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from stream_i3d.models.batch_norm_lstm import StepBatchNorm
from stream_i3d.models.head import HasHeads
from stream_i3d.models.i3d import MaxPool3dSame

_Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear

_FIRST = ("conv3d", "conv2d", "conv", "linear")
"""What the units of stream_i3d.models call the layer that their `bn` follows."""


class Float32(nn.Module):
    """A layer that runs in float32 whatever comes in.

    For heads: a logit of 20 in bfloat16 is one of 19.875, 20 and 20.125.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer.float()

    def forward(self, x: Tensor) -> Tensor:
        """Any shape and dtype the layer takes -> what it returns, float32."""
        with torch.autocast(x.device.type, enabled=False):
            y: Tensor = self.layer(x.float())
        return y


class SeparableMaxPool3d(nn.Module):
    """Max-pool 3 x 3 x 3 at stride 1 with "same" padding, axis by axis; the same numbers as max_pool3d's.

    torch's CPU kernel also keeps the place of each maximum. Measured on one thread, bfloat16 channels last, the maps of
    Mixed_3b (192 x 8 x 28 x 28): 5.1 ms, axis by axis 1.5 ms; of Mixed_4b 0.9 and 0.4 ms.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> the same shape."""
        for axis in (2, 3, 4):
            x = _max_of_three(x, axis)
        return x


def inference_form(model: nn.Module) -> nn.Module:
    """Return a copy that computes the same with every BatchNorm folded that stands behind a convolution.

    Args:
        model: A network of stream_i3d.models with trained statistics, float32; it is left as it is.

    Returns:
        The copy, in eval mode, without gradients, its heads in `Float32`. Its tensors' names are no longer those of a
        checkpoint. A copy of a network that is folded already.
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
    """Tell whether no BatchNorm is left, so that all but the heads may run in half precision."""
    return not any(isinstance(module, BatchNorm | StepBatchNorm) for module in model.modules())


def in_half(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast all of a folded network but its heads, in place; it then takes inputs of `dtype`, and returns float32."""
    heads = {part for module in model.modules() if isinstance(module, Float32) for part in module.modules()}
    for module in model.modules():
        if module not in heads:
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                if tensor.is_floating_point():
                    tensor.data = tensor.data.to(dtype)
    return model


def separate_pools(model: nn.Module) -> nn.Module:
    """Exchange the 3 x 3 x 3 pools of stride 1 (one in each of I3D's modules) for `SeparableMaxPool3d`, in place."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, MaxPool3dSame) and (child.kernel, child.stride) == ((3, 3, 3), (1, 1, 1)):
                setattr(parent, name, SeparableMaxPool3d())
    return model


def _fold(layer: _Layer, norm: BatchNorm) -> None:
    """Make `layer` compute norm(layer(x))."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = torch.rsqrt(norm.running_var.double() + norm.eps) * norm.weight.double()
    shift = norm.bias.double() - norm.running_mean.double() * scale
    if layer.bias is not None:
        shift = shift + layer.bias.double() * scale
    weight = layer.weight.double() * scale.view(-1, *[1] * (layer.weight.ndim - 1))
    layer.weight = nn.Parameter(weight.to(layer.weight.dtype), requires_grad=False)
    layer.bias = nn.Parameter(shift.to(layer.weight.dtype), requires_grad=False)


def _max_of_three(x: Tensor, axis: int) -> Tensor:
    """Return the maximum of each element and its two neighbours along `axis`."""
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
