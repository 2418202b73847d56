from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from stream_i3d.errors import ConfigError
from stream_i3d.training.config import LossConfig, OptimizerConfig, ScheduleConfig
from stream_i3d.training.optimisation import ClipLoss, make_average, make_optimizer, rate_at, set_rate


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(2, 2)
        self.body = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        self.head = nn.Linear(2, 3)


def rates(config: ScheduleConfig, epochs: float) -> list[float]:
    return [round(rate_at(config, epoch, epochs), 6) for epoch in range(int(epochs) + 1)]


def test_a_step_schedule_multiplies_at_each_milestone() -> None:
    config = ScheduleConfig(name="step", milestones=(2, 4), gamma=0.1)
    assert rates(config, 5) == [1, 1, 0.1, 0.1, 0.01, 0.01]


def test_cosine_and_linear_go_from_one_to_zero_after_the_warm_up() -> None:
    assert rates(ScheduleConfig(name="cosine"), 4) == [1, round(0.5 + math.sqrt(0.125), 6), 0.5, 0.146447, 0]
    assert rates(ScheduleConfig(name="linear", warmup=2, warmup_start=0.5), 4) == [0.5, 0.75, 1, 0.5, 0]
    assert rates(ScheduleConfig(name="constant"), 2) == [1, 1, 1]


def test_each_part_has_its_own_learning_rate_and_the_longest_name_counts() -> None:
    config = OptimizerConfig(name="sgd", lr=0.5, lr_factors={"body": 0.1, "body.1": 0.0, "head": 10})
    net = Net()
    optimizer = make_optimizer(net, config)
    assert set_rate(optimizer, config, share=0.5) == 0.25
    by_parameter = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert by_parameter[id(net.stem.weight)] == 0.25
    assert by_parameter[id(net.body[0].weight)] == pytest.approx(0.025)
    assert by_parameter[id(net.head.bias)] == 2.5
    assert id(net.body[1].weight) not in by_parameter  # a factor of 0 does not learn


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam)])
def test_the_optimiser_is_the_one_asked_for(name: str, kind: type) -> None:
    optimizer = make_optimizer(Net(), OptimizerConfig(name=name, weight_decay=0.3))
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["weight_decay"] == 0.3
    assert type(make_optimizer(Net(), OptimizerConfig(name="adamw"))) is torch.optim.AdamW


def test_a_part_that_is_none_and_a_network_that_cannot_learn_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"begins with 'haed' \(did you mean 'head'\?\)"):
        make_optimizer(Net(), OptimizerConfig(lr_factors={"haed": 1.0}))
    with pytest.raises(ConfigError, match="nothing of the network learns"):
        make_optimizer(Net().requires_grad_(False), OptimizerConfig())


def test_the_loss_of_a_batch_is_the_mean_of_those_of_its_parts_also_with_class_weights() -> None:
    targets = [0] * 8 + [1] * 2 + [2] * 2
    loss = ClipLoss(LossConfig(class_weights="balanced", label_smoothing=0.1), ("a", "b", "c"), targets)
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(12, 3, generator=generator), torch.tensor(targets)
    parts = [loss(logits[i : i + 3], labels[i : i + 3]) for i in range(0, 12, 3)]
    torch.testing.assert_close(loss(logits, labels), torch.stack(parts).mean())


def test_balanced_weights_make_every_class_count_alike() -> None:
    targets = [0] * 6 + [1] * 2
    loss = ClipLoss(LossConfig(class_weights="balanced"), ("a", "b"), targets)
    assert loss.weights is not None
    counted = [float(loss.weights[target]) for target in targets]
    assert sum(counted[:6]) == pytest.approx(sum(counted[6:]))
    assert sum(counted) == pytest.approx(len(targets))


def test_without_weights_the_loss_is_torchs_cross_entropy() -> None:
    logits, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    plain = ClipLoss(LossConfig(label_smoothing=0.2), ("a", "b", "c", "d"), labels.tolist())
    torch.testing.assert_close(plain(logits, labels), functional.cross_entropy(logits, labels, label_smoothing=0.2))


def test_weights_by_name_must_name_classes() -> None:
    with pytest.raises(ConfigError, match=r"no class 'wav' \(did you mean 'wave'\?\)"):
        ClipLoss(LossConfig(class_weights={"wav": 2.0}), ("wave", "nothing"), [0, 1])
    with pytest.raises(ConfigError, match="weighs 0"):
        ClipLoss(LossConfig(class_weights={"wave": 0.0}), ("wave", "nothing"), [0, 0])


def test_the_moving_average_follows_slowly_and_takes_statistics_along() -> None:
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    with torch.no_grad():
        net[0].weight.fill_(0.0)
    average = make_average(net, decay=0.5)
    average.update_parameters(net)
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[1].running_mean.fill_(8.0)
        net[1].num_batches_tracked.fill_(7)
    average.update_parameters(net)  # the first of these weighs by (1 + 1) / (10 + 1)
    assert average.module[0].weight.item() == pytest.approx(1 - 2 / 11)
    assert float(average.module[1].running_mean) == pytest.approx(8 * (1 - 2 / 11))
    assert int(average.module[1].num_batches_tracked) == 7
    for _ in range(30):
        average.update_parameters(net)
    before = average.module[0].weight.item()
    with torch.no_grad():
        net[0].weight.fill_(2.0)
    average.update_parameters(net)
    assert average.module[0].weight.item() == pytest.approx((before + 2.0) / 2)  # the decay asked for, in the end
