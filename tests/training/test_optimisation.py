from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from stream_i3d.errors import ConfigError
from stream_i3d.settings import convert_settings
from stream_i3d.training.config import LossConfig, OptimizerConfig, ScheduleConfig, TrainConfig, load_train_config
from stream_i3d.training.optimisation import (
    ClipLoss,
    make_average,
    make_optimizer,
    plan_updates,
    rate_at,
    set_rate,
    with_plan,
)


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
def test_the_optimiser_is_the_configured_one(name: str, kind: type) -> None:
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


AUTO: dict[str, dict[str, Any]] = {
    "schedule": {"warmup": "auto"},
    "loss": {"label_smoothing": "auto"},
    "run": {"batch_size": "auto", "accumulate": "auto", "epochs": 30},
}


def auto(**sections: dict[str, Any]) -> TrainConfig:
    return convert_settings(TrainConfig, {name: {**AUTO[name], **sections.get(name, {})} for name in AUTO})


@pytest.mark.parametrize(
    ("clips", "batch", "per_epoch"),
    [(40, 8, 5), (50, 8, 6), (20, 4, 5), (12, 4, 3), (3, 4, 1), (80, 16, 5), (79, 8, 9), (10_000, 16, 625)],
)
def test_a_batch_leaves_five_updates_an_epoch_where_it_can(clips: int, batch: int, per_epoch: int) -> None:
    plan = plan_updates(auto(), clips)
    assert (plan.batch_size, plan.per_epoch, plan.updates) == (batch, per_epoch, 30 * per_epoch)
    assert plan.batch_size // plan.accumulate <= 8
    assert plan.batch_size % plan.accumulate == 0


def test_what_the_user_gives_stays() -> None:
    config = auto(
        run={"batch_size": 32, "accumulate": 2, "epochs": 10},
        schedule={"warmup": 3.0},
        loss={"label_smoothing": 0.2},
    )
    plan = plan_updates(config, 40)
    assert (plan.batch_size, plan.accumulate, plan.warmup, plan.label_smoothing) == (32, 2, 3.0, 0.2)
    assert with_plan(config, plan) == config


def test_the_warm_up_is_an_epoch_a_tenth_of_the_run_or_500_updates_at_most() -> None:
    assert plan_updates(auto(), 40).warmup == 1.0
    assert plan_updates(auto(run={"epochs": 3}), 40).warmup == pytest.approx(0.3)
    assert plan_updates(auto(), 32_000).warmup == pytest.approx(0.25)  # 2,000 updates an epoch


def test_labels_are_smoothed_where_there_are_clips_enough() -> None:
    assert plan_updates(auto(), 499).label_smoothing == 0.0
    assert plan_updates(auto(), 500).label_smoothing == 0.1


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_processes_share_a_batch_evenly(processes: int) -> None:
    plan = plan_updates(auto(), 40, processes)
    assert plan.batch_size % (processes * plan.accumulate) == 0
    with pytest.raises(ConfigError, match="batch_size 7 cannot be shared by"):
        plan_updates(auto(run={"batch_size": 7}), 40, processes)


def test_given_parts_make_the_batch_a_multiple_of_them() -> None:
    plan = plan_updates(auto(run={"accumulate": 3}), 80)
    assert (plan.batch_size, plan.accumulate) == (15, 3)
    assert plan_updates(auto(run={"accumulate": 1}), 10_000).batch_size == 8


def test_the_plan_is_one_line() -> None:
    assert str(plan_updates(auto(), 40)) == (
        "batch 8, 5 updates an epoch, 150 in all, 5 of them to warm up, label smoothing 0"
    )
    assert "batch 16 in 2 parts, 6 updates an epoch" in str(plan_updates(auto(), 100))


@pytest.mark.parametrize("recipe", ["finetune", "finetune-kinetics-rgb", "finetune-kinetics-flow", "head-only"])
def test_the_recipes_for_own_clips_leave_the_batch_to_the_size_of_the_data(recipe: str) -> None:
    from stream_i3d.shipped_configs import shipped_configs

    plan = plan_updates(load_train_config(shipped_configs("train")[recipe]), 40)
    assert (plan.batch_size, plan.per_epoch) == (8, 5)
    assert plan.label_smoothing == 0


def test_settings_of_an_older_run_are_as_they_were() -> None:
    old = convert_settings(TrainConfig, {"run": {"batch_size": 16, "accumulate": 2}, "loss": {"label_smoothing": 0.1}})
    plan = plan_updates(old, 40)
    assert (plan.batch_size, plan.accumulate, plan.label_smoothing, plan.per_epoch) == (16, 2, 0.1, 2)


@pytest.mark.parametrize(
    ("setting", "given", "message"),
    [
        ("batch_size", "many", "expected a number or auto, got 'many'"),
        ("batch_size", 0, "expected int >= 1"),
        ("accumulate", "x", "or auto"),
    ],
)
def test_what_is_neither_a_number_nor_auto_is_refused(setting: str, given: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        convert_settings(TrainConfig, {"run": {setting: given}})
