from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from stream_i3d.errors import ConfigError, TrainingError
from stream_i3d.inference import torch_engine
from stream_i3d.training.config import TrainConfig
from stream_i3d.training.distribution import make_fabric, training_precision
from stream_i3d.training.loop import Trainer, side_at
from stream_i3d.training.network import build_network, find_origin
from tests.convolutions import Convolutions
from tests.training.toy import PREPROCESSING, ToyDataset, toy_config


def trainer(config: TrainConfig, items: int = 8, dataset: ToyDataset | None = None) -> Trainer:
    torch.manual_seed(config.run.seed)
    data = dataset or ToyDataset(items)
    model, _ = build_network(config.model, find_origin(config.model), data.labels)
    return Trainer(config, make_fabric(config.run), model, PREPROCESSING, data)


def weights(run: Trainer) -> dict[str, torch.Tensor]:
    return {key: tensor.clone() for key, tensor in run.best_network.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


def losses(run: Trainer) -> list[float]:
    return [result.loss for result in run.steps()]


def test_a_run_makes_the_steps_of_its_epochs_and_learns() -> None:
    run = trainer(toy_config(run={"epochs": 16}, optimizer={"lr": 3e-3}), items=8)
    results = list(run.steps())
    assert [result.step for result in results] == list(range(1, 33))
    assert results[-1].epoch == 16
    assert run.done
    assert sum(result.loss for result in results[-4:]) < 0.5 * sum(result.loss for result in results[:4])
    logits, labels = run.validate(ToyDataset(7))
    assert logits.shape == (7, 2)
    assert labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert logits.argmax(1).tolist() == labels.tolist()


def test_a_part_of_an_epoch_counts() -> None:
    assert trainer(toy_config(run={"epochs": 1.5}), items=16).total_steps == 6


@pytest.mark.parametrize("more", [{}, {"ema": 0.9}, {"accumulate": 2}, {"clip_gradient": 0.1}])
def test_a_run_taken_up_again_ends_with_the_same_weights(more: dict[str, Any]) -> None:
    config = toy_config(run={"epochs": 3, **more}, schedule={"name": "cosine", "warmup": 1.0})
    unbroken = trainer(config)
    all_losses = losses(unbroken)
    first = trainer(config)
    steps = first.steps()
    before = [next(steps).loss for _ in range(3)]
    state = copy.deepcopy(first.state())
    second = trainer(config)
    second.restore(state)
    assert before + losses(second) == all_losses
    assert equal(weights(second), weights(unbroken))
    assert second.step == unbroken.step == 6


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    one, same, other = (trainer(toy_config(run={"seed": seed})) for seed in (5, 5, 6))
    for run in (one, same, other):
        losses(run)
    assert equal(weights(one), weights(same))
    assert not equal(weights(one), weights(other))


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    def config(accumulate: int) -> TrainConfig:
        # Frozen statistics: a BatchNorm that learns sees each part by itself.
        return toy_config(
            model={"width": 0.125, "options": {"dropout_keep_prob": 1.0}, "batch_norm": "frozen"},
            run={"accumulate": accumulate},
            optimizer={"name": "sgd", "lr": 0.01},
        )

    whole, parts = trainer(config(1)), trainer(config(4))
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-5)


def test_a_loss_that_is_no_number_ends_the_run_before_it_spoils_the_weights() -> None:
    run = trainer(toy_config(run={"epochs": 4}))
    steps = run.steps()
    next(steps)
    with torch.no_grad():
        run.network.get_parameter("logits.conv3d.bias")[0] = float("nan")
    before = {name: parameter.clone() for name, parameter in run.network.named_parameters()}
    with pytest.raises(TrainingError, match=r"the loss became nan at step 2 \(epoch 0\.50\): lower optimizer\.lr"):
        next(steps)
    for name, parameter in run.network.named_parameters():
        assert torch.equal(parameter, before[name]) or name == "logits.conv3d.bias"


def test_a_stop_request_is_in_the_result_of_the_step() -> None:
    run = trainer(toy_config())
    asked = iter([False, True])
    results = run.steps(lambda: next(asked))
    assert [next(results).stopping, next(results).stopping] == [False, True]


def test_clipping_bounds_what_a_step_can_do() -> None:
    def moved(limit: float | None) -> float:
        run = trainer(
            toy_config(optimizer={"name": "sgd", "lr": 1.0, "weight_decay": 0.0}, run={"clip_gradient": limit})
        )
        before = weights(run)
        next(run.steps())
        names = [name for name, _ in run.network.named_parameters()]
        return float(sum((weights(run)[name] - before[name]).square().sum() for name in names)) ** 0.5

    assert moved(0.01) == pytest.approx(0.01, rel=1e-3)
    assert moved(None) > 0.02


def test_the_moving_average_is_what_is_validated() -> None:
    run = trainer(toy_config(run={"ema": 0.99}))
    losses(run)
    assert run.best_network is not run.network
    assert not equal(weights(run), dict(run.network.state_dict()))


def test_clips_are_shrunken_in_the_first_part_of_a_run() -> None:
    stages = [(0.0, 48), (0.4, 64), (0.6, 80)]
    assert [side_at(stages, progress) for progress in (0, 0.39, 0.4, 0.7, 1)] == [48, 48, 64, 80, 80]
    assert side_at([(0.5, 48)], 0.2) is None
    assert side_at([], 0.5) is None


def test_two_streams_are_given_in_their_order() -> None:
    config = toy_config(model={"name": "two-stream-i3d", "width": 0.125})
    run = trainer(config, dataset=ToyDataset(8, streams=("rgb", "flow")))
    assert len(losses(run)) == 4


def test_several_clips_of_a_video_count_in_its_loss_and_are_averaged_in_validation() -> None:
    run = trainer(toy_config(), dataset=ToyDataset(8, clips=3))
    assert len(losses(run)) == 4
    logits, _ = run.validate(ToyDataset(5, clips=3))
    assert logits.shape == (5, 2)


def test_a_state_of_another_network_is_refused() -> None:
    state = trainer(toy_config()).state()
    with pytest.raises(TrainingError, match="of another network or optimiser"):
        trainer(toy_config(model={"width": 0.25})).restore(state)
    with pytest.raises(TrainingError, match="of another network or optimiser"):
        trainer(toy_config(run={"ema": 0.9})).restore(state)


def test_a_batch_that_cannot_be_shared_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="accumulate"):
        toy_config(run={"batch_size": 4, "accumulate": 3})


def test_training_on_a_cpu_is_fp32_by_default() -> None:
    assert training_precision("auto", torch.device("cpu")) == "fp32"


def test_training_in_bf16_on_clips_of_eight_frames_learns_without_a_kernel_over_one_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch_engine, "cpu_has_bf16", lambda: True)  # not in hardware, it is emulated, slowly
    config = toy_config(run={"precision": "bf16", "epochs": 12, "clip_gradient": 5.0}, optimizer={"lr": 3e-3})
    model, _ = build_network(config.model, find_origin(config.model), ToyDataset.labels)
    trainer = Trainer(config, make_fabric(config.run), model, PREPROCESSING, ToyDataset(8))
    with Convolutions() as seen:
        losses = [result.loss for result in trainer.steps()]
    assert seen.wasted == []
    assert seen.backward
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])  # a NaN is not below either
