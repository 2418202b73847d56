"""The GPU engine's logic, on a CPU: recordings are plain calls on fixed memory, as CUDA graphs are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stream_i3d.inference.cuda_engine import MAX_GRAPHS, CudaEngine, Graphs, Recording, TensorFunction
from stream_i3d.inference.engine import warm_up
from stream_i3d.inference.torch_engine import TorchEngine
from stream_i3d.models.checkpoint import load_checkpoint

CPU = torch.device("cpu")


class Recorder:
    """Makes recordings as CUDA graphs behave: replays read and write the same memory, and nothing else happens."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.replays = 0

    def __call__(self, function: TensorFunction, example: Tensor) -> Recording:
        self.shapes.append(tuple(example.shape))
        inputs = torch.zeros_like(example)
        outputs = torch.empty_like(function(inputs))

        def replay() -> None:
            self.replays += 1
            outputs.copy_(function(inputs))

        return Recording(inputs, outputs, replay)


def test_a_shape_is_recorded_once_and_replayed_ever_after() -> None:
    record = Recorder()
    graphs = Graphs(lambda x: x * 2, record)
    for value in (1.0, 2.0, 3.0):
        assert graphs(torch.full((2, 3), value)).tolist() == [[2 * value] * 3] * 2
    assert graphs(torch.ones(1, 3)).tolist() == [[2.0] * 3]
    assert record.shapes == [(2, 3), (1, 3)]
    assert record.replays == 4


def test_more_shapes_than_can_be_kept_run_without_a_recording() -> None:
    record = Recorder()
    graphs = Graphs(lambda x: x + 1, record)
    for size in range(1, MAX_GRAPHS + 3):
        assert graphs(torch.zeros(size)).tolist() == [1.0] * size
    assert len(record.shapes) == record.replays == MAX_GRAPHS


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_recorded_network_gives_what_the_eager_one_gives(tiny_checkpoint: Path, precision: str) -> None:
    model, spec = load_checkpoint(tiny_checkpoint)
    record = Recorder()
    eager = TorchEngine(model, spec, CPU, precision)  # type: ignore[arg-type]
    engine = CudaEngine(model, spec, CPU, precision, record=record)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    kept = []
    for count in (1, 2, 1):
        clips = [rng.integers(0, 256, (16, 32, 32, 3), np.uint8) for _ in range(count)]
        wanted = eager.run(eager.prepare(clips), [None] * count)[0]["rgb"]
        batch = engine.prepare(clips)
        for clip in clips:
            clip[:] = 0  # its memory may be overwritten now
        assert (batch.dtype, batch.shape) == (torch.uint8, (count, 16, 32, 32, 3))  # frames go up as they are
        kept.append((engine.run(batch, [None] * count)[0]["rgb"], wanted))
    for maps, wanted in kept:  # also those whose recording was replayed since
        assert (maps.dtype, maps.shape) == (np.float32, wanted.shape)
        np.testing.assert_allclose(maps, wanted, rtol=0, atol=1e-5 if precision == "fp32" else 0.02)
    assert [shape[0] for shape in record.shapes] == [1, 2]
    assert record.replays == 3
    assert engine.description == f"{eager.description}, CUDA graphs"


def test_warming_up_records_each_batch_size(tiny_checkpoint: Path) -> None:
    model, spec = load_checkpoint(tiny_checkpoint)
    record = Recorder()
    engine = CudaEngine(model, spec, CPU, "fp32", record=record)
    warm_up(engine, [1, 2, 3])
    assert [shape[0] for shape in record.shapes] == [1, 2, 3]
