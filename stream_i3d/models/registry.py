"""The architectures by name: the one place that turns a name and options into a network.

This module does not know checkpoints, labels or preprocessing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from stream_i3d.errors import ConfigError, did_you_mean
from stream_i3d.models.i3d import I3D

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"i3d": I3D}
"""Each takes num_classes, in_channels and width as keywords, among others of its own."""


def build_model(name: str, **options: Any) -> nn.Module:
    """Build the network called `name`, with fresh weights unless its options say otherwise.

    Args:
        name: A key of `ARCHITECTURES`.
        **options: Keyword arguments of that architecture.

    Raises:
        ConfigError: No such architecture or option, or a value outside its range.
    """
    if name not in ARCHITECTURES:
        raise ConfigError(
            f"no architecture {name!r}{did_you_mean(name, ARCHITECTURES)}: give one of {', '.join(ARCHITECTURES)}"
        )
    allowed = inspect.signature(ARCHITECTURES[name]).parameters
    for option in options:
        if option not in allowed:
            raise ConfigError(
                f"architecture {name!r} has no option {option!r}{did_you_mean(option, allowed)}: "
                f"give some of {', '.join(allowed)}"
            )
    return ARCHITECTURES[name](**options)
