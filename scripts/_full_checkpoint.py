"""A checkpoint with the shapes of the published Inception I3D and generated weights, for benchmarks of speed."""

from __future__ import annotations

from pathlib import Path

import _root  # noqa: F401  so that `tests` is found


def full_checkpoint(folder: Path) -> str:
    """Write a checkpoint of 400 classes with generated weights (tests/golden_rule.py); return the file."""
    from stream_i3d.models.checkpoint import save_checkpoint
    from stream_i3d.models.i3d import I3D
    from stream_i3d.models.spec import ModelSpec
    from tests.golden_rule import fill_by_rule

    model, path = I3D(400), folder / "full.safetensors"
    model.load_state_dict(fill_by_rule(model.state_dict(), 1))
    save_checkpoint(path, model.eval(), ModelSpec(num_classes=400))
    return str(path)
