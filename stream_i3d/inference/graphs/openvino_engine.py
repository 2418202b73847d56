"""Runs graphs by OpenVINO, on the CPU. Imports no torch: a worker that runs this way starts and stays small.

In streaming mode the contexts, which in the file are inputs and outputs, become variables of the model when it is read,
so that they stay where and as the CPU plugin likes them best. Each stream has a request, and with it variables, of its
own; cameras are stepped one after another (docs/decisions.md has what was measured).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache as keep
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stream_i3d.config import Precision
from stream_i3d.errors import CheckpointError, DeviceError, brief
from stream_i3d.inference.cores import allowed_cores
from stream_i3d.inference.engine import State
from stream_i3d.inference.graphs.engine import Clips, GraphEngine, check_signature, clip_shape
from stream_i3d.inference.graphs.file import CLIPS, CONTEXT, FEATURES, FRAMES, NEXT_CONTEXT, STEPS
from stream_i3d.messages import EngineFacts
from stream_i3d.models.spec import ModelSpec
from stream_i3d.models.streaming_plan import DELAY_STEPS, STEP_FRAMES
from stream_i3d.preprocess import FrameSize
from stream_i3d.recognition.head import Features

if TYPE_CHECKING:
    import openvino

_DEVICE = "CPU"
_HINTS = {"fp32": "f32", "bf16": "bf16"}


def import_openvino() -> Any:
    """Import OpenVINO without the package by which it, and NNCF, tell Google Analytics of each conversion.

    Both fall back to a stub of their own where openvino_telemetry cannot be imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: importing it fails
    import openvino

    return openvino


class OpenVinoEngine(GraphEngine):
    """A compiled OpenVINO model of windows, for any number of clips at once."""

    def __init__(self, path: Path, spec: ModelSpec, precision: Precision, threads: int, cache: Path | None) -> None:
        """Read and compile a file.

        Args:
            path: An IR's .xml, or ONNX.
            spec: What the file says of itself.
            precision: One that the CPU has (see `choose_cpu_precision`), not "auto". Layers of an int8 file are int8
                whatever is asked.
            threads: 0 takes the cores that this process may use.
            cache: Folder for compiled models.

        Raises:
            CheckpointError: The file is damaged.
        """
        super().__init__(clip_shape(spec))
        self._graph = SizedGraph(path, spec, precision, threads, cache, lambda model: _check_window(model, spec, path))
        self.description, self.facts = self._graph.description, self._graph.facts
        self._requests: dict[FrameSize, Any] = {}

    def run(self, batch: Clips, states: Sequence[State]) -> tuple[Features, list[State]]:
        """Run a batch; see `Engine.run`."""
        size = batch.shape[2], batch.shape[3]
        if size not in self._requests:
            self._requests[size] = self._graph.compiled(size).create_infer_request()
        outputs = self._requests[size].infer([batch], share_inputs=True)
        return {"rgb": np.array(outputs[0], dtype=np.float32)}, [None] * len(states)


@dataclass(slots=True)
class OpenVinoState:
    """One stream's variables, and how many steps it has had."""

    request: Any
    steps: int = 0


class OpenVinoStepEngine(GraphEngine):
    """A compiled OpenVINO model of one step, which is carried along streams."""

    def __init__(self, path: Path, spec: ModelSpec, precision: Precision, threads: int, cache: Path | None) -> None:
        """Read and compile a file; arguments and errors as for `OpenVinoEngine`."""
        super().__init__(clip_shape(spec))
        self._graph = SizedGraph(
            path, spec, precision, threads, cache, lambda model: _check_step(model, spec, path), _keep_contexts
        )
        self.description, self.facts = f"{self._graph.description}, streaming", self._graph.facts
        self._steps = np.zeros(1, np.int64)

    def run(self, batch: Clips, states: Sequence[State]) -> tuple[Features, list[State]]:
        """Feed each camera its 8 frames; see `Engine.run`."""
        compiled = self._graph.compiled((batch.shape[2], batch.shape[3]))
        after = [OpenVinoState(compiled.create_infer_request()) if state is None else state for state in states]
        rows = [self._step(batch[at : at + 1], state) for at, state in enumerate(after)]
        return {"rgb": np.concatenate(rows)}, after

    def _step(self, frames: Clips, state: OpenVinoState) -> NDArray[np.float32]:
        """(1, 8, H, W, 3) uint8 -> (1, h, w, features) float32; `state` is changed."""
        self._steps[0] = state.steps
        outputs = state.request.infer({FRAMES: frames, STEPS: self._steps}, share_inputs=True)
        state.steps = min(state.steps + 1, DELAY_STEPS)  # more make no difference
        return np.array(outputs[FEATURES], dtype=np.float32)


