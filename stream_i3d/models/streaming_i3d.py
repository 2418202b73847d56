"""Inception I3D carried along an endless stream: each frame passes through it once, for half a window's work a step.

Windows of 16 frames at stride 8 send every frame through the network twice. Here every layer that looks along time
keeps the last inputs it will need again (its context), is fed the new ones only, and pads nothing; so 8 new frames give
one new step of features, after Hedegaard & Iosifidis, "Continual 3D CNNs" (ECCV 2022). It is not the 16-frame network:
a prediction sees 107 frames, and zeros only where the stream began.

What it equals is derived in streaming_plan.py: fed a stream from its first frame on, in any chunks of whole steps, step
n is step n - 6 of the whole-clip network run on the stream without its first frame. That is exact from n = 6 on, the
padding at the clip's start included: whatever a layer gives before its own step 0 is set to the zero that the
whole-clip network pads there. (Left as it is, it would trouble the six steps after as well.)

Contexts, 31 tensors: the stem's last 5 frames; the last 2 inputs of Conv3d_2c and, in each Mixed module, of the module
itself and of its two 3 x 3 x 3 convolutions; the last 1 of MaxPool3d_4a; the last step's map, which the average pool
puts together with this one's. A Mixed module's 1 x 1 x 1 branch waits one step for the others, so it is run on
the module's inputs one step late, which are at hand. Max-pools look at what a ReLU gave, so their padding is zero too.

This module does not know cameras, frames' order, precision or classes' names: the caller feeds frames in order,
normalises, autocasts and softmaxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from stream_i3d.errors import ConfigError
from stream_i3d.models.arguments import check_clips
from stream_i3d.models.i3d import I3D, MaxPool3dSame
from stream_i3d.models.inception import Mixed
from stream_i3d.models.inception_table import (
    CONVS,
    END_POINTS,
    MIN_SIDE,
    MIXED,
    POOL_SIDES,
    POOLS,
    Triple,
    same_padding,
)
from stream_i3d.models.streaming_plan import LATENESS, POOLED_STEPS, SHIFT_FRAMES, STEP_FRAMES, TIME_LAYERS, Late

_CONTEXT = {layer.name: layer.context for layer in TIME_LAYERS}


class Emitted(NamedTuple):
    """What n steps gave; B cameras. The first steps of a stream mean nothing: see `streaming_plan`.

    Attributes:
        feature_maps: (B, 1024 * width, n, H', W') float32, the mean of Mixed_5c's output over this step and the one
            before; good from step `WARM_UP_STEPS` on, as are the others.
        features: (B, 1024 * width, n) float32, their average over places.
        logits: (B, num_classes, n).
    """

    feature_maps: Tensor
    features: Tensor
    logits: Tensor


@dataclass(frozen=True, slots=True)
class StreamState:
    """What the network remembers of the streams of B cameras, from one step to the next.

    Attributes:
        contexts: Each (B, C, frames, H, W), in the order in which the data passes them.
        steps: How many steps each camera was fed.
    """

    contexts: tuple[Tensor, ...]
    steps: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all contexts."""
        return sum(context.nbytes for context in self.contexts)

    def reset(self, camera: int) -> StreamState:
        """Return a copy in which one camera's stream begins anew, while the others' go on."""
        contexts = tuple(context.clone() for context in self.contexts)
        for context in contexts:
            context[camera] = 0
        return StreamState(contexts, tuple(0 if row == camera else steps for row, steps in enumerate(self.steps)))

    def blank(self) -> StreamState:
        """Return the state of as many cameras before their first frame."""
        return StreamState(tuple(torch.zeros_like(context) for context in self.contexts), (0,) * len(self.steps))

    def split(self) -> list[StreamState]:
        """Return one state per camera. Of several, each gets memory of its own, so that one can be let go alone."""
        if len(self.steps) == 1:
            return [self]
        return [
            StreamState(tuple(context[row : row + 1].clone() for context in self.contexts), (steps,))
            for row, steps in enumerate(self.steps)
        ]


def stack(states: Sequence[StreamState]) -> StreamState:
    """Return the states of several cameras as one, in the given order; they must be of pictures of one size."""
    if len(states) == 1:
        return states[0]
    contexts = zip(*(state.contexts for state in states), strict=True)
    steps = tuple(count for state in states for count in state.steps)
    return StreamState(tuple(torch.cat(rows) for rows in contexts), steps)


