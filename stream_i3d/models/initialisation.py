"""Initialisation of networks: He's for training, or none, on the meta device, for loading a checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_RANDOM = (Tensor.normal_, Tensor.uniform_)
"""Methods that fill a tensor with random numbers without calling a function of torch.nn.init."""


def initialise(module: nn.Module) -> None:
    """Initialise the layers of a network for training.

    Convolutions and linear layers get He et al.'s normal initialisation (ICCV 2015, fan-in) and zero biases. BatchNorms
    keep PyTorch's 1 and 0. Heads are initialised afterwards by `head.initialise_head`.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@contextlib.contextmanager
def without_weights() -> Iterator[None]:
    """Build networks in this block on the meta device, without initialisation.

    With the meta device alone, torch would compute what each random initialisation gives, and import sympy and its
    compiler for that: 1 s, 900 modules and 60 MB at every start.
    """
    with torch.device("meta"), _Uninitialised():
        yield


class _Uninitialised(TorchFunctionMode):
    """Skips initialisation functions."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in _RANDOM or getattr(func, "__module__", None) == "torch.nn.init":
            return given.get("tensor", args[0] if args else None)
        return func(*args, **given)
