"""Runs a graph by ONNX Runtime: on the CPU, or on an NVIDIA GPU through its TensorRT provider. Imports no torch.

TensorRT could not be run where this is developed; what is asked of it follows ONNX Runtime's manual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stream_i3d.config import Precision
from stream_i3d.errors import CheckpointError, DeviceError, brief
from stream_i3d.inference.cores import allowed_cores
from stream_i3d.inference.engine import State
from stream_i3d.inference.graphs.engine import Clips, GraphEngine, check_signature, clip_shape
from stream_i3d.messages import EngineFacts
from stream_i3d.models.spec import ModelSpec
from stream_i3d.recognition.head import Features

TENSORRT = "TensorrtExecutionProvider"
_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

Providers = Sequence[str | tuple[str, Mapping[str, object]]]


class OnnxEngine(GraphEngine):
    """An ONNX Runtime session, for any number of clips at once."""

    def __init__(self, path: Path, spec: ModelSpec, providers: Providers, threads: int, facts: EngineFacts) -> None:
        """Read a file and make a session of it.

        Args:
            path: The file.
            spec: What it says of itself.
            providers: What may run its layers, the first that can; as ONNX Runtime takes them.
            threads: 0 takes the cores that this process may use.
            facts: Device and precision.

        Raises:
            CheckpointError: The file is damaged.
        """
        import onnxruntime

        super().__init__(clip_shape(spec))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or allowed_cores()
        options.log_severity_level = 3  # errors only: what matters comes as an exception
        # Threads that wait for the next window would spin, and keep captures off the cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
        except _errors() as error:
            raise CheckpointError(
                f"checkpoint {str(path)!r} cannot be run by ONNX Runtime ({_reason(error)}): export it again"
            ) from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type != "tensor(uint8)":
            raise CheckpointError(f"checkpoint {str(path)!r} is no graph from uint8 clips to features: export it again")
        check_signature(inputs[0].shape[1:], outputs[0].shape[1:], spec, str(path))
        self._input = inputs[0].name
        self.facts = facts
        library = "TensorRT, " if facts.backend == "tensorrt" else ""
        self.description = f"ONNX Runtime {onnxruntime.__version__}, {library}{facts.device}, {facts.precision}"

    def run(self, batch: Clips, states: Sequence[State]) -> tuple[Features, list[State]]:
        """Run a batch; see `Engine.run`."""
        maps = np.asarray(self._session.run(None, {self._input: batch})[0], dtype=np.float32)
        return {"rgb": maps}, [None] * len(states)


def on_cpu(precision: Precision) -> tuple[Providers, EngineFacts]:
    """Return the providers for a CPU, and what they are.

    Raises:
        DeviceError: The precision is another than float32.
    """
    if precision not in ("auto", "fp32"):
        raise DeviceError(f"precision {precision!r}: onnxruntime on a CPU has fp32; use it, or auto")
    return [_CPU], EngineFacts(backend="onnxruntime", device="cpu", precision="fp32")


def on_tensorrt(precision: Precision, device: int, cache: Path | None) -> tuple[Providers, EngineFacts]:
    """Return the providers for a GPU by TensorRT, and what they are.

    Args:
        precision: "auto" is fp16, which every GPU that TensorRT supports has.
        device: Number of the GPU.
        cache: Folder for engines: TensorRT takes minutes to build one.
    """
    chosen = "fp16" if precision == "auto" else precision
    options: dict[str, object] = {
        "device_id": device,
        "trt_fp16_enable": chosen == "fp16",
        "trt_bf16_enable": chosen == "bf16",
        "trt_cuda_graph_enable": False,  # it wants one fixed batch size
    }
    if cache is not None:
        options |= {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(cache)}
    facts = EngineFacts(backend="tensorrt", device=f"cuda:{device}", precision=chosen)
    return [(TENSORRT, options), (_CUDA, {"device_id": device}), _CPU], facts


def has_tensorrt() -> bool:
    """Tell whether the installed ONNX Runtime was built with TensorRT; it may still miss TensorRT's own libraries."""
    import onnxruntime

    return TENSORRT in onnxruntime.get_available_providers()


def _reason(error: Exception) -> str:
    """Return the telling part of ONNX Runtime's message; its number, its name and the file's path stand before."""
    return brief(RuntimeError(str(error).rpartition(" failed:")[2]))


def _errors() -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime raises; its kinds of error have no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found: list[Any] = [value for value in vars(state).values() if isinstance(value, type)]
    return (RuntimeError, ValueError, *(kind for kind in found if issubclass(kind, Exception)))
