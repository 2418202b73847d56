"""The libraries that can run a network, which of them does, and why. Imports none of them before it is chosen."""

from __future__ import annotations

import ctypes.util
import importlib.util
import logging
import os
import platform
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from stream_i3d.config import TWO_STREAM, BackendName, ModelConfig, ModeName, Precision
from stream_i3d.errors import ConfigError, DeviceError
from stream_i3d.inference.engine import Engine, LoadedModel
from stream_i3d.inference.graphs.cache import compiled_folder, kept_graph
from stream_i3d.inference.graphs.file import CHECK_KEY, IR, ONNX, is_graph, read_graph_spec, read_head, read_metadata
from stream_i3d.inference.selfcheck.checked import SelfCheck, load_checked, make_self_check, run_clips
from stream_i3d.inference.selfcheck.comparison import Attempt, attempts
from stream_i3d.inference.selfcheck.reference import (
    CheckedNetwork,
    as_array,
    check_clips,
    decode_values,
    reference_values,
)
from stream_i3d.inference.setup import ModelSetup, check_takes_rgb, label_names
from stream_i3d.recognition.head import PublishedHead

if TYPE_CHECKING:
    from stream_i3d.models.spec import ModelSpec

log = logging.getLogger(__name__)


class Backend(Struct, frozen=True, kw_only=True):
    """A library that runs networks.

    Attributes:
        name: What `--backend` calls it.
        what: What it is, in a few words.
        packages: The names it is imported by; those needed to run a graph that is there already.
        graph: Suffix of the files that it reads; empty where it runs the checkpoint's own network.
    """

    name: BackendName
    what: str
    packages: tuple[str, ...]
    graph: str = ""

    @property
    def installed(self) -> bool:
        """Whether it can be imported; what it needs beyond that shows when it is."""
        return all(importlib.util.find_spec(package) is not None for package in self.packages)

    @property
    def command(self) -> str:
        """What installs it; torch always is."""
        return f"pip install 'stream-i3d[{self.name}]'"


_TABLE = (
    Backend(name="torch", what="PyTorch: every network, CPU and CUDA", packages=("torch",)),
    Backend(
        name="openvino", what="OpenVINO: the fastest on CPUs, int8 of exported files", packages=("openvino",), graph=IR
    ),
    Backend(name="onnxruntime", what="ONNX Runtime: fp32 on CPUs, .onnx files", packages=("onnxruntime",), graph=ONNX),
    Backend(
        name="tensorrt",
        what="TensorRT by ONNX Runtime: NVIDIA GPUs, .onnx files",
        packages=("onnxruntime", "tensorrt"),
        graph=ONNX,
    ),
)

BACKENDS: Mapping[str, Backend] = MappingProxyType({backend.name: backend for backend in _TABLE})
"""By name, the one that always works first."""

FASTER_ON_X86: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("i3d", "i3d-flow", "i3d-r50", "i3d-r50-8x8"), "openvino")
)
"""What was measured to beat torch on CPUs with AVX-512, in bf16 and in fp32, by architecture (docs/benchmarks.md)."""


_RGB = 3
"""Channels of what a network sees that runs alone."""

CARRYING: tuple[BackendName, ...] = ("torch", "openvino")
"""What runs streaming mode."""


class Choice(Struct, frozen=True):
    """A backend, and why it was taken."""

    backend: Backend
    reason: str


def choose_backend(setup: ModelSetup, mode: ModeName = "window") -> Choice:
    """Return what runs a network.

    Args:
        setup: Which network.
        mode: Whether it takes windows, or is carried along streams, which `CARRYING` can do.

    Raises:
        ConfigError: What was asked for is not installed, or cannot run this network.
    """
    asked, file = setup.config.backend, Path(setup.path)
    if setup.flow is not None:
        return _only_torch(asked)
    if is_graph(file):
        return _for_graph(asked, file, mode)
    if mode == "streaming" and asked not in ("auto", *CARRYING):
        raise ConfigError(
            f"backend {asked!r} does not run streaming mode: give one of {', '.join(CARRYING)}, or auto; or leave out "
            "window.mode (--mode)"
        )
    if asked != "auto":
        return _installed(BACKENDS[asked], "asked for")
    if setup.config.compile:
        return Choice(BACKENDS["torch"], "what compiles is torch")
    if _runs_on_gpu(setup.config.device):
        return Choice(BACKENDS["torch"], "the first choice on a GPU")
    architecture = setup.config.name if setup.spec is None else setup.spec.architecture
    faster = FASTER_ON_X86.get(architecture) if platform.machine().lower() in ("x86_64", "amd64") else None
    if faster is None:
        return Choice(BACKENDS["torch"], f"no other is known to run {architecture} faster here")
    if not BACKENDS[faster].installed:
        return Choice(
            BACKENDS["torch"], f"{faster}, which is faster here, is not installed ({BACKENDS[faster].command})"
        )
    return Choice(BACKENDS[faster], f"faster than torch for {architecture} on a CPU")


