"""Runs the network: uint8 clips in, float32 logits out, normalisation inside.

`Engine` is the whole of what the worker knows of inference; faster engines stand beside `TorchEngine` behind it.
One of the two places with autocast (the other is training).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from stream_i3d.config import TWO_STREAM, Precision
from stream_i3d.errors import CheckpointError, DeviceError
from stream_i3d.inference.setup import ModelSetup
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.labels import check_labels
from stream_i3d.models.memory_format import lay_out
from stream_i3d.preprocess import Preprocessing, normalise

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Engine(Protocol):
    """What runs a network. One thread uses it."""

    labels: tuple[str, ...]
    """One per output of the network."""

    description: str
    """What it is and where it runs, for people."""

    temperature: float
    """What logits are divided by before the softmax, so that probabilities mean what they say."""

    def prepare(self, clips: Sequence[NDArray[np.uint8]]) -> Any:
        """Take B clips of (T, H, W, C) uint8, as `Clip.frames`; afterwards their memory may be overwritten."""

    def logits(self, batch: Any) -> NDArray[np.float32]:
        """Run a prepared batch; return (B, num_classes) float32."""

    def warm_up(self, batch_sizes: Sequence[int]) -> None:
        """Run each batch size once, so that the first real window is not the slow one."""


class MixedPrecision:
    """A network on its device, run by eager PyTorch with mixed precision on clips of any streams."""

    def __init__(self, model: torch.nn.Module, device: torch.device, precision: Precision) -> None:
        """Args: `precision` must be one the device has (see `choose_precision`), not "auto"."""
        self.description = f"torch {torch.__version__.split('+')[0]}, {device}, {precision}"
        self._device = device
        self._autocast = _AUTOCAST.get(precision)
        self.model = model.eval().to(device)
        # Measured (DESIGN section 5): under bf16 autocast 272 ms a window, 145 ms with channels_last_3d.
        self._memory_format = torch.contiguous_format if self._autocast is None else lay_out(self.model)

    def inputs(self, clips: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
        """(B, T, H, W, C) uint8, anywhere -> (B, C, T, H, W) float32 on the device, normalised."""
        inputs = normalise(clips.to(self._device, non_blocking=True), preprocessing)
        return inputs.contiguous(memory_format=self._memory_format)

    @torch.inference_mode()
    def run(self, network: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> NDArray[np.float32]:
        """Call `network`, which is the model or a part of it; return what it returns in float32."""
        if self._autocast is None:
            return np.asarray(network(*inputs).cpu().numpy(), dtype=np.float32)
        with torch.autocast(self._device.type, dtype=self._autocast):
            outputs = network(*inputs)
        return np.asarray(outputs.float().cpu().numpy(), dtype=np.float32)


class TorchEngine:
    """Eager PyTorch with mixed precision."""

    def __init__(
        self,
        model: torch.nn.Module,
        labels: Sequence[str],
        preprocessing: Preprocessing,
        device: torch.device,
        precision: Precision,
        channels: int = 3,
        temperature: float = 1.0,
    ) -> None:
        """Args: `precision` must be one the device has (see `choose_precision`), not "auto"; `channels`: a clip's."""
        self.labels = tuple(labels)
        self.temperature = temperature
        self._preprocessing = preprocessing
        self._channels = channels
        self._network = MixedPrecision(model, device, precision)
        self.description = self._network.description

    def prepare(self, clips: Sequence[NDArray[np.uint8]]) -> torch.Tensor:  # noqa: D102 (the protocol says it)
        stacked = clips[0][None] if len(clips) == 1 else np.stack(clips)
        return self._network.inputs(torch.from_numpy(stacked), self._preprocessing)

    def logits(self, batch: torch.Tensor) -> NDArray[np.float32]:  # noqa: D102
        return self._network.run(self._network.model, batch)

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


def load_engine(setup: ModelSetup) -> Engine:
    """Load the weights and put them on the device.

    Raises:
        CheckpointError, LabelsError, DeviceError, ConfigError: What was asked for is not to be had.
    """
    if setup.flow is not None:
        from stream_i3d.inference.two_stream import load_two_stream  # it imports this module

        return load_two_stream(setup)
    device = choose_device(setup.config.device)
    precision = choose_precision(setup.config.precision, device)
    if setup.config.threads:
        torch.set_num_threads(setup.config.threads)
    model, spec = load_checkpoint(setup.path, setup.spec, setup.config.name)
    labels = setup.labels or spec.labels or tuple(f"class {index}" for index in range(spec.num_classes))
    check_labels(labels, spec.num_classes)
    if spec.in_channels != 3:
        raise CheckpointError(
            f"checkpoint {setup.model_name.checkpoint} takes {spec.in_channels} channels, a picture has 3: for optical "
            f"flow give it as --flow-checkpoint with --model {TWO_STREAM} and an RGB --checkpoint"
        )
    return TorchEngine(model, labels, setup.preprocessing, device, precision, temperature=spec.temperature)


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
