"""Inflation: turns a 2D network for pictures into a 3D network for clips, with its weights.

Carreira & Zisserman (CVPR 2017), section 2.4: a K x K filter is repeated N times along time and divided by N, so that
a still ("boring") video gives the response of the 2D network, except where the zero padding in time is reached.

`inflate` takes modules, from single layers to whole networks. `inflate_inception` and `inflate_resnet50` turn state
dicts into those of the two published families.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stream_i3d.errors import CheckpointError, ConfigError, did_you_mean
from stream_i3d.models.i3d import I3D
from stream_i3d.models.inception import InceptionTrunk, InceptionV1
from stream_i3d.models.resnet_i3d import ResNetI3D, Variant
from stream_i3d.models.time_conv import TimeConv3d

Times = int | Mapping[str, int] | None
"""Kernel sizes in time: one for all layers, one per dotted name, or None for as long as each kernel is high."""

_KEPT_WITH_WEIGHTS = (nn.Linear, nn.PReLU, nn.GroupNorm)
"""Layers with weights that work for clips without change."""

_COUNTER = "num_batches_tracked"
"""BatchNorm's step counter, which old state dicts do not have; it is not used here."""


def inflate(module_2d: nn.Module, time: Times = None, *, stride: int | None = None) -> nn.Module:
    """Turn a network for pictures (B, C, H, W) into one for clips (B, C, T, H, W), with its weights.

    Convolutions, BatchNorms, max-, average and adaptive pools and Dropout2d get their 3D counterparts at any depth.
    Linear layers, activations, flattening and modules that only combine others are kept. Adaptive pools pool all
    of time, so that a flattening and a linear layer after them still fit. `InceptionV1` becomes `I3D`.

    Args:
        module_2d: A layer or a network; it is not changed and shares no memory with the result. The forward of a
            module that combines others must work with one more axis.
        time: Kernel size along time of convolutions and pools. A number: for all of them. A mapping: by the dotted
            name within `module_2d`, 1 for those it does not name, as in ``{"stem.conv": 5, "layer1.0.conv1": 3}``.
            None: as high as each kernel is, the paper's cubes.
        stride: Stride along time where the kernel there is larger than 1; None for that of the height, as the paper
            has it. Kernels of 1 have stride 1.

    Returns:
        The inflated module, in the same mode (training or not), on the same device, of the same dtype. At stride 1,
        convolutions of odd `time` keep the number of frames, by zero padding.

    Raises:
        ConfigError: `time` or `stride` is below 1 or names no such layer; or a layer cannot be inflated.
    """
    plan = _Plan(time, stride)
    plan.check(name for name, layer in module_2d.named_modules() if isinstance(layer, _TIMED))
    return _inflated(copy.deepcopy(module_2d), "", plan, {})


def inflate_weight(weight: Tensor, time: int) -> Tensor:
    """Repeat a filter `time` times along time and divide it by `time`.

    (O, I, K, K) -> (O, I, time, K, K), new memory, same dtype and device.
    """
    return weight.detach().unsqueeze(2).repeat(1, 1, time, 1, 1) / time


