from __future__ import annotations

from typing import Any

import pytest

from stream_i3d.errors import ConfigError
from stream_i3d.settings import convert_settings
from stream_i3d.training.config import TrainConfig, load_train_config
from stream_i3d.training.update_plan import plan_updates, with_plan

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
