"""The check of engines when they are loaded, on fakes: what is taken, what is said, which batches are allowed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from stream_i3d.errors import CheckpointError
from stream_i3d.inference.engine import LoadedModel
from stream_i3d.inference.ring import HostMemory, RingShape
from stream_i3d.inference.selfcheck.checked import load_checked, make_self_check, run_clips
from stream_i3d.inference.selfcheck.clips import CHECK_STEPS, stream_clip, window_clips
from stream_i3d.inference.selfcheck.comparison import Attempt, attempts
from stream_i3d.inference.worker.process import Batches
from stream_i3d.messages import EngineFacts
from stream_i3d.recognition.head import Features
from stream_i3d.stage import EngineCheck, RejectedEngine
from tests.inference.fakes import as_features, plain_head

FIRST = Attempt(backend="openvino", precision="bf16", device="cpu")
WAYS = attempts(FIRST, ["torch"])
CLIPS = window_clips(8, (32, 32), 3)

Spoil = Callable[[Attempt, NDArray[np.float32], int], None]


class Fake:
    """An engine whose features are four means of a clip; `spoil` changes a batch's rows.

    In streaming mode they grow with the steps that a camera has had.
    """

    clip_shape = (8, 32, 32, 3)

    def __init__(
        self, way: Attempt = FIRST, spoil: Spoil = lambda way, rows, size: None, streaming: bool = False
    ) -> None:
        self.way, self.spoil, self.streaming = way, spoil, streaming
        self.description = str(way)
        self.facts = EngineFacts(backend=way.backend, device=way.device, precision=way.precision)
        self.ran: list[int] = []

    @property
    def model(self) -> LoadedModel:
        return LoadedModel(self, plain_head(("a", "b", "c", "d")))

    def make_ring(self, shape: RingShape) -> HostMemory:
        return HostMemory(shape)

    def prepare(self, clips: Sequence[NDArray[np.uint8]], device_frames: Sequence[object] = ()) -> NDArray[np.uint8]:
        return np.stack(clips)

    def run(self, batch: NDArray[np.uint8], states: Sequence[Any]) -> tuple[Features, list[Any]]:
        rows = self.logits(batch)
        if not self.streaming:
            return as_features(rows), [None] * len(states)
        after = [(state or 0) + 1 for state in states]
        return as_features(rows + np.array(after, np.float32)[:, None] * np.arange(4, dtype=np.float32)), after

    def logits(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.ran.append(len(batch))
        quarters = batch.reshape(len(batch), 4, -1).astype(np.float32)
        rows = quarters.mean(axis=2) / 16
        self.spoil(self.way, rows, len(batch))
        return rows


class Loaded(NamedTuple):
    """What was loaded, and what was found on the way."""

    model: LoadedModel
    engine: Fake
    facts: EngineCheck


def load(spoil: Spoil, loaded: list[Attempt] | None = None) -> Loaded:
    reference = run_clips(Fake().model, CLIPS)
    engines: list[Fake] = []

    def make(way: Attempt) -> LoadedModel:
        if loaded is not None:
            loaded.append(way)
        engines.append(Fake(way, spoil))
        return engines[-1].model

    model = load_checked("x.pt", WAYS, make, lambda model, way: make_self_check(model, way, CLIPS, reference))
    assert model.check is not None
    assert model.engine is engines[-1]
    return Loaded(model, engines[-1], model.check.facts)


def not_a_number(precision: str, backend: str = "openvino") -> Spoil:
    def spoil(way: Attempt, rows: NDArray[np.float32], size: int) -> None:
        if (way.backend, way.precision) == (backend, precision):
            rows[-1, 0] = np.nan

    return spoil


def wrong(*backends: str) -> Spoil:
    def spoil(way: Attempt, rows: NDArray[np.float32], size: int) -> None:
        if way.backend in backends:
            rows[:] = rows[:, ::-1].copy()

    return spoil


def test_an_engine_that_agrees_is_taken_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    loaded: list[Attempt] = []
    _, engine, facts = load(lambda way, rows, size: None, loaded)
    assert loaded == [FIRST]
    assert (facts.backend, facts.precision, facts.compared, facts.difference) == ("openvino", "bf16", True, 0.0)
    assert facts.rejected == []
    assert caplog.records == []
    assert engine.ran == [1, 1]  # each clip once


def test_an_output_that_is_not_finite_makes_the_same_backend_run_in_fp32(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _, engine, facts = load(not_a_number("bf16"))
    assert engine.way == Attempt(backend="openvino", precision="fp32", device="cpu")
    assert facts == EngineCheck(
        backend="openvino",
        precision="fp32",
        device="cpu",
        compared=True,
        difference=0.0,
        logits_difference=0.0,
        tolerance=0.01,
        rejected=[RejectedEngine(backend="openvino", precision="bf16", device="cpu", finite=False)],
    )
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "the engine of choice fails its self-check (openvino bf16 on cpu: its output is not finite): "
        "using openvino fp32 on cpu instead"
    )


def test_a_backend_that_is_wrong_in_every_precision_gives_way_to_torch(caplog: pytest.LogCaptureFixture) -> None:
    _, engine, facts = load(wrong("openvino"))
    assert engine.way == Attempt(backend="torch", precision="fp32", device="cpu")
    first, second = facts.rejected
    assert (first.precision, second.precision) == ("bf16", "fp32")
    assert first.finite
    assert first.difference is not None
    assert first.difference > 0.1
    [record] = caplog.records
    assert "largest difference of a probability" in record.getMessage()


def test_where_nothing_agrees_there_is_one_error() -> None:
    with pytest.raises(
        CheckpointError, match=r"^no engine runs x.pt as float32 does \(openvino bf16 on cpu: .*torch fp32"
    ):
        load(wrong("openvino", "torch"))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_batch_size_that_gives_wrong_numbers_is_not_used(size: int, caplog: pytest.LogCaptureFixture) -> None:
    def spoil(way: Attempt, rows: NDArray[np.float32], at: int) -> None:
        if at > size:
            rows[-1] = 0

    model, engine, _ = load(spoil)
    batches = Batches(model, lambda model, cameras: 8, 8)
    assert batches.limit == size
    assert f"batches of {size + 1} windows fail the self-check" in caplog.text
    batches.warm_for(20)  # more cameras do not have it tried again
    assert batches.limit == size
    assert max(engine.ran) == size + 1


def test_all_batch_sizes_are_warm_once_they_were_checked() -> None:
    model, engine, _ = load(lambda way, rows, size: None)
    batches = Batches(model, lambda model, cameras: 4, 8)
    assert batches.limit == 4
    assert sorted(set(engine.ran)) == [1, 2, 3, 4]


@pytest.mark.parametrize("size", [1, 3])
def test_a_carried_engine_is_checked_over_several_steps(size: int) -> None:
    stream = stream_clip((32, 32), 3)
    reference = run_clips(Fake(streaming=True).model, [stream])
    assert reference.shape == (CHECK_STEPS, 4)
    check = make_self_check(Fake(streaming=True).model, FIRST, [stream], reference)
    assert check.passes(size)

    class Forgetful(Fake):
        def run(self, batch: NDArray[np.uint8], states: Sequence[Any]) -> tuple[Features, list[Any]]:
            return super().run(batch, [None] * len(states))

    again = make_self_check(Forgetful(streaming=True).model, FIRST, [stream], reference)
    assert not again.passes(size)


def test_the_clips_are_fixed_and_no_two_frames_alike() -> None:
    first, second = window_clips(16, (80, 80), 3)
    assert first.shape == (16, 80, 80, 3)
    np.testing.assert_array_equal(first, window_clips(16, (80, 80), 3)[0])
    assert np.abs(first.astype(int) - second).mean() > 10
    for clip in (first, second, stream_clip((80, 80), 3)):
        assert clip.std() > 20
        assert all(np.abs(np.diff(clip.astype(int), axis=0)).mean(axis=(1, 2, 3)) > 0.5)
    assert len(window_clips(64, (32, 32), 2)) == 1
