"""The streaming-mode cases of bench_engine: every backend, timed and compared."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.config import BackendName, ModelConfig, Precision, WindowConfig
from stream_i3d.errors import DeviceError
from stream_i3d.inference.backends import BACKENDS, load_model
from stream_i3d.inference.engine import LoadedModel, State
from stream_i3d.inference.export.parity import Logits, compare
from stream_i3d.inference.setup import settle_model
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


class StreamingNetwork:
    """A checkpoint in streaming mode on all backends."""

    def __init__(self, checkpoint: str, spec: ModelSpec, folder: Path, streams: int) -> None:
        """Args: `streams`: generated streams for the calibration of int8, with as many steps as an export uses."""
        self.checkpoint, self.spec = checkpoint, spec
        self.models: dict[str, LoadedModel] = {}
        for case, (backend, precision, int8) in CASES.items():
            if not BACKENDS[backend].installed or (int8 and importlib.util.find_spec("nncf") is None):
                continue
            file = self._quantised(folder, streams) if int8 else checkpoint
            config = ModelConfig(checkpoint=file, backend=backend, precision=precision, device="cpu")
            try:
                model = load_model(settle_model(config, WindowConfig(mode="streaming")), "streaming")
            except DeviceError:
                continue  # this machine has not the precision: the case is left out
            self.models[case] = model
            print(f"{Path(file).name}: {model.engine.description}", flush=True)

    def calls(self) -> dict[str, Callable[[], object]]:
        """Return the function for one more step of a warm camera, by case."""
        size = self.spec.preprocessing.crop_size
        chunk = np.random.default_rng(0).integers(0, 256, (STEP_FRAMES, size, size, 3), np.uint8)
        return {case: partial(_step, model, chunk, [None]) for case, model in self.models.items()}

    def accuracy(self, streams: Sequence[Stream]) -> dict[str, tuple[float, float]]:
        """Return the agreement with the fp32 eager network and the largest difference of a probability, by case."""
        from stream_i3d.inference.export.written import own_logits, run_stream

        network, _ = load_checkpoint(self.checkpoint, self.spec)
        spec = structs.replace(self.spec, mode="streaming")
        own = [own_logits(network, spec, stream[None]) for stream in streams]
        found = {}
        for case, model in self.models.items():
            others = [run_stream(model, stream[None])[WARM_UP_STEPS:] for stream in streams]
            parity = compare(own, others, spec.temperature)
            found[case] = round(parity.agreement, 4), round(parity.probability_difference, 5)
        return found

    def _quantised(self, folder: Path, count: int) -> str:
        """Export to int8."""
        from stream_i3d.inference.export.checkpoint import quantise_step
        from stream_i3d.inference.export.step import calibration_items, sample_streams
        from stream_i3d.inference.graphs.conversion import make_program, to_openvino
        from stream_i3d.inference.graphs.file import encode_head, graph_metadata
        from stream_i3d.inference.graphs.openvino_engine import write_ir
        from stream_i3d.models.backbone import head_arrays

        model, spec = load_checkpoint(self.checkpoint, self.spec)
        path = folder / f"{Path(self.checkpoint).stem}-int8-step.xml"
        streams = sample_streams(None, spec, count, lambda what, done, total: None)
        items = calibration_items(model, spec, streams)
        graph = to_openvino(make_program(model, spec.preprocessing, mode="streaming"))
        metadata = graph_metadata(structs.replace(spec, mode="streaming"), encode_head(*head_arrays(model)))
        write_ir(quantise_step(graph, items), metadata, path)
        return str(path)


def held_out_streams(spec: ModelSpec, count: int, seed: int, steps: int = 16) -> list[Stream]:
    """Return scenes outside the packaged model's training set, prepared as in the live path."""
    made, streams = spec.preprocessing, []
    for number in range(count):
        scene = Scene(np.random.default_rng((seed, number)), LABELS[number % len(LABELS)], (320, 240))
        frames = (scene.frame(at / made.sample_fps) for at in range(steps * STEP_FRAMES))
        streams.append(np.stack([prepare_frame(frame, made) for frame in frames]))
    return streams


def _step(model: LoadedModel, chunk: Stream, states: list[State]) -> Logits:
    features, states[:] = model.engine.run(model.engine.prepare([chunk]), states)
    return model.head(features).logits