def inflate_inception(state_dict_2d: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inflate an `InceptionV1` state dict to an `I3D` one (piergiaj's names): K x K filters become K x K x K.

    Args:
        state_dict_2d: Tensors of any width, number of classes and input channels; the head ("logits.*") may be missing.

    Returns:
        New tensors for `I3D.load_state_dict`: all of them, but for a missing head.

    Raises:
        CheckpointError: A tensor is missing, or it is not one of Inception-v1's.
    """
    with torch.device("meta"):
        targets = I3D().state_dict()
    names = {key: key.replace(".conv3d.", ".conv2d.") for key in targets}
    return _inflated_state(state_dict_2d, targets, names, "logits.", "stream_i3d's InceptionV1")


def inflate_resnet50(state_dict_2d: Mapping[str, Tensor], *, variant: Variant = "plain") -> dict[str, Tensor]:
    """Inflate a 2D ResNet-50 state dict (torchvision's names) to a `ResNetI3D` one (MMAction2's names).

    The stem becomes 5 x 7 x 7, the first convolution of the inflated bottlenecks 3 x 1 x 1, all others 1 x K x
    K. A non-local network has blocks that the 2D network does not have: load the result with ``strict=False``.

    Args:
        state_dict_2d: Tensors for any number of classes; the head ("fc.*") may be missing.
        variant: Which bottlenecks are inflated: those of the "plain" or of the "heavy" network.

    Returns:
        New tensors for `ResNetI3D.load_state_dict`: all of them, but for a missing head.

    Raises:
        CheckpointError: A tensor is missing, or it is not one of a ResNet-50.
    """
    with torch.device("meta"):
        targets = ResNetI3D(variant=variant).state_dict()
    names = {key: _torchvision_name(key) for key in targets}
    return _inflated_state(state_dict_2d, targets, names, "cls_head.", "torchvision's resnet50")


def _inflated_state(
    state: Mapping[str, Tensor], targets: Mapping[str, Tensor], names: Mapping[str, str], head: str, source: str
) -> dict[str, Tensor]:
    """Inflate the tensors of `state` to the kernels of `targets`; `names` maps target names to names in `state`."""
    left = dict(state)
    inflated: dict[str, Tensor] = {}
    for key, target in targets.items():
        tensor = left.pop(names[key], None)
        if tensor is None:
            if key.endswith(_COUNTER):
                inflated[key] = torch.zeros((), dtype=torch.int64)
            elif not key.startswith(head):
                raise _another_network(f"has no {names[key]!r}", source)
        elif target.ndim == 5 and tensor.ndim == 4:
            inflated[key] = inflate_weight(tensor, target.shape[2])
        elif tensor.ndim == target.ndim < 5:
            inflated[key] = tensor.detach().clone()
        else:
            raise _another_network(f"has {names[key]!r} of shape {tuple(tensor.shape)}", source)
    if left:
        raise _another_network(f"has {next(iter(left))!r}, which does not belong there", source)
    return inflated


def _torchvision_name(key: str) -> str:
    """Return torchvision's name of a tensor, given MMAction2's."""
    name = key.removeprefix("backbone.").replace("cls_head.fc_cls.", "fc.")
    name = name.replace("downsample.conv.", "downsample.0.").replace("downsample.bn.", "downsample.1.")
    return re.sub(r"conv(\d)\.(conv|bn)\.", r"\2\1.", name)


def _another_network(what: str, source: str) -> CheckpointError:
    return CheckpointError(f"the 2D state dict {what}: give one with the names and shapes of {source}")


@dataclass(frozen=True)
class _Plan:
    """Kernel sizes and stride in time of the inflated layers."""

    times: Times
    stride: int | None

    def check(self, names: Iterable[str]) -> None:
        given = self.times.values() if isinstance(self.times, Mapping) else [1 if self.times is None else self.times]
        if min(given, default=1) < 1 or (self.stride is not None and self.stride < 1):
            raise ConfigError(f"time={self.times!r}, stride={self.stride}: give whole numbers of at least 1")
        if isinstance(self.times, Mapping):
            allowed = list(names)
            for name in self.times:
                if name not in allowed:
                    raise ConfigError(
                        f"time names {name!r}, which is no convolution or pool here{did_you_mean(name, allowed)}: "
                        "give names as named_modules() lists them"
                    )

    def kernel_and_stride(self, name: str, kernel: int, stride: int) -> tuple[int, int]:
        """Return a layer's kernel and stride along time, given those along its height."""
        if isinstance(self.times, Mapping):
            time = self.times.get(name, 1)
        else:
            time = kernel if self.times is None else self.times
        if time == 1:
            return 1, 1
        return time, stride if self.stride is None else self.stride


def _inflated(module: nn.Module, name: str, plan: _Plan, done: dict[nn.Module, nn.Module]) -> nn.Module:
    """Inflate a module in place or by a replacement; a module that is used twice is inflated once."""
    if module in done:
        return done[module]
    make = _MAKERS.get(type(module))  # not its base classes: the forward of a subclass may differ
    if make is not None:
        new = make(module, name, plan)
        new.train(module.training)
    else:
        _check_kept(module, name)
        new = module
        for child_name, child in module._modules.items():
            if child is not None:
                module._modules[child_name] = _inflated(child, f"{name}.{child_name}".lstrip("."), plan, done)
    done[module] = new
    return new


def _convolution(conv: nn.Conv2d, name: str, plan: _Plan) -> nn.Module:
    time, stride = plan.kernel_and_stride(name, conv.kernel_size[0], conv.stride[0])
    padding: str | tuple[int, ...]
    if isinstance(conv.padding, str):
        padding = conv.padding
        if padding == "same" and stride != 1:
            raise ConfigError(f"layer {name!r} has padding='same', which allows no stride={stride}: give stride=1")
    else:
        padding = (time // 2, *conv.padding)
    # On the meta device, because the weights come from the 2D layer.
    new = TimeConv3d(
        conv.in_channels,
        conv.out_channels,
        (time, *conv.kernel_size),  # type: ignore[arg-type]  # torch types the 2D one as any number of numbers
        (stride, *conv.stride),  # type: ignore[arg-type]
        padding,  # type: ignore[arg-type]
        (1, *conv.dilation),  # type: ignore[arg-type]
        conv.groups,
        padding_mode=conv.padding_mode,
        device="meta",
    )
    new.weight = nn.Parameter(inflate_weight(conv.weight, time), requires_grad=conv.weight.requires_grad)
    new.bias = conv.bias
    return new


def _batch_norm(norm: nn.BatchNorm2d, name: str, plan: _Plan) -> nn.Module:
    new = nn.BatchNorm3d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, "meta")
    for key, parameter in norm.named_parameters():
        new.register_parameter(key, parameter)
    for key, buffer in norm.named_buffers():
        new.register_buffer(key, buffer)
    return new


def _max_pool(pool: nn.MaxPool2d, name: str, plan: _Plan) -> nn.Module:
    kernel, stride, padding, dilation = map(_pair, (pool.kernel_size, pool.stride, pool.padding, pool.dilation))
    time, time_stride = plan.kernel_and_stride(name, kernel[0], stride[0])
    return nn.MaxPool3d(
        (time, *kernel),
        (time_stride, *stride),
        (min(padding[0], time // 2), *padding),
        (1, *dilation),
        pool.return_indices,
        pool.ceil_mode,
    )


def _average_pool(pool: nn.AvgPool2d, name: str, plan: _Plan) -> nn.Module:
    kernel, stride, padding = map(_pair, (pool.kernel_size, pool.stride, pool.padding))
    time, time_stride = plan.kernel_and_stride(name, kernel[0], stride[0])
    return nn.AvgPool3d(
        (time, *kernel),
        (time_stride, *stride),
        (min(padding[0], time // 2), *padding),
        pool.ceil_mode,
        pool.count_include_pad,
        None if pool.divisor_override is None else pool.divisor_override * time,
    )


def _adaptive_average_pool(pool: nn.AdaptiveAvgPool2d, name: str, plan: _Plan) -> nn.Module:
    return nn.AdaptiveAvgPool3d((1, *_pair(pool.output_size)))


def _adaptive_max_pool(pool: nn.AdaptiveMaxPool2d, name: str, plan: _Plan) -> nn.Module:
    return nn.AdaptiveMaxPool3d((1, *_pair(pool.output_size)), pool.return_indices)


def _dropout(dropout: nn.Dropout2d, name: str, plan: _Plan) -> nn.Module:
    return nn.Dropout3d(dropout.p, dropout.inplace)


def _inception(network: InceptionV1, name: str, plan: _Plan) -> nn.Module:
    if plan.times is not None or plan.stride is not None:
        raise ConfigError(f"time={plan.times!r}: I3D's kernels are the published cubes; leave time and stride out")
    keep = 1.0 - network.dropout.p
    with torch.device("meta"):
        new = I3D(network.num_classes, network.in_channels, keep, width=network.width)
    new.load_state_dict(inflate_inception(network.state_dict()), assign=True)
    return new


_TIMED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)

_MAKERS: dict[type[nn.Module], Callable[..., nn.Module]] = {
    nn.Conv2d: _convolution,
    nn.BatchNorm2d: _batch_norm,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _adaptive_average_pool,
    nn.AdaptiveMaxPool2d: _adaptive_max_pool,
    nn.Dropout2d: _dropout,
    InceptionV1: _inception,
}


def _check_kept(module: nn.Module, name: str) -> None:
    """Raise ConfigError for a module that would fail, or compute something else, on clips."""
    kind = type(module)
    own_weights = next(module.parameters(recurse=False), None) is not None
    of_torch_by_axes = kind.__module__.startswith("torch.nn.") and kind.__name__.endswith(("1d", "2d"))
    remade = isinstance(module, (*_MAKERS, InceptionTrunk))  # a subclass of what is replaced
    if of_torch_by_axes or remade or (own_weights and kind not in _KEPT_WITH_WEIGHTS):
        can = ", ".join(kind.__name__ for kind in (*_MAKERS, *_KEPT_WITH_WEIGHTS))
        raise ConfigError(f"layer {name!r} is a {kind.__name__}, which cannot be inflated: build the network of {can}")


def _pair(value: int | tuple[int | None, ...] | None) -> tuple[int, int]:
    """Return (height, width) of a setting that torch keeps as one number or two."""
    height, width = value if isinstance(value, tuple) else (value, value)
    return height, width  # type: ignore[return-value]  # None only in adaptive pools, where it is allowed
