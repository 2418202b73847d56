"""Runs a graph by OpenVINO, on the CPU. Imports no torch: a worker that runs this way starts and stays small."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache as keep
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stream_i3d.config import Precision
from stream_i3d.errors import CheckpointError, DeviceError, brief
from stream_i3d.inference.cores import allowed_cores
from stream_i3d.inference.graphs.engine import Clips, check_signature
from stream_i3d.inference.graphs.file import CHECK_KEY
from stream_i3d.messages import EngineFacts
from stream_i3d.models.spec import METADATA_KEY, ModelSpec, encode_spec

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


class OpenVinoRunner:
    """A compiled OpenVINO model, for any number of clips at once."""

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
        compiled, self.description, self.facts, self.int8 = compile_graph(
            path, precision, threads, cache, lambda model: _check(model, spec, path)
        )
        self._request = compiled.create_infer_request()

    def __call__(self, clips: Clips) -> NDArray[np.float32]:
        """(B, T, H, W, C) uint8 -> (B, num_classes) float32."""
        outputs = self._request.infer([clips], share_inputs=True)
        return np.asarray(outputs[0], dtype=np.float32)


def compile_graph(
    path: Path, precision: Precision, threads: int, cache: Path | None, adapt: Callable[[openvino.Model], None]
) -> tuple[Any, str, EngineFacts, bool]:
    """Return a compiled file, a description of it, the same as fields, and whether layers of it are int8.

    Args:
        path, precision, threads, cache: As for `OpenVinoRunner`.
        adapt: Given the model as it was read: checks it, and may change it.

    Raises:
        CheckpointError: The file is damaged.
    """
    openvino, core = import_openvino(), the_core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads or allowed_cores(),
        # Pinned, two processes' threads share one core while another is idle (Intel's article 000058227).
        "ENABLE_CPU_PINNING": False,
        "CACHE_DIR": "" if cache is None else str(cache),
    }
    try:
        model = core.read_model(path)
        adapt(model)
        compiled = core.compile_model(model, _DEVICE, settings)
    except RuntimeError as error:
        raise CheckpointError(
            f"checkpoint {str(path)!r} cannot be run by OpenVINO ({_reason(error)}): export it again"
        ) from error
    int8 = any(operation.get_type_name() == "FakeQuantize" for operation in model.get_ops())
    named = f"int8 and {precision}" if int8 else precision
    facts = EngineFacts(backend="openvino", device="cpu", precision=named)
    return compiled, f"OpenVINO {openvino.__version__.split('-')[0]}, cpu, {named}", facts, int8


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


def write_ir(model: openvino.Model, spec: ModelSpec, path: Path, check: str | None = None) -> None:
    """Write an OpenVINO model and its spec as .xml, and its weights as .bin beside it.

    Args:
        model: The graph.
        spec: Of its network.
        path: Where the .xml goes.
        check: Reference values for the engine's self-check, as `graphs.file.CHECK_KEY` holds them; None for none.
    """
    model.set_rt_info(encode_spec(spec)[METADATA_KEY], [METADATA_KEY])
    if check is not None:
        model.set_rt_info(check, [CHECK_KEY])
    import_openvino().save_model(model, path, compress_to_fp16=False)


def _check(model: openvino.Model, spec: ModelSpec, path: Path) -> None:
    if len(model.inputs) != 1 or len(model.outputs) != 1 or model.inputs[0].get_element_type().get_type_name() != "u8":
        raise CheckpointError(f"checkpoint {str(path)!r} is no graph from uint8 clips to logits: export it again")
    shapes = [
        [dimension.get_length() if dimension.is_static else str(dimension) for dimension in port.get_partial_shape()][
            1:
        ]
        for port in (model.inputs[0], model.outputs[0])
    ]
    check_signature(shapes[0], shapes[1], spec, str(path))


def _reason(error: RuntimeError) -> str:
    """Return the telling line of OpenVINO's message; the first ones name its own source files."""
    lines = [line for line in str(error).splitlines() if line and not line.startswith(("Exception from", "Check "))]
    return brief(RuntimeError(lines[0] if lines else str(error)))
