"""The table of architectures that `stream-i3d models` shows, and the cost of a network in parameters and FLOPs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from msgspec import Struct
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stream_i3d.models.registry import ARCHITECTURES, Architecture, Result, build_model, find_architecture
from stream_i3d.models.spec import CARRIED_CHECKPOINT, read_spec
from stream_i3d.models.zoo import downloaded_weights


class Row(Struct, frozen=True, kw_only=True):
    """One architecture.

    Attributes:
        name: Name for `build_model` and `--model`.
        paper: The paper that describes it.
        inputs: Shape (C, T, H, W) of each input by the stream's name.
        frame_interval: Distance of a clip's frames.
        parameters: Number of parameters with the default number of classes.
        gflops: 1e9 floating-point operations for one input; a multiply-add counts as two.
        weights_at_hand: Names of the checkpoints on this machine.
        results: Published accuracies, the one to compare with first.
        source: Where its weights or its code were published.
    """

    name: str
    paper: str
    inputs: dict[str, tuple[int, ...]]
    frame_interval: int
    parameters: int
    gflops: float
    weights_at_hand: tuple[str, ...]
    results: tuple[Result, ...]
    source: str

    def cells(self) -> tuple[str, ...]:
        """Return the columns of the table: name, input, parameters, GFLOPs, weights, accuracy, source."""
        gap = f", every {_ordinal(self.frame_interval)} frame" if self.frame_interval > 1 else ""
        inputs = "\n".join(f"{stream} {'x'.join(map(str, shape[1:]))}{gap}" for stream, shape in self.inputs.items())
        return (
            self.name,
            inputs,
            f"{self.parameters / 1e6:.1f}",
            f"{self.gflops:.1f}",
            "\n".join(self.weights_at_hand) or "-",
            "\n".join(_accuracy(result) for result in self.results) or "-",
            "\n".join(dict.fromkeys(result.source for result in self.results)) or self.source or self.paper,
        )


def overview() -> list[Row]:
    """Return a row per architecture, in the order of the registry; costs are counted on the meta device."""
    return [_row(architecture) for architecture in ARCHITECTURES.values()]


def _row(architecture: Architecture) -> Row:
    parameters, flops = architecture_cost(architecture.name)
    carried = read_spec(CARRIED_CHECKPOINT)
    own = (CARRIED_CHECKPOINT,) if carried is not None and carried.architecture == architecture.name else ()
    return Row(
        name=architecture.name,
        paper=architecture.paper,
        inputs=architecture.inputs,
        frame_interval=architecture.frame_interval,
        parameters=parameters,
        gflops=round(flops / 1e9, 1),
        weights_at_hand=(*own, *downloaded_weights(architecture.name)),
        results=architecture.results,
        source=architecture.source,
    )


def _accuracy(result: Result) -> str:
    top5 = "-" if result.top5 is None else f"{result.top5:g}"
    sampling = "" if result.sampling in ("uniform", "whole") else f" {result.sampling}"
    return f"{result.top1:g} / {top5}{sampling}"


def _ordinal(number: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(number, f"{number}th")


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters of a network, without BatchNorm's running statistics."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_flops(model: nn.Module, *shapes: Sequence[int]) -> int:
    """Return the floating-point operations of one forward pass; a multiply-add counts as two.

    Convolutions, linear layers and matrix products are counted, as in the literature; BatchNorm, pooling and
    activations are not (less than one per cent here). Nothing is computed for a network on the meta device.

    Args:
        model: The network, on any device; its mode and weights are not changed.
        *shapes: Shape of each input, with the batch: (B, C, T, H, W).

    Raises:
        ConfigError: The network does not take such inputs.
    """
    device = next(model.parameters()).device
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()  # in training mode BatchNorm would update its statistics
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model(*(torch.zeros(tuple(shape), device=device) for shape in shapes))
    finally:
        for module, training in modes.items():
            module.training = training
    total: int = counter.get_total_flops()
    return total


@cache
def architecture_cost(name: str) -> tuple[int, int]:
    """Return an architecture's number of parameters and floating-point operations for one input.

    Raises:
        ConfigError: There is no architecture of that name.
    """
    with torch.device("meta"):
        model = build_model(name)
    shapes = [(1, *shape) for shape in find_architecture(name).inputs.values()]
    return count_parameters(model), count_flops(model, *shapes)
