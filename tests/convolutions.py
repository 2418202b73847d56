"""Records the convolutions that torch really runs, whatever module or function asked for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Convolution(NamedTuple):
    """One call: time steps of the input, planes of the kernel, and padding left to the library."""

    size: int
    kernel: int
    padding: int


class Convolutions(TorchDispatchMode):
    """While entered, notes every 3D convolution, and those whose gradient is worked out."""

    def __init__(self) -> None:
        super().__init__()
        self.forward: list[Convolution] = []
        self.backward: list[Convolution] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = str(func)
        if name.startswith(("aten.convolution.", "aten.mkldnn_convolution.")) and args[1].ndim == 5:
            padding = args[4] if name.startswith("aten.convolution.") else args[3]
            self.forward.append(Convolution(args[0].shape[2], args[1].shape[2], padding[0]))
        elif name.startswith("aten.convolution_backward.") and args[2].ndim == 5:
            self.backward.append(Convolution(args[1].shape[2], args[2].shape[2], args[5][0]))
        return func(*args, **(kwargs or {}))

    @property
    def wasted(self) -> list[Convolution]:
        """Kernels over time on one time step, padded by the library: all planes but one meet zeros."""
        return [one for one in self.forward + self.backward if one.size == 1 < one.kernel]


def shape_of(row: Any, frames: int, side: int) -> list[tuple[int, ...]]:
    """Return the shapes of two small clips for each input of a row of the registry."""
    return [(2, channels, frames, side, side) for channels, *_ in row.inputs.values()]


def inputs_of(shapes: list[tuple[int, ...]]) -> list[torch.Tensor]:
    """Return inputs of the given shapes, drawn from a fixed seed."""
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(shape, generator=generator) * 2 - 1 for shape in shapes]
