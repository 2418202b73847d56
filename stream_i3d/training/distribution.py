"""Device, precision and processes of a training, through Lightning Fabric.

Alone, or as one of the processes that torchrun started, on one host or several: which of them this is stands in the
environment. Does not know what is trained.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric import Fabric

from stream_i3d.config import Precision
from stream_i3d.errors import DeviceError
from stream_i3d.inference.engine import choose_device, choose_precision
from stream_i3d.training.config import RunConfig

_FABRIC_PRECISION: Mapping[Precision, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def make_fabric(config: RunConfig, environ: Mapping[str, str] = os.environ) -> Fabric:
    """Return the Fabric of this process, launched; with torchrun, all its processes must call this.

    Raises:
        DeviceError: The device or precision is not to be had here.
    """
    # Fabric greets with hints (GPU available, tips); ours are the words that a user should see.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    processes = int(environ.get("WORLD_SIZE", "1"))
    local = int(environ.get("LOCAL_WORLD_SIZE", "1"))
    device = choose_device(config.device)
    precision = training_precision(config.precision, device)
    if processes > 1 and device.type == "cuda" and torch.cuda.device_count() < local:
        raise DeviceError(
            f"torchrun started {local} processes here, but this machine has {torch.cuda.device_count()} GPUs: "
            "give --nproc-per-node at most that, or run.device=cpu"
        )
    fabric = Fabric(
        accelerator=device.type,
        devices=local if processes > 1 else ([device.index or 0] if device.type == "cuda" else 1),
        num_nodes=processes // local,
        strategy="ddp" if processes > 1 else "auto",
        precision=_FABRIC_PRECISION[precision],
    )
    fabric.launch()
    return fabric


def training_precision(precision: Precision, device: torch.device) -> Precision:
    """Return the precision to train at; "auto" is mixed on a GPU, and fp32 on a CPU.

    Raises:
        DeviceError: The device does not have it.
    """
    if precision == "auto" and device.type == "cpu":
        return "fp32"
    return choose_precision(precision, device)


def make_deterministic(device: torch.device) -> None:
    """Let every operation give the same result each time, at some cost; for this process, until it ends.

    A few operations have no such form on GPUs (max-pool's gradient in 3D): there torch warns of them and goes on.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
