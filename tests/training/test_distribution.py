from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from stream_i3d.training.distribution import ProcessGroupBatchNorm, synchronise_batch_norm

PROCESSES = 2


def batch() -> torch.Tensor:
    return torch.randn(6, 3, 2, 4, 4, generator=torch.Generator().manual_seed(4)) * 3 + 5


def network() -> nn.Module:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4, eps=1e-3, momentum=0.1), nn.ReLU())
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([1.0, 2.0, 0.5, -1.0]))
        net[1].bias.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    return net.train()


def outcome(net: nn.Module, x: torch.Tensor, share: float) -> dict[str, torch.Tensor]:
    x = x.clone().requires_grad_(True)
    y = net(x)
    (y.square().sum() * share).backward()
    assert x.grad is not None
    found = {"y": y.detach(), "x": x.grad, **net.state_dict()}
    return found | {f"grad {name}": parameter.grad for name, parameter in net.named_parameters()}


def member(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=PROCESSES)
    net = synchronise_batch_norm(network())
    part = batch().chunk(PROCESSES)[rank]
    torch.save(outcome(net, part, share=1.0), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_normalise_and_learn_as_one_with_the_whole_batch(tmp_path: Path) -> None:
    mp.spawn(member, (str(tmp_path),), nprocs=PROCESSES)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]
    whole = outcome(network(), batch(), share=1.0)
    for key in ("y", "x"):
        torch.testing.assert_close(torch.cat([part[key] for part in parts]), whole[key], atol=1e-4, rtol=1e-4)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(parts[0][f"1.{name}"], whole[f"1.{name}"])
        torch.testing.assert_close(parts[1][f"1.{name}"], whole[f"1.{name}"])
    for key in whole:
        if key.startswith("grad"):
            torch.testing.assert_close(parts[0][key] + parts[1][key], whole[key], atol=1e-3, rtol=1e-4)


def test_names_values_and_what_learns_stay_as_they_were() -> None:
    net = network()
    net[1].weight.requires_grad_(False)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    synchronised = synchronise_batch_norm(net)
    assert isinstance(synchronised[1], ProcessGroupBatchNorm)
    torch.testing.assert_close(dict(synchronised.state_dict()), before)
    assert not synchronised[1].weight.requires_grad
    assert synchronised[1].bias.requires_grad


def test_in_evaluation_it_is_the_batch_norm_it_was_made_of() -> None:
    net, x = network(), batch()
    net(x)
    expected = net.eval()(x)
    torch.testing.assert_close(synchronise_batch_norm(net).eval()(x), expected)
