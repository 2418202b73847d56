"""3D convolution that computes only the planes of its kernel that meet a frame of a short clip.

Of a kernel of 3 time steps over ONE step, padded by one on each side, the outer two planes meet only zeros. Running
the middle plane alone, as a kernel of (1, 3, 3), gives the same numbers for a third of the work. It also keeps such
calls away from oneDNN, whose bfloat16 convolutions with a kernel over time read stale memory there (seen with torch
2.13.0, oneDNN 3.12.0, on CPUs with AMX and AVX512-BF16; see docs/decisions.md).

Every convolution over time in `stream_i3d.models` is a `TimeConv3d`, in training, inference and exported graphs. Its
tensors have the names and shapes of those of `nn.Conv3d`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn


def single_step_planes(kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> tuple[int | None, ...]:
    """Return the kernel plane that each output uses if the input has one time step.

    Args:
        kernel: Kernel size along time.
        stride: Stride along time.
        padding: Zeros before and after the step.
        dilation: Dilation along time.

    Returns:
        For each output step the plane that meets the input's only step; None if all planes meet padding. Empty if the
        padded input is shorter than the kernel.
    """
    outputs = (1 + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    offsets = [padding - output * stride for output in range(max(0, outputs))]
    return tuple(
        offset // dilation if 0 <= offset <= dilation * (kernel - 1) and offset % dilation == 0 else None
        for offset in offsets
    )


def gradient_needs_padding(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> bool:
    """Return whether oneDNN's bfloat16 weight gradient may be wrong along time unless the input is padded first.

    Seen with torch 2.13.0 (oneDNN 3.12.0) for kernels at least as long as the input and with several outputs: the
    gradients of some planes are stale memory. They are right if oneDNN does not pad.

    Args:
        size: Time steps of the input, without padding; the rest as in `single_step_planes`.
    """
    reach = dilation * (kernel - 1) + 1
    return padding > 0 and reach >= size and (size + 2 * padding - reach) // stride >= 1


class TimeConv3d(nn.Conv3d):
    """`nn.Conv3d` that computes only the planes of its kernel that meet a frame.

    An input of one time step is convolved with the one plane that meets it. If the weights get a gradient on a CPU in
    half precision, short inputs are padded before the convolution. The results are those of `nn.Conv3d`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) -> (B, out, T', H', W'), as `nn.Conv3d`."""
        kernel, stride, dilation = self.kernel_size[0], self.stride[0], self.dilation[0]
        if kernel == 1 or x.ndim != 5 or self.padding_mode != "zeros" or self.padding == "valid":
            return super().forward(x)
        if isinstance(self.padding, str):
            return self._same(x)
        padding = int(self.padding[0])
        if x.shape[2] == 1 and (planes := single_step_planes(kernel, stride, padding, dilation)):
            return self._planes(x, planes)
        if self._learns_in_half(x) and gradient_needs_padding(x.shape[2], kernel, stride, padding, dilation):
            x = F.pad(x, (0, 0, 0, 0, padding, padding))
            return F.conv3d(x, self.weight, self.bias, self.stride, (0, *self.padding[1:]), self.dilation, self.groups)
        return super().forward(x)

    def _same(self, x: Tensor) -> Tensor:
        """Run a convolution with padding="same", whose stride is 1."""
        if x.shape[2] > 1:
            return super().forward(x)
        # As in torch, an even kernel has one more zero behind than before, so the plane is rounded down.
        plane = (self.kernel_size[0] - 1) * self.dilation[0] // 2
        if plane % self.dilation[0]:
            return super().forward(x)
        return self._plane(x, plane // self.dilation[0])

    def _planes(self, x: Tensor, planes: tuple[int | None, ...]) -> Tensor:
        """(B, in, 1, H, W) -> (B, out, len(planes), H', W')."""
        met = {plane: self._plane(x, plane) for plane in dict.fromkeys(planes) if plane is not None}
        if len(planes) == 1 and planes[0] is not None:
            return met[planes[0]]
        example = next(iter(met.values())) if met else self._plane(x, 0)
        padding_only = torch.zeros_like(example)
        if self.bias is not None:
            padding_only = padding_only + self.bias.to(example.dtype).view(1, -1, 1, 1, 1)
        return torch.cat([padding_only if plane is None else met[plane] for plane in planes], dim=2)

    def _plane(self, x: Tensor, plane: int) -> Tensor:
        """Convolve a single time step with one plane of the kernel."""
        weight = self.weight[:, :, plane : plane + 1]
        padding = self.padding if isinstance(self.padding, str) else (0, *self.padding[1:])
        return F.conv3d(x, weight, self.bias, (1, *self.stride[1:]), padding, (1, *self.dilation[1:]), self.groups)

    def _learns_in_half(self, x: Tensor) -> bool:
        """Return whether a backward pass to these weights will run on a CPU in half precision."""
        if x.device.type != "cpu" or not (torch.is_grad_enabled() and self.weight.requires_grad):
            return False
        return x.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
