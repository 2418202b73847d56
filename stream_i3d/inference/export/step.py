"""Streaming mode's part of an export: streams in place of clips, steps to calibrate on, and the comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.inference.export.parity import Logits, Parity, compare
from stream_i3d.inference.export.sample_clips import Clip, Progress, generated_streams, video_clips
from stream_i3d.inference.graphs.conversion import quiet
from stream_i3d.inference.graphs.engine import Clips
from stream_i3d.inference.graphs.file import IR, ONNX
from stream_i3d.inference.graphs.openvino_stepper import OpenVinoStepper
from stream_i3d.inference.graphs.stream_engine import CONTEXT, FRAMES, STEPS, Stepper
from stream_i3d.messages import EngineFacts
from stream_i3d.models.i3d import I3D
from stream_i3d.models.spec import ModelSpec
from stream_i3d.models.streaming_i3d import StreamingI3D
from stream_i3d.models.streaming_plan import STEP_FRAMES, WARM_UP_STEPS
from stream_i3d.preprocess import normalise

STREAM_STEPS = 16
"""Of a stream to calibrate or to compare on: 128 frames, and 9 predictions."""

CALIBRATION_STEPS, CALIBRATION_BYTES = 300, 2**30
"""As many as clips in window mode, or fewer: their contexts are kept in memory, 17 MB each at full size."""

Item = dict[str, NDArray[Any]]


def sample_streams(folder: Path | None, spec: ModelSpec, count: int, progress: Progress) -> list[Clip]:
    """Return streams of `STREAM_STEPS` steps of the videos in a folder, or generated ones; (T, H, W, 3) uint8.

    Raises:
        ConfigError: There is no such folder, or no video in it that is long enough.
    """
    frames = STREAM_STEPS * STEP_FRAMES
    if folder is None:
        return generated_streams(spec, count, frames, progress)
    made = structs.replace(spec.preprocessing, clip_len=frames)
    return video_clips(folder, structs.replace(spec, preprocessing=made), count, progress)


def calibration_items(model: torch.nn.Module, spec: ModelSpec, streams: Sequence[Clip]) -> list[Item]:
    """Return the inputs of some steps of streams, with the contexts that the network has there.

    Of each stream as many, drawn from all of its length, so that warm streams and beginning ones count.
    """
    assert isinstance(model, I3D)
    network = StreamingI3D(model)
    blank = network.blank(spec.preprocessing.crop_size)
    most = max(len(streams), min(CALIBRATION_STEPS, CALIBRATION_BYTES // blank.nbytes))
    items: list[Item] = []
    rng = np.random.default_rng(0)
    for stream in streams:
        state = blank
        chunks = np.split(stream, len(stream) // STEP_FRAMES)
        wanted = rng.choice(len(chunks), min(len(chunks), most // len(streams)), replace=False).tolist()
        for number, chunk in enumerate(chunks):
            if number in wanted:
                contexts = {CONTEXT.format(at): context.numpy() for at, context in enumerate(state.contexts)}
                items.append({FRAMES: chunk[None], STEPS: np.array([number], np.int64), **contexts})
            _, state = network(normalise(torch.from_numpy(chunk[None]), spec.preprocessing), state)
    return items


def make_stepper(path: Path, model: torch.nn.Module, spec: ModelSpec) -> Stepper:
    """Return what carries an exported file along; float32 parts in float32."""
    if path.suffix == IR:
        return OpenVinoStepper(path, spec, "fp32", 0, None)
    return _FileStepper(path, model, spec)


class _FileStepper:
    """Runs a step that was just written here as ONNX or by torch.export; contexts go in and out."""

    int8 = False

    def __init__(self, path: Path, model: torch.nn.Module, spec: ModelSpec) -> None:
        assert isinstance(model, I3D)
        blank = StreamingI3D(model).blank(spec.preprocessing.crop_size)
        self._blank = [context.numpy() for context in blank.contexts]
        make = _onnx_call if path.suffix == ONNX else _program_call
        self._call, self.description = make(path)
        self.facts = EngineFacts(
            backend="onnxruntime" if path.suffix == ONNX else "torch", device="cpu", precision="fp32"
        )

    def begin(self) -> list[Any]:
        """Return the number of steps, and the contexts."""
        return [0, *self._blank]

    def __call__(self, frames: Clips, memory: list[Any]) -> NDArray[np.float32]:
        """(1, 8, H, W, 3) uint8 -> (num_classes,) float32."""
        logits, *contexts = self._call([frames, np.array(memory[:1], np.int64), *memory[1:]])
        memory[:] = [memory[0] + 1, *contexts]
        return np.asarray(logits[0], np.float32)


Call = Callable[[list[NDArray[Any]]], list[NDArray[Any]]]


def _onnx_call(path: Path) -> tuple[Call, str]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]

    def call(inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        outputs: list[NDArray[Any]] = session.run(None, dict(zip(names, inputs, strict=True)))
        return outputs

    return call, f"ONNX Runtime {onnxruntime.__version__}, cpu, fp32"


def _program_call(path: Path) -> tuple[Call, str]:
    with quiet():
        module: Callable[..., tuple[torch.Tensor, ...]] = torch.export.load(path).module()

    def call(inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        with torch.no_grad():
            return [output.numpy() for output in module(*map(torch.from_numpy, inputs))]

    return call, f"torch.export {torch.__version__.split('+')[0]}, fp32"


def carried_logits(stepper: Stepper, stream: Clip) -> Logits:
    """Return what a stepper says of each step of a stream that means something, (steps, num_classes)."""
    memory = stepper.begin()
    rows = [stepper(chunk[None], memory) for chunk in np.split(stream, len(stream) // STEP_FRAMES)]
    return np.stack(rows[WARM_UP_STEPS:])


def own_logits(model: torch.nn.Module, spec: ModelSpec, stream: Clip) -> Logits:
    """Return what the network itself says of each step that means something, in float32."""
    assert isinstance(model, I3D)
    emitted, _ = StreamingI3D(model)(normalise(torch.from_numpy(stream[None]), spec.preprocessing))
    return np.asarray(emitted.logits[0, :, WARM_UP_STEPS:].T.numpy(), np.float32)


def compare_steps(
    model: torch.nn.Module, spec: ModelSpec, stepper: Stepper, streams: Sequence[Clip], progress: Progress
) -> Parity:
    """Compare a stepper with the network itself, of which each stream is fed at once."""
    own: list[Logits] = []
    other: list[Logits] = []
    for number, stream in enumerate(streams):
        progress("comparing", number, len(streams))
        own.append(own_logits(model, spec, stream))
        other.append(carried_logits(stepper, stream))
    return compare(own, other, spec.temperature)
