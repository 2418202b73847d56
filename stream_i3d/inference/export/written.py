"""Runs a file that was just written as an engine, and compares it with the network that it was made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream_i3d.inference.engine import Engine, LoadedModel, State
from stream_i3d.inference.export.parity import Logits, Parity, compare
from stream_i3d.inference.export.sample_clips import Clip, Progress
from stream_i3d.inference.graphs.conversion import quiet
from stream_i3d.inference.graphs.engine import Clips, GraphEngine, clip_shape
from stream_i3d.inference.graphs.file import IR, ONNX, TORCH, read_head
from stream_i3d.inference.graphs.onnx_engine import OnnxEngine, on_cpu
from stream_i3d.inference.graphs.openvino_engine import OpenVinoEngine, OpenVinoStepEngine
from stream_i3d.inference.setup import label_names
from stream_i3d.inference.torch_engine import head_of
from stream_i3d.messages import EngineFacts
from stream_i3d.models.i3d import I3D
from stream_i3d.models.spec import ModelSpec
from stream_i3d.models.streaming_i3d import StreamingI3D
from stream_i3d.models.streaming_plan import WARM_UP_STEPS
from stream_i3d.preprocess import normalise
from stream_i3d.recognition.head import Features, PublishedHead

Arrays = list[NDArray[Any]]
Call = Callable[[Arrays], Arrays]


def load_written(path: Path, model: torch.nn.Module, spec: ModelSpec) -> LoadedModel:
    """Return a file as it runs; float32 parts in float32, so that a comparison shows the export alone.

    Args:
        path: OpenVINO IR, ONNX, or a torch.export program that was just written here; of others, see
            `graphs.file.read_graph_spec`.
        model: What it was made of.
        spec: Of the file.
    """
    labels = label_names(None, spec)
    head = head_of(model, spec, labels) if path.suffix == TORCH else read_head(path, spec, labels)
    return LoadedModel(_engine(path, model, spec), PublishedHead({"rgb": head}))


def _engine(path: Path, model: torch.nn.Module, spec: ModelSpec) -> Engine:
    streaming = spec.mode == "streaming"
    if path.suffix == IR:
        return (OpenVinoStepEngine if streaming else OpenVinoEngine)(path, spec, "fp32", 0, None)
    if path.suffix == ONNX and not streaming:
        providers, facts = on_cpu("fp32")
        return OnnxEngine(path, spec, providers, 0, facts)
    call, library, backend = _onnx_call(path) if path.suffix == ONNX else _program_call(path)
    if not streaming:
        return CalledEngine(call, library, backend, spec, [])
    assert isinstance(model, I3D)
    blank = StreamingI3D(model).blank(*spec.preprocessing.usual_frame_size)
    return CalledEngine(call, library, backend, spec, [context.numpy() for context in blank.contexts])


class CalledEngine(GraphEngine):
    """An engine of a graph that is called with arrays; contexts go in and out."""

    def __init__(self, call: Call, library: str, backend: str, spec: ModelSpec, blank: Arrays) -> None:
        """Args: `blank`: the contexts before the first step; empty in window mode."""
        super().__init__(clip_shape(spec))
        self._call, self._blank = call, blank
        self.description = f"{library}, fp32" + (", streaming" if blank else "")
        self.facts = EngineFacts(backend=backend, device="cpu", precision="fp32")

    def run(self, batch: Clips, states: Sequence[State]) -> tuple[Features, list[State]]:
        """Run a batch; see `Engine.run`."""
        if not self._blank:
            return {"rgb": np.asarray(self._call([batch])[0], np.float32)}, [None] * len(states)
        after: list[State] = []
        rows: Arrays = []
        for at, state in enumerate(states):
            steps, before = (0, self._blank) if state is None else state
            maps, *contexts = self._call([batch[at : at + 1], np.array([steps], np.int64), *before])
            rows.append(maps)
            after.append((steps + 1, contexts))
        return {"rgb": np.concatenate(rows).astype(np.float32)}, after


def _onnx_call(path: Path) -> tuple[Call, str, str]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]

    def call(inputs: Arrays) -> Arrays:
        outputs: Arrays = session.run(None, dict(zip(names, inputs, strict=True)))
        return outputs

    return call, f"ONNX Runtime {onnxruntime.__version__}, cpu", "onnxruntime"


def _program_call(path: Path) -> tuple[Call, str, str]:
    with quiet():
        module: Callable[..., torch.Tensor | tuple[torch.Tensor, ...]] = torch.export.load(path).module()

    def call(inputs: Arrays) -> Arrays:
        with torch.no_grad():
            outputs = module(*map(torch.from_numpy, inputs))
        return [output.numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]

    return call, f"torch.export {torch.__version__.split('+')[0]}", "torch"


def compare_written(
    model: torch.nn.Module, spec: ModelSpec, written: LoadedModel, clips: Sequence[Clip], progress: Progress
) -> Parity:
    """Compare a written file with the network itself, in float32.

    Args:
        model: The network.
        spec: Of the file.
        written: The file as it runs.
        clips: Windows, or in streaming mode streams.
        progress: Told of each.
    """
    own: list[Logits] = []
    other: list[Logits] = []
    at_once = 1 if spec.mode == "streaming" else 2  # so that a graph of one clip only would show
    for index in range(0, len(clips), at_once):
        progress("comparing", index, len(clips))
        batch = np.stack(clips[index : index + at_once])
        own.append(own_logits(model, spec, batch))
        other.append(run_stream(written, batch)[-len(own[-1]) :])
    return compare(own, other, spec.temperature)


@torch.inference_mode()
def own_logits(model: torch.nn.Module, spec: ModelSpec, batch: Clips) -> Logits:
    """Return the network's own logits in float32: of each clip, or of each step of one stream that means something."""
    inputs = normalise(torch.from_numpy(batch), spec.preprocessing)
    if spec.mode == "streaming":
        assert isinstance(model, I3D)
        emitted, _ = StreamingI3D(model)(inputs)
        return np.asarray(emitted.logits[0, :, WARM_UP_STEPS:].T.numpy(), np.float32)
    return np.asarray(model(inputs).numpy(), np.float32)


def run_stream(model: LoadedModel, batch: Clips) -> Logits:
    """Return a model's logits of clips, or of all steps of one stream, (rows, num_classes)."""
    frames = model.engine.clip_shape[0]
    states: list[State] = [None] * len(batch)
    rows: list[Logits] = []
    for start in range(0, batch.shape[1], frames):
        prepared = model.engine.prepare(list(batch[:, start : start + frames]))
        features, states = model.engine.run(prepared, states)
        rows.append(model.head(features).logits)
    return np.concatenate(rows)
