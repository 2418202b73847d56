"""TV-L1 optical flow in PyTorch: batches of pairs, on CPU or CUDA, without gradients.

The flow u minimises the sum over the picture of

    |grad u_x| + |grad u_y| + lambda |current(x + u) - previous(x)|

(Zach, Pock, Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM 2007). From coarse to fine, the
second picture is warped by the current flow and linearised around it. Then u is split into u and v, coupled by
|u - v|^2 / (2 theta), which are solved for in turn: v by a clamped step for each pixel, u by a step on the dual
variable p of the total variation. The parameters are those of the reference implementation (Sanchez, Meinhardt-
Llopis, Facciolo, "TV-L1 Optical Flow Estimation", IPOL 2013), also used by OpenCV. Median filtering of the
flow between warps: Wedel, Pock, Zach, Bischof, Cremers, "An Improved Algorithm for TV-L1 Optical Flow" (2009).

The inner step takes most of the time; it has only 17 operations, on preallocated memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor

from stream_i3d.errors import DeviceError
from stream_i3d.flow.method import Field, Gray, check_shapes

_CHECK_EVERY = 10
"""Inner steps between two convergence checks; a check takes about as long as a step, and synchronises CUDA."""

_CPU_PIXELS = 224 * 224
"""Pixels per batch on a CPU; more do not fit its caches. 8 pairs of 224 x 224 at once took twice as long as one by one;
small pictures are faster in batches."""

_TINY = 1e-6
"""Keeps divisions by the squared gradient finite; it matters only where the gradient, and so the step, is near 0."""


@dataclass(frozen=True, kw_only=True)
class TVL1Settings:
    """Parameters of TV-L1. The defaults are those of IPOL 2013, for pictures in [0, 255].

    Attributes:
        attachment: lambda; a smaller value gives a smoother flow.
        theta: Coupling of u and v; a larger value is looser.
        tau: Step of the dual variable; converges up to 0.25.
        scales: Levels of the pyramid, if the picture is large enough.
        zoom: Size of a level relative to the next finer one.
        warps: Linearisations per level.
        iterations: Inner steps per warp at most.
        epsilon: In pixels; a warp ends when a step changes the flow of every pair of the batch by less (root mean
            square). With 0 all steps are made, and a pair's flow does not depend on the others.
        median: Whether the flow is filtered by a 3 x 3 median before each warp.
    """

    attachment: float = 0.15
    theta: float = 0.3
    tau: float = 0.25
    scales: int = 5
    zoom: float = 0.5
    warps: int = 5
    iterations: int = 30
    epsilon: float = 0.01
    median: bool = False


DEFAULT = TVL1Settings()


class TVL1Flow:
    """TV-L1 for one pair of arrays; a `FlowMethod`. `tvl1` takes batches of tensors."""

    def __init__(self, device: str = "cpu", settings: TVL1Settings = DEFAULT) -> None:
        """Check the device.

        Raises:
            DeviceError: It does not exist.
        """
        try:
            self._device = torch.empty(0, device=device).device
        except (AssertionError, RuntimeError) as error:  # AssertionError: torch was built without CUDA
            raise DeviceError(
                f"device {device!r} is not on this machine; use cpu, or cuda where there is one"
            ) from error
        self._settings = settings

    def __call__(self, previous: Gray, current: Gray) -> Field:
        """Return the flow (see `FlowMethod`)."""
        check_shapes(previous.shape, current.shape)
        pair = torch.from_numpy(np.stack([previous, current])).to(self._device).float()  # (2, H, W)
        flow = tvl1(pair[:1, None], pair[1:, None], self._settings)  # (1, 2, H, W)
        return np.asarray(flow[0].permute(1, 2, 0).contiguous().cpu().numpy(), dtype=np.float32)


@torch.no_grad()
def tvl1(previous: Tensor, current: Tensor, settings: TVL1Settings = DEFAULT) -> Tensor:
    """Return the displacement of each pixel of `previous` in `current`.

    Args:
        previous: (B, 1, H, W) float in [0, 255], on any device.
        current: The next pictures: same shape, dtype and device.
        settings: Parameters.

    Returns:
        (B, 2, H, W) of the same dtype, on the same device: pixels to the right, pixels down.

    Raises:
        ValueError: The shapes differ or are not (B, 1, H, W), or the pictures are too small.
    """
    if previous.shape != current.shape or previous.dim() != 4 or previous.shape[1] != 1 or not len(previous):
        given = f"{tuple(previous.shape)} and {tuple(current.shape)}"
        raise ValueError(f"tvl1 needs two batches of one shape (B, 1, H, W), not {given}")
    check_shapes(tuple(previous.shape[2:]), tuple(current.shape[2:]))
    pairs = torch.cat([previous, current], dim=1)  # (B, 2, H, W)
    together = len(pairs)
    if pairs.device.type == "cpu":
        together = max(1, _CPU_PIXELS // pairs[0, 0].numel())
    return torch.cat([_coarse_to_fine(some, settings) for some in torch.split(pairs, together)])


def _coarse_to_fine(pairs: Tensor, settings: TVL1Settings) -> Tensor:
    """Return the flow (B, 2, H, W) of pairs (B, 2, H, W)."""
    coarsest, *finer = _pyramid(pairs, settings)
    flow = _solve_level(coarsest, torch.zeros_like(coarsest), settings)
    for level in finer:
        flow = _solve_level(level, _resized_flow(flow, level), settings)
    return flow


def _pyramid(pairs: Tensor, settings: TVL1Settings) -> list[Tensor]:
    """Return (B, 2, h, w) from coarse to fine; the last is `pairs` itself."""
    height, width = pairs.shape[2:]
    # IPOL 2013: as many levels as leave the coarsest a diagonal of 16 pixels.
    room = 1 + int(math.log(math.hypot(height, width) / 16) / math.log(1 / settings.zoom))
    levels = [pairs]
    for level in range(1, min(settings.scales, room)):
        size = [max(4, round(side * settings.zoom**level)) for side in (height, width)]
        levels.append(F.interpolate(levels[-1], size, mode="bilinear", antialias=True))
    return levels[::-1]


def _resized_flow(flow: Tensor, like: Tensor) -> Tensor:
    """Return `flow` resized to the size of `like`, in pixels of that size."""
    (height, width), (old_height, old_width) = like.shape[2:], flow.shape[2:]
    ratio = flow.new_tensor([width / old_width, height / old_height]).view(1, 2, 1, 1)
    return F.interpolate(flow, (height, width), mode="bilinear") * ratio


def _solve_level(pairs: Tensor, flow: Tensor, settings: TVL1Settings) -> Tensor:
    """Return the flow (B, 2, h, w) of one level, starting from `flow`, whose memory is reused."""
    previous, current = pairs[:, :1], pairs[:, 1:]
    surface = torch.cat([current, _gradient(current)], dim=1)  # (B, 3, h, w): brightness, its slopes in x and y
    now, other, dual = _Flow(flow), _Flow(torch.empty_like(flow)), _Dual(flow, settings)
    for _ in range(settings.warps):
        if settings.median:
            now.all.copy_(_median3(now.all))
        data = _Data(previous, surface, now.all, settings)
        now, other = _minimise(now, other, data, dual, settings)
    return now.all


def _minimise(now: _Flow, other: _Flow, data: _Data, dual: _Dual, settings: TVL1Settings) -> tuple[_Flow, _Flow]:
    """Make the inner steps of one warp, starting from `now`; the first returned flow is the result.

    The two are exchanged at each step, so that the change of the last step can be measured.
    """
    for step in range(1, settings.iterations + 1):
        data.attract(now, out=other)
        dual.add_divergence(other)
        dual.ascend(other)
        now, other = other, now
        if settings.epsilon and step % _CHECK_EVERY == 0:
            moved = torch.sub(now.all, other.all, out=other.all).square_().sum(dim=1).mean(dim=(1, 2)).amax()
            if float(moved) < settings.epsilon**2:
                break
    return now, other


class _Flow:
    """A flow (B, 2, h, w) with the views that the inner steps use; on coarse levels making a view takes as long as the
    arithmetic."""

    def __init__(self, values: Tensor) -> None:
        self.all = values
        self.x, self.y = values[:, :1], values[:, 1:]
        self.left, self.right = values[..., :-1], values[..., 1:]
        self.above, self.below = values[..., :-1, :], values[..., 1:, :]


class _Data:
    """The data term of one warp.

    With rho(u) = current(x + u0) + <g, u - u0> - previous(x) and g the warped slopes, v is u moved along g by
    -rho / |g|^2, but by no more than lambda theta: one clamp for the three cases of Zach et al., proposition 3.
    """

    def __init__(self, previous: Tensor, surface: Tensor, flow: Tensor, settings: TVL1Settings) -> None:
        warped, inside = _warp(surface, flow)
        # Where the flow leaves the picture there is no data term, and the neighbours decide.
        self._slopes = warped[:, 1:] * inside  # (B, 2, h, w)
        weight = self._slopes.square().sum(dim=1, keepdim=True).clamp_(min=_TINY).reciprocal_().neg_()
        rest = warped[:, :1] - previous - (self._slopes * flow).sum(dim=1, keepdim=True)
        self._offset = rest * weight  # (B, 1, h, w): the step along g is offset + <pull, u>
        pull = self._slopes * weight
        self._pull_x, self._pull_y = pull[:, :1], pull[:, 1:]
        self._limit = settings.attachment * settings.theta
        self._length = rest  # its memory

    def attract(self, flow: _Flow, out: _Flow) -> None:
        """Write v, the minimiser of the data term for `flow`, to `out`."""
        torch.addcmul(self._offset, self._pull_x, flow.x, out=self._length)
        self._length.addcmul_(self._pull_y, flow.y).clamp_(-self._limit, self._limit)
        torch.addcmul(flow.all, self._slopes, self._length, out=out.all)


class _Dual:
    """The dual variable of the total variation, theta p, kept from warp to warp within a level.

    It has an additional zero row above and column to the left, so that the divergence needs no special case for the
    borders; the forward differences are zero in the last row and column for the same reason.
    """

    def __init__(self, like: Tensor, settings: TVL1Settings) -> None:
        batch, channels, height, width = like.shape
        field = like.new_zeros(2, batch, channels, height + 1, width + 1)  # first axis: derived along x, along y
        self._p = field[..., 1:, 1:]
        self._p_x, self._p_x_left = field[0, ..., 1:, 1:], field[0, ..., 1:, :-1]
        self._p_y, self._p_y_above = field[1, ..., 1:, 1:], field[1, ..., :-1, 1:]
        self._slope = like.new_zeros(2, batch, channels, height, width)
        self._slope_x, self._slope_y = self._slope
        self._x_steps, self._y_steps = self._slope_x[..., :-1], self._slope_y[..., :-1, :]
        self._shrink = torch.empty_like(like)
        self._one = like.new_ones(())
        self._tau, self._theta = settings.tau, settings.theta

    def add_divergence(self, flow: _Flow) -> None:
        """Add theta div p to `flow`, in place: u from v."""
        flow.all.add_(self._p_x).sub_(self._p_x_left).add_(self._p_y).sub_(self._p_y_above)

    def ascend(self, flow: _Flow) -> None:
        """Step along the slopes g of `flow`, and back towards |p| <= 1: (p + tau g) / (1 + tau / theta |g|)."""
        torch.sub(flow.right, flow.left, out=self._x_steps)
        torch.sub(flow.below, flow.above, out=self._y_steps)
        torch.mul(self._slope_x, self._slope_x, out=self._shrink).addcmul_(self._slope_y, self._slope_y).sqrt_()
        torch.add(self._one, self._shrink, alpha=self._tau / self._theta, out=self._shrink).reciprocal_()
        self._p.add_(self._slope, alpha=self._tau).mul_(self._shrink)


def _warp(surface: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Return `surface` (B, C, h, w) read at x + flow, and (B, 1, h, w) 1.0 where that is inside the picture."""
    height, width = flow.shape[2:]
    x = torch.arange(width, device=flow.device, dtype=flow.dtype) + flow[:, 0]
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None] + flow[:, 1]
    grid = torch.stack([x * (2 / (width - 1)) - 1, y * (2 / (height - 1)) - 1], dim=-1)  # (B, h, w, 2) in [-1, 1]
    inside = ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).to(flow.dtype)
    # Bicubic as published; bilinear would blur only the second picture between pixels.
    return F.grid_sample(surface, grid, mode="bicubic", padding_mode="border", align_corners=True), inside[:, None]


