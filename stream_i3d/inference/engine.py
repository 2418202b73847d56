"""Runs the network: uint8 clips in, float32 logits out, normalisation inside.

`Engine` is the whole of what the worker knows of inference; faster engines stand beside `TorchEngine` behind it.
One of the two places with autocast (the other is training).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from stream_i3d.config import Precision
from stream_i3d.errors import DeviceError
from stream_i3d.inference.setup import ModelSetup
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.labels import check_labels
from stream_i3d.models.registry import build_model
from stream_i3d.preprocess import Preprocessing, normalise

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Engine(Protocol):
    """What runs a network. One thread uses it."""

    labels: tuple[str, ...]
    """One per output of the network."""

    description: str
    """What it is and where it runs, for people."""

    def prepare(self, clips: Sequence[NDArray[np.uint8]]) -> Any:
        """Take B clips of (T, H, W, 3) uint8 RGB; afterwards their memory may be overwritten."""

    def logits(self, batch: Any) -> NDArray[np.float32]:
        """Run a prepared batch; return (B, num_classes) float32."""

    def warm_up(self, batch_sizes: Sequence[int]) -> None:
        """Run each batch size once, so that the first real window is not the slow one."""


class TorchEngine:
    """Eager PyTorch with mixed precision."""

    def __init__(
        self,
        model: torch.nn.Module,
        labels: Sequence[str],
        preprocessing: Preprocessing,
        device: torch.device,
        precision: Precision,
    ) -> None:
        """Args: `precision` must be one the device has (see `choose_precision`), not "auto"."""
        self.labels = tuple(labels)
        self.description = f"torch {torch.__version__.split('+')[0]}, {device}, {precision}"
        self._preprocessing = preprocessing
        self._device = device
        self._autocast = _AUTOCAST.get(precision)
        self._model = model.eval().to(device)
        if self._autocast is not None:
            # Measured (DESIGN section 5): under bf16 autocast 272 ms a window, 145 ms with channels_last_3d.
            self._model = self._model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def prepare(self, clips: Sequence[NDArray[np.uint8]]) -> torch.Tensor:  # noqa: D102 (the protocol says it)
        stacked = clips[0][None] if len(clips) == 1 else np.stack(clips)
        inputs = normalise(torch.from_numpy(stacked).to(self._device), self._preprocessing)  # (B, 3, T, H, W)
        if self._autocast is not None:
            return inputs.contiguous(memory_format=torch.channels_last_3d)
        return inputs.contiguous()

    @torch.inference_mode()
    def logits(self, batch: torch.Tensor) -> NDArray[np.float32]:  # noqa: D102
        if self._autocast is None:
            return np.asarray(self._model(batch).cpu().numpy(), dtype=np.float32)
        with torch.autocast(self._device.type, dtype=self._autocast):
            outputs = self._model(batch)
        return np.asarray(outputs.float().cpu().numpy(), dtype=np.float32)

    def warm_up(self, batch_sizes: Sequence[int]) -> None:  # noqa: D102
        size, frames = self._preprocessing.crop_size, self._preprocessing.clip_len
        clip = np.zeros((frames, size, size, 3), np.uint8)
        for count in batch_sizes:
            self.logits(self.prepare([clip] * count))


def load_engine(setup: ModelSetup) -> Engine:
    """Load the weights and put them on the device.

    Raises:
        CheckpointError, LabelsError, DeviceError, ConfigError: What was asked for is not to be had.
    """
    device = choose_device(setup.config.device)
    precision = choose_precision(setup.config.precision, device)
    if setup.config.threads:
        torch.set_num_threads(setup.config.threads)
    if setup.spec is None:  # the name alone says what to build; a typo is told before the weights are read
        build_model(setup.config.name)
    model, spec = load_checkpoint(setup.path, setup.spec)
    labels = setup.labels or spec.labels or tuple(f"class {index}" for index in range(spec.num_classes))
    check_labels(labels, spec.num_classes)
    return TorchEngine(model, labels, setup.preprocessing, device, precision)


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
