from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stream_i3d.config import ModelConfig, Precision, WindowConfig
from stream_i3d.errors import ConfigError, LabelsError
from stream_i3d.inference.backends import load_model
from stream_i3d.inference.engine import LoadedModel, State, warm_up
from stream_i3d.inference.setup import settle_model
from stream_i3d.inference.torch_engine import cpu_has_bf16
from stream_i3d.models.i3d import I3D
from stream_i3d.models.streaming_plan import WARM_UP_STEPS
from stream_i3d.preprocess import Preprocessing
from stream_i3d.scenes import LABELS
from tests.inference.streams import carried, random_frames, step, whole_clip
from tests.models.conftest import ruled

STREAMING = WindowConfig(mode="streaming")
SMALL = Preprocessing(short_side=40, crop_size=32)
needs_bf16 = pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU has no bf16 in hardware")


def load(checkpoint: Path, precision: Precision = "fp32") -> LoadedModel:
    config = ModelConfig(checkpoint=str(checkpoint), backend="torch", device="cpu", precision=precision)
    return load_model(settle_model(config, STREAMING), "streaming")


def test_in_fp32_it_is_the_whole_clip_network_one_frame_on(tiny_checkpoint: Path) -> None:
    frames = random_frames(12)
    ours = carried(load(tiny_checkpoint), frames)[:, WARM_UP_STEPS:]
    theirs = whole_clip(tiny_checkpoint, frames)[:, : ours.shape[1]]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    assert np.ptp(theirs, axis=1).max() > 1e-3


@needs_bf16
def test_in_bf16_it_is_close(tiny_checkpoint: Path) -> None:
    frames = random_frames(12)
    model = load(tiny_checkpoint, "bf16")
    rough, exact = carried(model, frames), carried(load(tiny_checkpoint), frames)
    assert np.abs(rough - exact)[:, WARM_UP_STEPS:].max() < 0.05 * np.abs(exact).max()
    assert "bf16" in model.engine.description and model.engine.description.endswith("streaming")


def test_cameras_are_batched_in_any_order_and_begin_at_any_time(tiny_checkpoint: Path) -> None:
    model = load(tiny_checkpoint)
    cameras = [random_frames(12, seed) for seed in (1, 2, 3)]
    alone = [carried(model, frames) for frames in cameras]
    states: list[State] = [None, None, None]
    at = [0, 0, 0]
    found: list[list[NDArray[np.float32]]] = [[], [], []]
    for turn in range(16):
        order = [number for number in ((2, 0, 1) if turn % 2 else (1, 2, 0)) if number <= turn < 12 + number]
        chunks = [cameras[number][8 * at[number] : 8 * at[number] + 8] for number in order]
        if not chunks:
            continue
        logits, after = step(model, chunks, [states[number] for number in order])
        for row, number in enumerate(order):
            states[number] = after[row]
            at[number] += 1
            found[number].append(logits[row])
    for ours, theirs in zip(found, alone, strict=True):
        assert len(ours) == 12
        np.testing.assert_allclose(np.stack(ours, axis=1), theirs, rtol=0, atol=1e-5)


def test_a_chunk_may_be_overwritten_once_it_is_prepared(tiny_checkpoint: Path) -> None:
    model, chunk = load(tiny_checkpoint), random_frames(1)
    expected, _ = step(model, [chunk], [None])
    batch = model.engine.prepare([chunk])
    chunk[:] = 0
    assert (model.head(model.engine.run(batch, [None])[0]).logits == expected).all()


def test_warming_up_leaves_no_trace(tiny_checkpoint: Path) -> None:
    frames = random_frames(9)
    warm = load(tiny_checkpoint)
    warm_up(warm.engine, [1, 2])
    np.testing.assert_array_equal(carried(warm, frames), carried(load(tiny_checkpoint), frames))


def test_labels_and_temperature_come_with_the_checkpoint(tiny_checkpoint: Path) -> None:
    head = load(tiny_checkpoint).head
    assert (head.labels, head.temperature) == (tuple(LABELS), 1.0)


# --- what cannot be carried


def foreign(network: I3D, folder: Path) -> Path:
    """A file of another program: it says nothing of itself."""
    path = folder / "other.pt"
    torch.save(ruled(network).state_dict(), path)
    return path


def test_a_foreign_file_is_carried_and_its_classes_are_numbered(tmp_path: Path) -> None:
    model = load(foreign(I3D(3, width=1 / 64), tmp_path))
    assert model.labels == ("class 0", "class 1", "class 2")


def test_a_foreign_file_of_flow_is_told_once_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"other\.pt is i3d of 2 channels: give an i3d checkpoint, or"):
        load(foreign(I3D(3, in_channels=2, width=1 / 64), tmp_path))


def test_labels_of_another_length_are_told(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\n")
    path = foreign(I3D(3, width=1 / 64), tmp_path)
    with pytest.raises(LabelsError):
        load_model(settle_model(ModelConfig(checkpoint=str(path), labels=str(labels)), STREAMING), "streaming")
