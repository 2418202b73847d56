"""Keeps bf16 training on the CPU right: one case of oneDNN's weight gradient is wrong, and is avoided here.

Knows no network and no training loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor
from torch.overrides import TorchFunctionMode

Triple = tuple[int, int, int]


def gradient_may_be_wrong(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> bool:
    """Tell whether oneDNN's bf16 weight gradient may go wrong along time: a kernel as long as its input, put twice.

    Seen with torch 2.13.0 (oneDNN 3.12.0, `jit_bf16:avx512_core_bf16`): some taps hold what the memory held before,
    and with a kernel of 7 the process was killed. Strictly longer kernels fail; one of 7 at stride 2 as long as its
    input does too. Sizes in time steps, before padding.
    """
    reach = dilation * (kernel - 1) + 1
    return padding > 0 and reach >= size and (size + 2 * padding - reach) // stride >= 1


class SoundConv3d(TorchFunctionMode):
    """While entered, a 3D convolution on the CPU in such a case pads its input itself, which oneDNN gets right.

    With no padding left to oneDNN no case fails. The result is the same; other convolutions are left alone.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is not F.conv3d:
            return func(*args, **(kwargs or {}))
        return _conv3d(*args, **(kwargs or {}))


def _conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Triple = 1,
    padding: int | Triple | str = 0,
    dilation: int | Triple = 1,
    groups: int = 1,
) -> Tensor:
    if x.device.type == "cpu" and not isinstance(padding, str):
        strides, pads, dilations = _triple(stride), _triple(padding), _triple(dilation)
        if gradient_may_be_wrong(x.shape[-3], weight.shape[2], strides[0], pads[0], dilations[0]):
            x, padding = F.pad(x, (0, 0, 0, 0, pads[0], pads[0])), (0, pads[1], pads[2])
    return F.conv3d(x, weight, bias, stride, padding, dilation, groups)


def _triple(value: int | Triple) -> Triple:
    return (value, value, value) if isinstance(value, int) else (value[0], value[1], value[2])
