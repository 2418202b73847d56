"""Device, precision and processes of a training, through Lightning Fabric, and BatchNorm over all processes.

A training runs in one process, or in the processes that torchrun started on one or more hosts; the environment tells
which of them this is. BatchNorm statistics are shared, because otherwise each process would normalise by its own part
of the batch and train another network than a single process would. torch.nn.SyncBatchNorm does this on GPUs only.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_functional
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stream_i3d.config import Precision
from stream_i3d.errors import DeviceError
from stream_i3d.inference.torch_engine import choose_device, choose_precision
from stream_i3d.training.config import RunConfig

_FABRIC_PRECISION: Mapping[Precision, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def make_fabric(config: RunConfig, environ: Mapping[str, str] = os.environ) -> Fabric:
    """Return the launched Fabric of this process; with torchrun, all of its processes must call this.

    Args:
        config: Device and precision.
        environ: Environment variables; WORLD_SIZE and LOCAL_WORLD_SIZE are set by torchrun.

    Raises:
        DeviceError: The device or precision is not available.
    """
    # Fabric logs hints about the device, which repeat what is printed here.
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
    """Return the precision to train in; "auto" is mixed precision on a GPU and fp32 on a CPU.

    Raises:
        DeviceError: The device does not support it.
    """
    if precision == "auto" and device.type == "cpu":
        return "fp32"
    return choose_precision(precision, device)


def make_deterministic(device: torch.device) -> None:
    """Make operations deterministic for the rest of this process, at some cost in speed.

    A few operations have no deterministic form on GPUs (the gradient of 3D max-pooling); torch warns about them.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")


class ProcessGroupBatchNorm(_BatchNorm):
    """A BatchNorm whose mean and variance are those of the joint batch of all processes.

    It has the parameters, buffers and names of the BatchNorm it replaces. All processes must have equal batch sizes.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"BatchNorm needs (B, C, ...), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape; in eval mode the same as the BatchNorm it replaces."""
        if not self.training or self.momentum is None:
            return super().forward(input)
        axes = (0, *range(2, input.ndim))
        x = input.float()
        shape = (1, -1, *[1] * (input.ndim - 2))
        mean = _average(x.mean(axes))  # (C,)
        centred = x - mean.view(shape)
        variance = _average(centred.square().mean(axes))  # two passes, because sums of squares lose precision
        self._track(mean.detach(), variance.detach(), x.numel() // x.shape[1] * dist.get_world_size())
        scaled = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            scaled = scaled * self.weight.view(shape) + self.bias.view(shape)
        return scaled.to(input.dtype)

    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.momentum is None:
            return
        with torch.no_grad():
            unbiased = variance * (count / max(count - 1, 1))
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)


def synchronise_batch_norm(model: nn.Module) -> nn.Module:
    """Replace every BatchNorm of a network by a `ProcessGroupBatchNorm`, in place; needs a process group."""
    for name, module in list(model.named_children()):
        if isinstance(module, _BatchNorm):
            setattr(model, name, _synchronised(module))
        else:
            synchronise_batch_norm(module)
    return model


def _synchronised(module: _BatchNorm) -> ProcessGroupBatchNorm:
    synchronised = ProcessGroupBatchNorm(
        module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
    )
    synchronised.load_state_dict(module.state_dict())
    for own, given in zip(synchronised.parameters(), module.parameters(), strict=True):
        own.requires_grad_(given.requires_grad)
    return synchronised.train(module.training)


def _average(value: Tensor) -> Tensor:
    """Return the mean over all processes; gradients flow back to each process."""
    reduced: Tensor = dist_functional.all_reduce(value)  # type: ignore[no-untyped-call]
    return reduced / dist.get_world_size()
