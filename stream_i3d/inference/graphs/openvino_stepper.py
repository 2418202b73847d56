"""Carries a network along streams by OpenVINO, on the CPU. Imports no torch.

The contexts, which in the file are inputs and outputs, become variables of the model when it is read, so they stay
where and as the CPU plugin likes them best. Each stream has a request, and with it variables, of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stream_i3d.config import Precision
from stream_i3d.errors import CheckpointError
from stream_i3d.inference.graphs.engine import Clips
from stream_i3d.inference.graphs.file import LOGITS
from stream_i3d.inference.graphs.openvino_runner import compile_graph, import_openvino
from stream_i3d.inference.graphs.stream_engine import CONTEXT, FRAMES, NEXT_CONTEXT, STEPS
from stream_i3d.models.spec import ModelSpec
from stream_i3d.models.streaming_plan import DELAY_STEPS, STEP_FRAMES

if TYPE_CHECKING:
    import openvino


@dataclass(slots=True)
class OpenVinoMemory:
    """One stream's variables, and how many steps it has had."""

    request: Any
    steps: int = 0


class OpenVinoStepper:
    """A compiled OpenVINO model of one step."""

    def __init__(self, path: Path, spec: ModelSpec, precision: Precision, threads: int, cache: Path | None) -> None:
        """Read and compile a file; arguments and errors as `OpenVinoRunner`."""

        def adapt(model: openvino.Model) -> None:
            _check(model, spec, path)
            _keep_contexts(model)

        self._compiled, self.description, self.facts, self.int8 = compile_graph(path, precision, threads, cache, adapt)
        self._steps = np.zeros(1, np.int64)

    def begin(self) -> OpenVinoMemory:
        """Return the memory of a stream before its first frame."""
        return OpenVinoMemory(self._compiled.create_infer_request())

    def __call__(self, frames: Clips, memory: OpenVinoMemory) -> NDArray[np.float32]:
        """(1, 8, H, W, 3) uint8 -> (num_classes,) float32; `memory` is changed."""
        self._steps[0] = memory.steps
        outputs = memory.request.infer({FRAMES: frames, STEPS: self._steps}, share_inputs=True)
        memory.steps = min(memory.steps + 1, DELAY_STEPS)  # more make no difference
        return np.array(outputs[LOGITS][0], dtype=np.float32)


def _keep_contexts(model: openvino.Model) -> None:
    """Make variables of the contexts, in place; they begin as zeros."""
    import_openvino()
    from openvino.passes import MakeStateful, Manager

    pairs = {CONTEXT.format(number): NEXT_CONTEXT.format(number) for number in range(len(model.outputs) - 1)}
    manager = Manager()
    manager.register_pass(MakeStateful(pairs))
    manager.run_passes(model)


def _check(model: openvino.Model, spec: ModelSpec, path: Path) -> None:
    """Check that a file is what `stream-i3d export --mode streaming` writes, and of the size that it says."""
    size = spec.preprocessing.crop_size
    contexts = len(model.outputs) - 1
    names = [FRAMES, STEPS, *map(CONTEXT.format, range(contexts))]
    results = [LOGITS, *map(NEXT_CONTEXT.format, range(contexts))]
    try:
        inputs, outputs = [[port.get_any_name() for port in ports] for ports in (model.inputs, model.outputs)]
        shapes = [tuple(model.input(FRAMES).shape), tuple(model.output(LOGITS).shape)]
    except RuntimeError:
        inputs, outputs, shapes = [], [], []
    wanted = [(1, STEP_FRAMES, size, size, spec.in_channels), (1, spec.num_classes)]
    if (sorted(inputs), sorted(outputs), shapes) != (sorted(names), sorted(results), wanted):
        raise CheckpointError(
            f"checkpoint {str(path)!r} is no graph from {STEP_FRAMES} frames of {size} x {size} and contexts to "
            f"{spec.num_classes} logits and contexts, as it says: export it again"
        )