class StreamingI3D(nn.Module):
    """An I3D that is fed a stream, some steps of 8 frames at a time.

    Args:
        network: The network whose layers it runs: shared, not copied, and put in eval mode. Its convolutions may have
            their BatchNorms folded in (units without `bn`, or with nn.Identity for it). Other layers may stand in a
            convolution's or a pool's place if they do the same, "same" padding included; these are run on all frames,
            and what their padding reached is left out. The names of the tensors are the network's own.
    """

    def __init__(self, network: I3D) -> None:
        super().__init__()
        self.in_channels, self.num_classes = network.in_channels, network.num_classes
        for name, child in network.named_children():
            self.add_module(name, child)
        self.eval()

    def blank(self, height: int, width: int) -> StreamState:
        """Return the state of one camera of (height, width) frames before its first one; found by a step."""
        after: StreamState = self(torch.zeros(1, self.in_channels, STEP_FRAMES, height, width))[1]
        return after.blank()

    @torch.no_grad()
    def forward(self, frames: Tensor, state: StreamState | None = None) -> tuple[Emitted, StreamState]:
        """Feed each camera's next frames.

        Args:
            frames: (B, in_channels, 8 * n, H, W) float in [-1, 1].
            state: What this returned for the frames before, of the same B cameras; None where all of them begin.

        Returns:
            What the n steps gave; and the state to give with the next frames. `state` itself stays as it was.

        Raises:
            ConfigError: The frames are not a number of whole steps, or do not fit the state.
        """
        pass_, frames = self._begin(frames, state)
        emitted = self.emit(frames, pass_)
        return emitted, pass_.state()

    @torch.no_grad()
    def step(self, frames: Tensor, state: StreamState | None = None) -> tuple[Tensor, StreamState]:
        """Feed each camera's next frames without running the head.

        Returns:
            (B, 1024 * width, n, H', W') float32 feature maps, as in `Emitted`; and the state to give with the next
            frames. Arguments and errors are those of `forward`.
        """
        pass_, frames = self._begin(frames, state)
        maps = self.feature_maps(frames, pass_)
        return maps, pass_.state()

    def _begin(self, frames: Tensor, state: StreamState | None) -> tuple[Pass, Tensor]:
        """Return a pass for the next frames, and the frames as the layers take them."""
        self._check(frames, state)
        begun = (0,) * len(frames) if state is None else state.steps
        pass_ = Pass(None if state is None else state.contexts, begun, frames.shape[2] // STEP_FRAMES)
        return pass_, _without_first_frame(frames, begun)

    def emit(self, frames: Tensor, pass_: Pass) -> Emitted:
        """Run the layers and the head on frames; as `feature_maps`."""
        maps = self.feature_maps(frames, pass_)
        features = _mean_over_places(maps)
        head = cast(nn.Module, self.logits)
        logits = head(features.to(frames.dtype))
        return Emitted(maps, features.flatten(2), logits.flatten(2))

    def feature_maps(self, frames: Tensor, pass_: Pass) -> Tensor:
        """Run the layers on frames (B, in_channels, 8 * n, H, W); `pass_` then has what the next ones need.

        Returns:
            (B, 1024 * width, n, H', W') float32, as in `Emitted`.
        """
        x = frames
        for name in END_POINTS:
            x = self._stage(name, x, pass_)
        last = pass_.extend(x, POOLED_STEPS - 1)
        last = last.to(torch.promote_types(last.dtype, torch.float32))
        return (last[:, :, :-1] + last[:, :, 1:]) / POOLED_STEPS

    def _stage(self, name: str, x: Tensor, pass_: Pass) -> Tensor:
        """Run one end point."""
        stage = self.get_submodule(name)
        if name in MIXED:
            x = _mixed(cast(Mixed, stage), x, pass_)
        elif name in POOLS:
            x = _pool(stage, pass_.extend(x, _CONTEXT.get(name, 0)), *POOLS[name])
        else:
            _, kernel, stride = CONVS[name]
            x = _unit(stage, pass_.extend(x, _CONTEXT.get(name, 0)), kernel, stride)
        pass_.late = LATENESS.get(name, pass_.late)
        return pass_.silence(x)

    def _check(self, frames: Tensor, state: StreamState | None) -> None:
        check_clips(frames.shape, self.in_channels, STEP_FRAMES, MIN_SIDE)
        count = frames.shape[2]
        if count % STEP_FRAMES:
            raise ConfigError(f"{count} frames are no whole steps: give {STEP_FRAMES}, {2 * STEP_FRAMES}, ... of them")
        if state is None:
            return
        cameras, _, _, height, width = state.contexts[0].shape
        if (len(frames), *frames.shape[3:]) != (cameras, height, width):
            raise ConfigError(
                f"frames {tuple(frames.shape)} do not go on with the state of {cameras} cameras of {height} x {width} "
                "pixels: give the same cameras' next frames, or begin anew without a state"
            )


class Pass:
    """One pass through the layers: hands each its context, collects the next ones, and silences what is too early.

    Attributes:
        contexts: What was collected.
        late: When the layer that runs now gives its outputs.
    """

    def __init__(self, contexts: Sequence[Tensor] | None, begun: Sequence[int], fed: int = 1) -> None:
        """Prepare for some steps.

        Args:
            contexts: Of the pass before; None for zeros.
            begun: The steps that each camera had before.
            fed: Steps of this pass.
        """
        self._before = None if contexts is None else iter(contexts)
        self._begun, self._fed = begun, fed
        self.contexts: list[Tensor] = []
        self.late = Late(STEP_FRAMES, SHIFT_FRAMES)

    def extend(self, x: Tensor, frames: int) -> Tensor:
        """(B, C, T, H, W) -> (B, C, frames + T, H, W): what came before in front; its last `frames` are kept."""
        if not frames:
            return x
        before = _zeros(x, frames) if self._before is None else next(self._before)
        whole = torch.cat((before, x), dim=2)
        self.contexts.append(whole[:, :, -frames:].clone())  # a view would keep the whole in memory
        return whole

    def state(self) -> StreamState:
        """Return the state after the pass."""
        return StreamState(tuple(self.contexts), tuple(steps + self._fed for steps in self._begun))

    def silence(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W), changed in place: what comes before the layer's first output becomes zero."""
        for row, steps in enumerate(self._begun):
            early = self.late.delay - steps * self.late.outputs
            if early > 0:
                x[row, :, :early] = 0
        return x


def _mixed(module: Mixed, x: Tensor, pass_: Pass) -> Tensor:
    """(B, in, T, H, W) >= 0 -> (B, out, T, H, W) >= 0, one time step late."""
    whole = pass_.extend(x, 2)
    first = pass_.extend(pass_.silence(_unit(module.b1a, x)), 2)
    second = pass_.extend(pass_.silence(_unit(module.b2a, x)), 2)
    branches = (
        _unit(module.b0, whole[:, :, 1:-1]),  # one step late, as the others are
        _unit(module.b1b, first, 3),
        _unit(module.b2b, second, 3),
        _unit(module.b3b, _pool(module.b3a, whole, (3, 3, 3), (1, 1, 1))),
    )
    return torch.cat(branches, dim=1)


def _unit(unit: nn.Module, x: Tensor, kernel: int = 1, stride: int = 1) -> Tensor:
    """Convolution, BatchNorm where there still is one, ReLU; padded ("same") in space and not in time."""
    convolution = getattr(unit, "conv3d", None)
    if convolution is None:
        return _called(unit, x, kernel, stride)
    padding = kernel // 2 if stride == 1 else 0
    if stride > 1:
        height, width = (same_padding(size, kernel, stride) for size in x.shape[3:])
        x = F.pad(x, (*width, *height))  # F.pad counts axes from the last
    x = F.conv3d(x, convolution.weight, convolution.bias, stride, (0, padding, padding))
    normalise = getattr(unit, "bn", None)
    return F.relu(x if normalise is None else normalise(x), inplace=True)


def _pool(pool: nn.Module, x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Max-pool, padded ("same") in space and not in time; `x` is nowhere negative."""
    if not isinstance(pool, MaxPool3dSame):
        return _called(pool, x, kernel[0], stride[0])
    height, width = (same_padding(x.shape[axis], kernel[axis - 2], stride[axis - 2])[0] for axis in (3, 4))
    return F.max_pool3d(x, kernel, stride, (0, height, width), ceil_mode=True)


def _called(layer: nn.Module, x: Tensor, kernel: int, stride: int) -> Tensor:
    """Run a layer whose parts are not known here and which pads time as well; leave out what its padding reached."""
    count = (x.shape[2] - kernel) // stride + 1
    front = (kernel - stride) // 2  # zeros that it puts before a number of frames that the stride divides
    if more := -x.shape[2] % stride:
        x = F.pad(x, (0, 0, 0, 0, 0, more))
    y: Tensor = layer(x)
    return y[:, :, -(-front // stride) :][:, :, :count]


def _mean_over_places(x: Tensor) -> Tensor:
    """(B, C, T, H, W) float32 -> (B, C, T, 1, 1): the mean of the averages over 7 x 7 windows, or of a smaller map."""
    sides = [min(side, size) for side, size in zip(POOL_SIDES[1:], x.shape[3:], strict=True)]
    if tuple(sides) != x.shape[3:]:
        x = F.avg_pool3d(x, (1, *sides), stride=1)
    return x.mean(dim=(3, 4), keepdim=True)


def _without_first_frame(frames: Tensor, begun: Sequence[int]) -> Tensor:
    """Return the frames with the first one of each stream set to zero, which is what stands before a clip."""
    if all(begun):
        return frames
    frames = frames.clone()
    for row, steps in enumerate(begun):
        if not steps:
            frames[row, :, :SHIFT_FRAMES] = 0
    return frames


def _zeros(x: Tensor, frames: int) -> Tensor:
    """Return zeros like `x`, so many along time, in the same order in memory."""
    shape = (*x.shape[:2], frames, *x.shape[3:])
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last_3d)
    return x.new_zeros(shape).contiguous(memory_format=torch.channels_last_3d if last else torch.contiguous_format)