class SizedGraph:
    """A file that is compiled for each size of frames, when the first of that size come; for its own size at once."""

    def __init__(
        self,
        path: Path,
        spec: ModelSpec,
        precision: Precision,
        threads: int,
        cache: Path | None,
        check: Callable[[openvino.Model], None],
        adapt: Callable[[openvino.Model], None] = lambda model: None,
    ) -> None:
        """Read and compile a file for frames of the size that its spec says.

        Args:
            path, spec, precision, threads, cache: As for `OpenVinoEngine`.
            check: Given the model as it was read.
            adapt: Given the model in its size; may change it.

        Raises:
            CheckpointError: The file is damaged.
        """
        openvino = import_openvino()
        self._path, self._own, self._check, self._adapt = path, clip_shape(spec)[1:3], check, adapt
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads or allowed_cores(),
            # Pinned, two processes' threads share one core while another is idle (Intel's article 000058227).
            "ENABLE_CPU_PINNING": False,
            "CACHE_DIR": "" if cache is None else str(cache),
        }
        model, compiled = self._compile(self._own)
        self._compiled: dict[FrameSize, Any] = {self._own: compiled}
        int8 = any(operation.get_type_name() == "FakeQuantize" for operation in model.get_ops())
        named = f"int8 and {precision}" if int8 else precision
        self.facts = EngineFacts(backend="openvino", device="cpu", precision=named, int8=int8)
        self.description = f"OpenVINO {openvino.__version__.split('-')[0]}, cpu, {named}"

    def compiled(self, size: FrameSize) -> Any:
        """Return the compiled model for frames of this height and width.

        Raises:
            CheckpointError: The file has gone, or its graph is of one size only.
        """
        if size not in self._compiled:
            self._compiled[size] = self._compile(size)[1]
        return self._compiled[size]

    def _compile(self, size: FrameSize) -> tuple[openvino.Model, Any]:
        try:
            model = the_core().read_model(self._path)
            self._check(model)
            if size != self._own:
                _resize(model, self._own, size)
            self._adapt(model)
            return model, the_core().compile_model(model, _DEVICE, self._settings)
        except RuntimeError as error:
            raise CheckpointError(
                f"checkpoint {str(self._path)!r} cannot be run by OpenVINO ({_reason(error)}): export it again"
            ) from error


def _resize(model: openvino.Model, own: FrameSize, size: FrameSize) -> None:
    """Change a model to frames of another size, in place; both are multiples of 32, so paddings stay as they are."""
    import_openvino()
    from openvino import PartialShape

    shapes = {}
    for port in model.inputs:
        shape = port.get_partial_shape()
        name = port.get_any_name()
        if name in (CLIPS, FRAMES):
            shape[2], shape[3] = size
        elif name != STEPS:  # a context, (1, C, T, h, w)
            for axis, (before, after) in enumerate(zip(own, size, strict=True), 3):
                shape[axis] = shape[axis].get_length() * after // before
        shapes[port] = PartialShape(shape)
    model.reshape(shapes)


def has_bf16() -> bool:
    """Tell whether OpenVINO multiplies bf16 in this CPU's hardware."""
    return "BF16" in the_core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")


