"""How a network's weights begin: He's initialisation for training, or no memory at all for loading a checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_RANDOM = (Tensor.normal_, Tensor.uniform_)
"""What draws numbers into a tensor without going by way of a function of torch.nn.init that can be seen here."""


def initialise(module: nn.Module) -> None:
    """Give the layers that a ReLU follows the weights that training starts from.

    He et al.'s normal initialisation (ICCV 2015, fan-in) for convolutions and linear layers, zero biases. BatchNorms
    keep PyTorch's 1 and 0; heads are set afterwards, by head.py.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@contextlib.contextmanager
def without_weights() -> Iterator[None]:
    """Build networks in this block as shapes and names only; their tensors are on the meta device."""
    with torch.device("meta"), _Uninitialised():
        yield


class _Uninitialised(TorchFunctionMode):
    """Leaves tensors as they are where they would be initialised."""

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
