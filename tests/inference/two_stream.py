"""Two tiny networks, of RGB and of flow, as checkpoints: for the tests of two streams and of features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import structs

from stream_i3d.models.checkpoint import save_checkpoint
from stream_i3d.models.i3d import I3D
from tests.conftest import TINY
from tests.golden_rule import fill_by_rule


def save_stream(path: Path, channels: int, seed: int, **given: Any) -> Path:
    """Write an I3D of an eighth of the width, filled by the goldens' rule; `given` lies over its spec."""
    spec = structs.replace(TINY, in_channels=channels, **given)
    model = I3D(spec.num_classes, in_channels=channels, width=spec.width)
    model.load_state_dict(fill_by_rule(model.state_dict(), seed))
    save_checkpoint(path, model.eval(), spec)
    return path