def load_model(setup: ModelSetup, mode: ModeName = "window") -> LoadedModel:
    """Load a network with the backend of choice; call `setup.wait_passively` before.

    Args:
        setup: Which network.
        mode: Whether it takes windows, or is carried along streams.

    Raises:
        CheckpointError, LabelsError, DeviceError, ConfigError: What was asked for is missing or cannot be used.
    """
    choice = choose_backend(setup, mode)
    if setup.flow is not None:
        from stream_i3d.inference.two_stream import load_two_stream  # it imports torch

        model = load_two_stream(setup)  # each of its networks is checked by itself
    else:
        model = _load_checked(setup, choice.backend, mode)
    _log_choice(model, choice, setup)
    return model


def _load_checked(setup: ModelSetup, chosen: Backend, mode: ModeName) -> LoadedModel:
    """Load a model that agrees with float32: of the chosen backend, or of the next; see `selfcheck.checked`."""
    first = Attempt(
        backend=chosen.name, precision=_precision(setup, chosen), device=_device(setup, chosen),
        compiled=setup.config.compile and not chosen.graph and mode == "window",
    )  # fmt: skip
    ways = attempts(first, _others(setup, chosen, mode))
    clips = check_clips(setup.preprocessing, _RGB, mode)

    def load_way(way: Attempt) -> LoadedModel:
        return _load_unchecked(_run_so(setup, way), mode)

    def make_check(model: LoadedModel, way: Attempt) -> SelfCheck:
        reference = _reference(setup, mode)
        if reference is None and way.precision != "fp32":  # a file that was written without
            reference = run_clips(load_way(structs.replace(way, precision="fp32")), clips)
        return make_self_check(model, way, clips, reference)

    return load_checked(setup.model_name.checkpoint, ways, load_way, make_check)


def _reference(setup: ModelSetup, mode: ModeName) -> NDArray[np.float32] | None:
    """Return the reference values of the network; None for an exported file that carries none."""
    path = Path(setup.path)
    if not is_graph(path):
        network = CheckedNetwork(
            path=setup.path, spec=setup.spec, name=setup.config.name, preprocessing=setup.preprocessing, mode=mode
        )
        return as_array(reference_values(network))
    values = decode_values(read_metadata(path, CHECK_KEY))
    return None if values is None else as_array(values)


def _run_so(setup: ModelSetup, way: Attempt) -> ModelSetup:
    """Return a setup that runs its network one way."""
    config = structs.replace(
        setup.config, backend=way.backend, precision=way.precision, device=way.device, compile=way.compiled
    )
    return structs.replace(setup, config=config)


def _others(setup: ModelSetup, chosen: Backend, mode: ModeName) -> list[BackendName]:
    """Return the other backends that run this network here, the best first."""
    path = Path(setup.path)
    if not is_graph(path):
        return [] if chosen.name == "torch" else ["torch"]
    able = [backend for backend in _readers(path, mode) if backend.installed and backend.name != "tensorrt"]
    return [backend.name for backend in able if backend is not chosen]


def _device(setup: ModelSetup, backend: Backend) -> str:
    """Return the device that a backend would take."""
    if backend.name == "torch":
        from stream_i3d.inference.torch_engine import choose_device  # it imports torch

        return str(choose_device(setup.config.device))
    if backend.name == "tensorrt":
        return f"cuda:{int(setup.config.device.partition(':')[2] or 0)}"
    return "cpu"


def _precision(setup: ModelSetup, backend: Backend) -> Precision:
    """Return the precision that a backend would run at; raises as loading an engine does."""
    asked = setup.config.precision
    if backend.name == "torch":
        from stream_i3d.inference.torch_engine import choose_device, choose_precision  # it imports torch

        return choose_precision(asked, choose_device(setup.config.device))
    _check_device(setup, backend)
    if backend.name == "openvino":
        from stream_i3d.inference.graphs.openvino_engine import choose_cpu_precision, has_bf16

        return choose_cpu_precision(asked, has_bf16())
    if backend.name == "onnxruntime":
        from stream_i3d.inference.graphs.onnx_engine import on_cpu

        on_cpu(asked)
        return "fp32"
    return "fp16" if asked == "auto" else asked


def _load_unchecked(setup: ModelSetup, mode: ModeName) -> LoadedModel:
    """Load the model that the setup's configuration names."""
    backend = BACKENDS[setup.config.backend]
    if not backend.graph:
        from stream_i3d.inference.torch_engine import load_torch_engine  # it imports torch

        return LoadedModel(*load_torch_engine(setup, mode))
    _check_device(setup, backend)
    with _graph(setup, backend, mode) as path:
        spec = read_graph_spec(path)
        check_takes_rgb(setup, spec)
        head = read_head(path, spec, label_names(setup.labels, spec))
        engine = _graph_engine(setup.config, backend, path, spec, mode)
        return LoadedModel(engine, PublishedHead({"rgb": head}))


