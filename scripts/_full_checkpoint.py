"""The published Inception I3D's shapes as a file, for benchmarks: nothing they measure depends on what is in it."""

from __future__ import annotations

from pathlib import Path

import _root  # noqa: F401  so that `tests` is found


def full_checkpoint(folder: Path) -> str:
    """Write 400 classes, filled by the goldens' rule (tests/golden_rule.py); return the file."""
    from stream_i3d.models.checkpoint import save_checkpoint
    from stream_i3d.models.i3d import I3D
    from stream_i3d.models.spec import ModelSpec
    from tests.golden_rule import fill_by_rule

    model, path = I3D(400), folder / "full.safetensors"
    model.load_state_dict(fill_by_rule(model.state_dict(), 1))
    save_checkpoint(path, model.eval(), ModelSpec(num_classes=400))
    return str(path)
