"""Logits of a loaded network, as the worker gets them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from stream_i3d.inference.engine import LoadedModel


def logits_of(
    model: LoadedModel, clips: Sequence[NDArray[np.uint8]], device_frames: Sequence[object] = ()
) -> NDArray[np.float32]:
    """Return a model's logits of clips of (T, H, W, C) uint8, (clips, classes); arguments as for `Engine.prepare`."""
    engine = model.engine
    features, _ = engine.run(engine.prepare(clips, device_frames), [None] * len(clips))
    return model.head(features).logits
