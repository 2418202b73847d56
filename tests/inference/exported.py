"""One tiny network in every format, exported once for all tests, and the clips and logits to compare with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stream_i3d.inference.engine import LoadedModel
from stream_i3d.inference.graphs.conversion import make_program, write_graph
from stream_i3d.inference.graphs.file import encode_head, graph_metadata
from stream_i3d.models.backbone import head_arrays
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.preprocess import normalise


def clips_of(count: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Noise, (16, 32, 32, 3) uint8."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (16, 32, 32, 3), np.uint8) for _ in range(count)]


def plain_logits(checkpoint: Path, clips: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """What the network itself says, eager, in float32."""
    model, spec = load_checkpoint(checkpoint)
    with torch.no_grad():
        logits: NDArray[np.float32] = model(normalise(torch.from_numpy(np.stack(clips)), spec.preprocessing)).numpy()
    return logits


def logits_of(model: LoadedModel, clips: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """What a loaded model says of clips of its length."""
    features, _ = model.engine.run(model.engine.prepare(clips), [None] * len(clips))
    return model.head(features).logits


def export_to(checkpoint: Path, path: Path) -> Path:
    """Write the checkpoint as what the name says."""
    model, spec = load_checkpoint(checkpoint)
    metadata = graph_metadata(spec, encode_head(*head_arrays(model)))
    write_graph(make_program(model, spec.preprocessing, spec.in_channels), metadata, path)
    return path
