"""BatchNorm over all processes of a distributed training, on any device.

Without it each process would normalise by its own part of a batch, and two processes would train another network than
one. torch.nn.SyncBatchNorm does this on GPUs only.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_functional
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class ProcessGroupBatchNorm(_BatchNorm):
    """A BatchNorm whose mean and variance are those of the batches of all processes together.

    The same parameters, buffers and names as the BatchNorm it is made of. All processes must have equal batches.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"BatchNorm needs (B, C, ...), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape; as the BatchNorm it is made of when not training."""
        if not self.training or self.momentum is None:
            return super().forward(input)
        axes = (0, *range(2, input.ndim))
        x = input.float()
        shape = (1, -1, *[1] * (input.ndim - 2))
        mean = _average(x.mean(axes))  # (C,)
        centred = x - mean.view(shape)
        variance = _average(centred.square().mean(axes))  # two passes: sums of squares lose digits
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
    """Replace every BatchNorm of a network by one over all processes; to be called once a process group exists."""
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
    """Return the mean over all processes, through which gradients flow back to each."""
    reduced: Tensor = dist_functional.all_reduce(value)  # type: ignore[no-untyped-call]
    return reduced / dist.get_world_size()