def _graph_engine(config: ModelConfig, backend: Backend, path: Path, spec: ModelSpec, mode: ModeName) -> Engine:
    """Return the engine of a graph; raises as its class does."""
    cache = compiled_folder(path)
    if backend.name == "openvino":
        from stream_i3d.inference.graphs import openvino_engine

        precision = openvino_engine.choose_cpu_precision(config.precision, openvino_engine.has_bf16())
        kind = openvino_engine.OpenVinoStepEngine if mode == "streaming" else openvino_engine.OpenVinoEngine
        return kind(path, spec, precision, config.threads, cache)
    from stream_i3d.inference.graphs.onnx_engine import OnnxEngine, on_cpu, on_tensorrt

    if backend.name == "onnxruntime":
        providers, facts = on_cpu(config.precision)
    else:
        providers, facts = on_tensorrt(config.precision, int(config.device.partition(":")[2] or 0), cache)
    return OnnxEngine(path, spec, providers, config.threads, facts)


def _log_choice(model: LoadedModel, choice: Choice, setup: ModelSetup) -> None:
    name: str = choice.backend.name
    reason = choice.reason
    if model.check is not None and model.check.facts.rejected:
        name, reason = model.check.facts.backend, "passes the self-check"
    log.info("engine: %s (%s: %s)", model.engine.description, name, reason)
    if setup.config.compile and not model.engine.facts.compiled:
        log.warning("model.compile has no effect here: only one network alone, in window mode on torch, is compiled")


_CONVERTERS = {ONNX: ("onnx", "onnxscript")}
"""Packages without which a checkpoint cannot become such a graph."""


def _graph(setup: ModelSetup, backend: Backend, mode: ModeName) -> AbstractContextManager[Path]:
    """Return, to be read within, the graph that was given, or that of the checkpoint."""
    if is_graph(setup.path):
        return nullcontext(Path(setup.path))
    if missing := [name for name in _CONVERTERS.get(backend.graph, ()) if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"backend {backend.name} needs {' and '.join(missing)} to convert weights: {backend.command}")
    return kept_graph(setup, backend.graph, mode)


def _check_device(setup: ModelSetup, backend: Backend) -> None:
    """Refuse a device that a backend does not run on here."""
    on_gpu = backend.name == "tensorrt"
    wanted, asked = "cuda" if on_gpu else "cpu", setup.config.device
    index = asked.partition(":")[2]
    if asked != "auto" and (asked.partition(":")[0] != wanted or (index and not index.isdigit())):
        raise DeviceError(f"device {asked!r}: backend {backend.name} runs on {wanted} here; give that, or auto")
    if on_gpu:
        from stream_i3d.inference.graphs.onnx_engine import has_tensorrt

        if not has_tensorrt():
            raise DeviceError(
                f"backend tensorrt: the installed ONNX Runtime was built without it: pip uninstall onnxruntime, "
                f"then {backend.command}"
            )


def _only_torch(asked: BackendName) -> Choice:
    if asked not in ("auto", "torch"):
        raise ConfigError(f"backend {asked!r} does not run {TWO_STREAM}: give --backend torch, or leave it out")
    return Choice(BACKENDS["torch"], "two streams run with torch only")


def _readers(file: Path, mode: ModeName) -> list[Backend]:
    """Return what runs an exported file, the best first; OpenVINO reads both kinds."""
    able = [backend for backend in BACKENDS.values() if backend.graph == file.suffix.lower()]
    if file.suffix.lower() == ONNX:
        able.insert(1, BACKENDS["openvino"])
    return [backend for backend in able if mode == "window" or backend.name in CARRYING]


def _for_graph(asked: BackendName, file: Path, mode: ModeName) -> Choice:
    """Choose by an exported file's kind."""
    able = _readers(file, mode)
    names = [backend.name for backend in able]
    if asked == "auto":
        first = next((backend for backend in able if backend.installed), able[0])
        return _installed(first, f"it reads {file.suffix} files")
    if asked not in names:
        raise ConfigError(f"backend {asked!r} does not run {file.name}: give one of {', '.join(names)}, or auto")
    return _installed(BACKENDS[asked], "asked for")


def _installed(backend: Backend, reason: str) -> Choice:
    if not backend.installed:
        raise ConfigError(f"backend {backend.name} is not installed: {backend.command}")
    return Choice(backend, reason)


def _runs_on_gpu(device: str) -> bool:
    """Tell whether torch would take a GPU; torch is asked only where there is an NVIDIA driver."""
    if device != "auto":
        return device != "cpu"
    library = "nvcuda" if os.name == "nt" else "cuda"
    if ctypes.util.find_library(library) is None:
        return False
    from stream_i3d.inference.torch_engine import choose_device  # it imports torch

    return choose_device(device).type == "cuda"
