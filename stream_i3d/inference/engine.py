"""Runs the network: uint8 clips in, float32 logits out, normalisation inside.

`Engine` is the whole of what the worker knows of inference. PyTorch's engines stand here and in cuda_engine.py, those
of other libraries in graphs/engine.py; backends.py chooses. One of two places with autocast (the other is training).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.config import Precision
from stream_i3d.errors import DeviceError
from stream_i3d.inference.cores import allowed_cores
from stream_i3d.inference.setup import ModelSetup, check_takes_rgb, label_names
from stream_i3d.messages import EngineFacts
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.folding import in_half, inference_form, is_folded, separate_pools
from stream_i3d.models.memory_format import lay_out
from stream_i3d.models.spec import ModelSpec
from stream_i3d.models.stem import rearrange_stem
from stream_i3d.preprocess import Preprocessing, normalise

if TYPE_CHECKING:
    from stream_i3d.inference.selfcheck.checked import SelfCheck

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Engine(Protocol):
    """What runs a network. One thread uses it."""

    labels: tuple[str, ...]
    """One per output of the network."""

    description: str
    """What it is and where it runs, for people."""

    facts: EngineFacts
    """The same as fields."""

    temperature: float
    """What logits are divided by before the softmax, so that probabilities mean what they say."""

    def prepare(self, clips: Sequence[NDArray[np.uint8]]) -> Any:
        """Take B clips of (T, H, W, C) uint8, as `Clip.frames`; afterwards their memory may be overwritten."""

    def logits(self, batch: Any) -> NDArray[np.float32]:
        """Run a prepared batch; return (B, num_classes) float32."""

    def warm_up(self, batch_sizes: Sequence[int]) -> None:
        """Run each batch size once, so that the first real window is not the slow one."""


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
        labels: Sequence[str],
        device: torch.device,
        precision: Precision,
        compiled: bool = False,
    ) -> None:
        """Make an engine of a network.

        Args:
            model: Stays as it is.
            spec: Of the network; its preprocessing is how clips are made and normalised here.
            labels: One per output of the network.
            device: Where it runs.
            precision: One that the device has (see `choose_precision`), not "auto".
            compiled: Whether torch.compile makes kernels of its own: tens of seconds at the first start.
        """
        self.labels = tuple(labels)
        self.temperature = spec.temperature
        self.self_check: SelfCheck | None = None
        self._preprocessing = spec.preprocessing
        self._channels = spec.in_channels
        self._network = MixedPrecision(model, device, precision)
        self._forward: Callable[..., torch.Tensor] = self._network.model
        self.description, self.facts = self._network.description, self._network.facts
        if compiled:
            self._forward = torch.compile(self._network.model)
            self.description += ", compiled"
            self.facts = structs.replace(self.facts, compiled=True)

    def prepare(self, clips: Sequence[NDArray[np.uint8]]) -> torch.Tensor:  # noqa: D102 (the protocol says it)
        stacked = clips[0][None] if len(clips) == 1 else np.stack(clips)
        return self._network.inputs(torch.from_numpy(stacked), self._preprocessing)

    def logits(self, batch: torch.Tensor) -> NDArray[np.float32]:  # noqa: D102
        return self._network.run(self._forward, batch)

    @property
    def feature_channels(self) -> int:
        """Length of what `features` returns for a clip."""
        return int(getattr(self._network.model, "feature_channels"))  # noqa: B009 (torch types it as a Tensor or a Module)

    def features(self, batch: torch.Tensor) -> NDArray[np.float32]:
        """Run a prepared batch; return what the head sees, averaged over time and space: (B, features) float32."""
        extract: Callable[[torch.Tensor], torch.Tensor] = getattr(self._network.model, "extract_features")  # noqa: B009
        return self._network.run(lambda clips: extract(clips).float().mean(dim=(2, 3, 4)), batch)

    def warm_up(self, batch_sizes: Sequence[int]) -> None:  # noqa: D102
        size, frames = self._preprocessing.crop_size, self._preprocessing.clip_len
        clip = np.zeros((frames, size, size, self._channels), np.uint8)
        for count in batch_sizes:
            self.logits(self.prepare([clip] * count))


def load_torch_engine(setup: ModelSetup) -> TorchEngine:
    """Load the weights and put them on the device.

    Raises:
        CheckpointError, LabelsError, DeviceError, ConfigError: What was asked for is not to be had.
    """
    device = choose_device(setup.config.device)
    precision = choose_precision(setup.config.precision, device)
    set_threads(setup.config.threads)
    model, spec = load_checkpoint(setup.path, setup.spec, setup.config.name)
    labels = label_names(setup.labels, spec)
    check_takes_rgb(setup, spec)
    spec = structs.replace(spec, preprocessing=setup.preprocessing)
    kind = TorchEngine
    if device.type == "cuda":
        from stream_i3d.inference.cuda_engine import CudaEngine  # it imports this module

        kind = CudaEngine
    return kind(model, spec, labels, device, precision, setup.config.compile)


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