def _gradient(image: Tensor) -> Tensor:
    """Return central differences (B, 2, h, w) of (B, 1, h, w), along x and along y; half as much at the borders."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    along_x = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    along_y = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return torch.cat([along_x, along_y], dim=1) * 0.5


def _median3(flow: Tensor) -> Tensor:
    """Return the 3 x 3 median of each channel, borders repeated.

    Sorted columns first: the median of nine is the median of the largest low, the middle middle and the smallest high
    of three sorted columns. This takes 18 elementwise operations; `Tensor.median` over 9 copies is many times slower.
    """
    padded = F.pad(flow, (1, 1, 1, 1), mode="replicate")
    above, here, below = padded[..., :-2, :], padded[..., 1:-1, :], padded[..., 2:, :]
    low, high = torch.minimum(above, here), torch.maximum(above, here)
    middle = torch.maximum(low, torch.minimum(high, below))
    low, high = torch.minimum(low, below), torch.maximum(high, below)
    lows = torch.maximum(torch.maximum(low[..., :-2], low[..., 1:-1]), low[..., 2:])
    highs = torch.minimum(torch.minimum(high[..., :-2], high[..., 1:-1]), high[..., 2:])
    middles = _median_of_3(middle[..., :-2], middle[..., 1:-1], middle[..., 2:])
    return _median_of_3(lows, middles, highs)


def _median_of_3(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))