@keep
def the_core() -> openvino.Core:
    """Return this process's Core, which is kept to its end.

    WORKAROUND https://github.com/openvinotoolkit/openvino/pull/11894: on CPUs with AMX each Core gives the thread
    another stack for signals and takes it away when it goes. Where two go in the order in which they came, the thread
    is left with one that is freed, and the next signal, such as SIGTERM, is a segmentation fault (seen with 2026.4.1).
    """
    return import_openvino().Core()


def choose_cpu_precision(asked: Precision, bf16: bool) -> Precision:
    """Return the precision to run at; "auto" is bf16 where the CPU multiplies it in hardware.

    Raises:
        DeviceError: The CPU does not have it.
    """
    allowed: list[Precision] = ["bf16", "fp32"] if bf16 else ["fp32"]
    if asked == "auto":
        return allowed[0]
    if asked not in allowed:
        raise DeviceError(f"precision {asked!r}: cpu has {', '.join(allowed)}; use one of them, or auto")
    return asked


def write_ir(model: openvino.Model, metadata: Mapping[str, str], path: Path) -> None:
    """Write an OpenVINO model as .xml, and its weights as .bin beside it.

    Args:
        model: The graph.
        metadata: Texts that the file carries, by key; see `graphs.file`.
        path: Where the .xml goes.
    """
    for key, text in metadata.items():
        model.set_rt_info(text, [key])
    import_openvino().save_model(model, path, compress_to_fp16=False)


def _check_window(model: openvino.Model, spec: ModelSpec, path: Path) -> None:
    """Check that a file is what `stream-i3d export` writes, and of the size that it says."""
    if len(model.inputs) != 1 or len(model.outputs) != 1 or model.inputs[0].get_element_type().get_type_name() != "u8":
        raise CheckpointError(f"checkpoint {str(path)!r} is no graph from uint8 clips to features: export it again")
    shapes = [
        [dimension.get_length() if dimension.is_static else str(dimension) for dimension in port.get_partial_shape()][
            1:
        ]
        for port in (model.inputs[0], model.outputs[0])
    ]
    check_signature(shapes[0], shapes[1], spec, str(path))


def _keep_contexts(model: openvino.Model) -> None:
    """Make variables of the contexts, in place; they begin as zeros."""
    import_openvino()
    from openvino.passes import MakeStateful, Manager

    pairs = {CONTEXT.format(number): NEXT_CONTEXT.format(number) for number in range(len(model.outputs) - 1)}
    manager = Manager()
    manager.register_pass(MakeStateful(pairs))
    manager.run_passes(model)


def _check_step(model: openvino.Model, spec: ModelSpec, path: Path) -> None:
    """Check that a file is what `stream-i3d export --mode streaming` writes, and of the size that it says."""
    contexts = len(model.outputs) - 1
    names = [FRAMES, STEPS, *map(CONTEXT.format, range(contexts))]
    results = [FEATURES, *map(NEXT_CONTEXT.format, range(contexts))]
    try:
        inputs, outputs = [[port.get_any_name() for port in ports] for ports in (model.inputs, model.outputs)]
        frames, maps = tuple(model.input(FRAMES).shape), tuple(model.output(FEATURES).shape)
    except RuntimeError:
        inputs, outputs, frames, maps = [], [], (), ()
    wanted = (sorted(names), sorted(results), (1, *clip_shape(spec)), (4, 1))
    if (sorted(inputs), sorted(outputs), frames, (len(maps), *maps[:1])) != wanted:
        size = spec.preprocessing.crop_size
        raise CheckpointError(
            f"checkpoint {str(path)!r} is no graph from {STEP_FRAMES} frames of {size} x {size} and contexts to "
            f"features and contexts, as it says: export it again"
        )


def _reason(error: RuntimeError) -> str:
    """Return the telling line of OpenVINO's message; the first ones name its own source files."""
    lines = [line for line in str(error).splitlines() if line and not line.startswith(("Exception from", "Check "))]
    return brief(RuntimeError(lines[0] if lines else str(error)))
