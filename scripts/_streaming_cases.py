"""The streaming-mode cases of bench_engine: every backend, timed and compared."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.config import BackendName, ModelConfig, Precision, WindowConfig
from stream_i3d.errors import DeviceError
from stream_i3d.inference.backends import BACKENDS, load_carried_engine
from stream_i3d.inference.export.parity import Logits, compare
from stream_i3d.inference.setup import settle_model
from stream_i3d.inference.stream_engine import StreamEngine
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.spec import ModelSpec
from stream_i3d.models.streaming_plan import STEP_FRAMES, WARM_UP_STEPS
from stream_i3d.preprocess import prepare_frame
from stream_i3d.scenes import LABELS
from stream_i3d.scenes.render import Scene

CASES: dict[str, tuple[BackendName, Precision, bool]] = {  # the last: int8
    "torch-fp32-streaming-8": ("torch", "fp32", False),
    "torch-streaming-8": ("torch", "auto", False),
    "openvino-fp32-streaming-8": ("openvino", "fp32", False),
    "openvino-bf16-streaming-8": ("openvino", "bf16", False),
    "openvino-int8-streaming-8": ("openvino", "auto", True),
}

Stream = NDArray[np.uint8]
"""(T, H, W, 3), T in whole steps."""


class CarriedNetwork:
    """A checkpoint in streaming mode on all backends."""

    def __init__(self, checkpoint: str, spec: ModelSpec, folder: Path, streams: int) -> None:
        """Args: `streams`: generated streams for the calibration of int8, with as many steps as an export uses."""
        self.checkpoint, self.spec = checkpoint, spec
        self.engines: dict[str, StreamEngine] = {}
        for case, (backend, precision, int8) in CASES.items():
            if not BACKENDS[backend].installed or (int8 and importlib.util.find_spec("nncf") is None):
                continue
            file = self._quantised(folder, streams) if int8 else checkpoint
            config = ModelConfig(checkpoint=file, backend=backend, precision=precision, device="cpu")
            try:
                self.engines[case] = load_carried_engine(settle_model(config, WindowConfig(mode="streaming")))
            except DeviceError:
                continue  # this machine has not the precision: the case is left out
            print(f"{Path(file).name}: {self.engines[case].description}", flush=True)

    def calls(self) -> dict[str, Callable[[], object]]:
        """Return the function for one more step of a warm camera, by case."""
        size = self.spec.preprocessing.crop_size
        chunk = np.random.default_rng(0).integers(0, 256, (STEP_FRAMES, size, size, 3), np.uint8)
        return {case: partial(_step, engine, chunk, [None]) for case, engine in self.engines.items()}

    def accuracy(self, streams: Sequence[Stream]) -> dict[str, tuple[float, float]]:
        """Return the agreement with the fp32 eager network and the largest difference of a probability, by case."""
        from stream_i3d.inference.export.step import own_logits

        model, _ = load_checkpoint(self.checkpoint, self.spec)
        own = [own_logits(model, self.spec, stream) for stream in streams]
        found = {}
        for case, engine in self.engines.items():
            parity = compare(own, [_carried(engine, stream) for stream in streams], self.spec.temperature)
            found[case] = round(parity.agreement, 4), round(parity.probability_difference, 5)
        return found

    def _quantised(self, folder: Path, count: int) -> str:
        """Export to int8."""
        from stream_i3d.inference.export.checkpoint import quantise_step
        from stream_i3d.inference.export.step import calibration_items, sample_streams
        from stream_i3d.inference.graphs.conversion import make_program, to_openvino
        from stream_i3d.inference.graphs.openvino_runner import write_ir

        model, spec = load_checkpoint(self.checkpoint, self.spec)
        path = folder / f"{Path(self.checkpoint).stem}-int8-step.xml"
        streams = sample_streams(None, spec, count, lambda what, done, total: None)
        items = calibration_items(model, spec, streams)
        graph = to_openvino(make_program(model, spec.preprocessing, mode="streaming"))
        write_ir(quantise_step(graph, items), structs.replace(spec, mode="streaming"), path)
        return str(path)


def held_out_streams(spec: ModelSpec, count: int, seed: int, steps: int = 16) -> list[Stream]:
    """Return scenes outside the packaged model's training set, prepared as in the live path."""
    made, streams = spec.preprocessing, []
    for number in range(count):
        scene = Scene(np.random.default_rng((seed, number)), LABELS[number % len(LABELS)], (320, 240))
        frames = (scene.frame(at / made.sample_fps) for at in range(steps * STEP_FRAMES))
        streams.append(np.stack([prepare_frame(frame, made) for frame in frames]))
    return streams


def _step(engine: StreamEngine, chunk: Stream, states: list[Any]) -> Logits:
    logits, states[:] = engine.step(engine.prepare([chunk]), states)
    return logits


def _carried(engine: StreamEngine, stream: Stream) -> Logits:
    states: list[Any] = [None]
    rows = [_step(engine, chunk, states) for chunk in np.split(stream, len(stream) // STEP_FRAMES)]
    return np.concatenate(rows[WARM_UP_STEPS:])
