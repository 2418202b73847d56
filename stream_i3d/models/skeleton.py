"""Networks without memory for their weights, built in no time: for their shapes, or to have weights assigned.

On the meta device alone, torch would still work out what each random initialisation gives, and would import sympy and
its compiler for that: measured 1 s, 900 modules and 60 MB at every start. This module does not know networks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_RANDOM = (Tensor.normal_, Tensor.uniform_)
"""What draws numbers into a tensor without going by way of a function of torch.nn.init that can be seen here."""


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
