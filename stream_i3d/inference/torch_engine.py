"""Runs networks with PyTorch, eager or compiled, in window and in streaming mode; on GPUs see also cuda_engine.py.

One of two places with autocast (the other is training).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.config import ModeName, Precision
from stream_i3d.errors import DeviceError
from stream_i3d.inference.cores import allowed_cores
from stream_i3d.inference.engine import ClipShape, Frames, State
from stream_i3d.inference.ring import HostMemory, RingMemory, RingShape
from stream_i3d.inference.setup import ModelSetup, StreamName, check_carried, check_takes_rgb, label_names
from stream_i3d.messages import EngineFacts
from stream_i3d.models.backbone import Backbone, head_arrays, last_step
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.folding import in_half, inference_form, is_folded, lay_out, rearrange_stem, separate_pools
from stream_i3d.models.i3d import I3D
from stream_i3d.models.spec import ModelSpec
from stream_i3d.models.streaming_i3d import StreamingI3D, StreamState, stack
from stream_i3d.models.streaming_plan import STEP_FRAMES
from stream_i3d.preprocess import Preprocessing, normalise
from stream_i3d.recognition.head import Features, Head, PublishedHead, make_head

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


class MixedPrecision:
    """A network on its device in the form that runs fastest there, for clips of any streams.

    BatchNorm is folded; the whole network but its heads is then in half precision. One with a BatchNorm that cannot be
    folded runs under autocast. docs/decisions.md has what each step gains.
    """

    def __init__(self, model: torch.nn.Module, device: torch.device, precision: Precision) -> None:
        """Args: `precision` must be one the device has (see `choose_precision`), not "auto"; `model` stays as it is."""
        network, half = inference_form(model), _HALF.get(precision)
        whole = is_folded(network)
        self._device = device
        self._autocast = None if whole else half
        self.dtype = half if half is not None and whole else torch.float32
        network = separate_pools(network) if device.type == "cpu" else rearrange_stem(network)
        self.model = in_half(network, self.dtype).to(device)
        self._memory_format = lay_out(self.model)
        form = "BatchNorm folded" if whole else "autocast" if half else "eager"
        self.description = f"torch {torch.__version__.split('+')[0]}, {device}, {precision}, {form}"
        self.facts = EngineFacts(backend="torch", device=str(device), precision=precision)

    def inputs(self, clips: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
        """(B, T, H, W, C) uint8, anywhere -> (B, C, T, H, W) on the device, normalised, as the network takes it."""
        inputs = normalise(clips.to(self._device, non_blocking=True), preprocessing)
        return inputs.to(self.dtype).contiguous(memory_format=self._memory_format)

    @torch.inference_mode()
    def call(self, network: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        """Call `network`, which is the model or a part of it, as the model is called."""
        if self._autocast is None:
            return network(*inputs)
        with torch.autocast(self._device.type, dtype=self._autocast):
            return network(*inputs)

    def run(self, network: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> NDArray[np.float32]:
        """Call `network`, which is the model or a part of it; return what it returns in float32."""
        return np.asarray(self.call(network, *inputs).float().cpu().numpy(), dtype=np.float32)


class TorchEngine:
    """PyTorch, eager or compiled."""

    def __init__(
        self,
        model: torch.nn.Module,
        spec: ModelSpec,
        device: torch.device,
        precision: Precision,
        *,
        mode: ModeName = "window",
        compiled: bool = False,
        stream: StreamName = "rgb",
    ) -> None:
        """Make an engine of a network.

        Args:
            model: With one input and one head; stays as it is.
            spec: Of the network; its preprocessing is how clips are made and normalised here.
            device: Where it runs.
            precision: One that the device has (see `choose_precision`), not "auto".
            mode: Whether it takes windows, or is carried along streams, which Inception I3D can be.
            compiled: Whether torch.compile makes kernels of its own, in window mode: tens of seconds at the first
                start.
            stream: Which input it sees.
        """
        made = spec.preprocessing
        frames = STEP_FRAMES if mode == "streaming" else made.clip_len
        self.clip_shape: ClipShape = (frames, *made.usual_frame_size, spec.in_channels)
        self._preprocessing, self._stream = made, stream
        self.network = MixedPrecision(model, device, precision)
        self.description, self.facts = self.network.description, self.network.facts
        backbone = Backbone(self.network.model)
        self._backbone: Callable[[torch.Tensor], torch.Tensor] = backbone
        self._carried: CarriedBackbone | None = None
        if mode == "streaming":
            self._carried = CarriedBackbone(cast(I3D, self.network.model), self.network)
            self.description += ", streaming"
        elif compiled:
            self._backbone = torch.compile(backbone)
            self.description += ", compiled"
            self.facts = structs.replace(self.facts, compiled=True)

    def make_ring(self, shape: RingShape) -> RingMemory:  # noqa: D102 (the protocol says it)
        return HostMemory(shape)

    def prepare(self, clips: Sequence[Frames], device_frames: Sequence[object] = ()) -> torch.Tensor:  # noqa: D102
        stacked = clips[0][None] if len(clips) == 1 else np.stack(clips)
        return self.network.inputs(torch.from_numpy(stacked), self._preprocessing)

    def run(self, batch: torch.Tensor, states: Sequence[State]) -> tuple[Features, list[State]]:  # noqa: D102
        if self._carried is not None:
            maps, after = self._carried.step(batch, states)
            return {self._stream: maps}, after
        return {self._stream: self.network.run(self._backbone, batch)}, [None] * len(states)


class CarriedBackbone:
    """An Inception I3D without its head that is carried along streams, each with a state of its own."""

    def __init__(self, model: I3D, network: MixedPrecision) -> None:
        """Args: `model` in the form in which it runs; `network` runs it."""
        self._streaming, self._network = StreamingI3D(model), network
        self._blanks: dict[torch.Size, StreamState] = {}

    def step(
        self, batch: torch.Tensor, states: Sequence[StreamState | None]
    ) -> tuple[NDArray[np.float32], list[StreamState]]:
        """Feed each camera its 8 frames; (B, C, 8, H, W) -> (B, h, w, features) float32, and the states after it."""
        maps, after = self._run(batch, stack([state or self._fresh(batch) for state in states]))
        return maps, after.split()

    def _fresh(self, batch: torch.Tensor) -> StreamState:
        """Return the state of a camera before its first frame; its sizes and types are found by one step."""
        one = batch[:1]
        if one.shape not in self._blanks:
            self._blanks[one.shape] = self._run(torch.zeros_like(one), None)[1].blank()
        return self._blanks[one.shape]

    def _run(self, batch: torch.Tensor, state: StreamState | None) -> tuple[NDArray[np.float32], StreamState]:
        after: list[StreamState] = []

        def newest_maps(frames: torch.Tensor) -> torch.Tensor:
            maps, new = self._streaming.step(frames, state)
            after.append(new)
            return last_step(maps)

        return self._network.run(newest_maps, batch), after[0]


def head_of(model: torch.nn.Module, spec: ModelSpec, labels: Sequence[str]) -> Head:
    """Return the last layer of a network with one head, at the temperature of its spec."""
    weights, bias, pool_side = head_arrays(model)
    return make_head(weights, bias, labels, spec.temperature, pool_side)


def load_torch_engine(setup: ModelSetup, mode: ModeName = "window") -> tuple[TorchEngine, PublishedHead]:
    """Load the weights and put them on the device.

    Raises:
        CheckpointError, LabelsError, DeviceError, ConfigError: What was asked for is missing or cannot be used.
    """
    device = choose_device(setup.config.device)
    precision = choose_precision(setup.config.precision, device)
    set_threads(setup.config.threads)
    model, spec = load_checkpoint(setup.path, setup.spec, setup.config.name)
    labels = label_names(setup.labels, spec)
    if mode == "streaming":
        check_carried(spec, setup.preprocessing, setup.model_name.checkpoint)  # other programs' files tell only now
    check_takes_rgb(setup, spec)
    spec = structs.replace(spec, preprocessing=setup.preprocessing)
    kind = TorchEngine
    if device.type == "cuda" and mode == "window":
        from stream_i3d.inference.cuda_engine import CudaEngine  # only there it is needed

        kind = CudaEngine
    engine = kind(model, spec, device, precision, mode=mode, compiled=setup.config.compile)
    return engine, PublishedHead({"rgb": head_of(model, spec, labels)})


def set_threads(asked: int) -> None:
    """Let torch use `asked` threads; 0: as many as this process may have cores, or what OMP_NUM_THREADS says.

    In a container torch counts the cores of the whole machine; more threads than cores wait for each other.
    """
    if asked:
        torch.set_num_threads(asked)
    elif "OMP_NUM_THREADS" not in os.environ and allowed_cores() < torch.get_num_threads():
        torch.set_num_threads(allowed_cores())


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; "auto" is the first CUDA GPU, else the CPU.

    Raises:
        DeviceError: This machine does not have it.
    """
    # A machine without a driver warns at every look; that there is none is an ordinary answer here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda:0" if gpus else "cpu")
    found = ["cpu", *(f"cuda:{index}" for index in range(gpus))]
    if name in found:
        return torch.device(name)
    if name == "cuda" and gpus:
        return torch.device("cuda:0")
    raise DeviceError(f"device {name!r}: this machine has {', '.join(found)}; use one of them, or auto")


def choose_precision(precision: Precision, device: torch.device) -> Precision:
    """Return the precision to run at; "auto" is the fastest that is safe on the device.

    Raises:
        DeviceError: The device does not have it.
    """
    allowed = _precisions(device)
    if precision == "auto":
        return allowed[0]
    if precision in allowed:
        return precision
    raise DeviceError(f"precision {precision!r}: {device} has {', '.join(allowed)}; use one of them, or auto")


def _precisions(device: torch.device) -> list[Precision]:
    """Return the precisions of a device, the one to prefer first."""
    if device.type == "cuda":
        return ["bf16", "fp16", "fp32"] if torch.cuda.is_bf16_supported() else ["fp16", "fp32"]
    return ["bf16", "fp32"] if cpu_has_bf16() else ["fp32"]


def cpu_has_bf16() -> bool:
    """Tell whether this CPU multiplies bf16 in hardware (AVX512-BF16 or AMX); emulated it is slower than fp32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
