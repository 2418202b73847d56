from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stream_i3d.errors import CheckpointError, ConfigError
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.spec import read_spec
from stream_i3d.training.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    Calibration,
    calibrate,
    calibrate_network,
    check_calibratable,
    enough_samples,
    fit_temperature,
    store_calibration,
)
from stream_i3d.training.config import TrainConfig
from stream_i3d.training.evaluation import load_network, videos_for, with_clips
from stream_i3d.training.loading import SampleKey
from stream_i3d.training.metrics import negative_log_likelihood
from tests.training.toy import toy_config


def drawn(samples: int, classes: int, sharpness: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that are calibrated at temperature `sharpness`."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(samples, classes, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    return logits * sharpness, labels


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_how_much_too_sure_a_network_is(sharpness: float) -> None:
    temperature = fit_temperature(*drawn(4000, 5, sharpness))
    assert temperature == pytest.approx(sharpness, rel=0.08)


def test_no_other_temperature_is_likelier() -> None:
    logits, labels = drawn(300, 4, 2.0, seed=3)
    temperature = fit_temperature(logits, labels)
    assert temperature is not None

    def loss(value: float) -> float:
        return negative_log_likelihood((logits.double() / value).softmax(dim=1), labels)

    grid = [math.exp(step / 50) for step in range(round(50 * math.log(0.25)), round(50 * math.log(20)))]
    assert loss(temperature) <= min(map(loss, grid)) + 1e-9


def test_the_surer_the_network_the_higher_its_temperature() -> None:
    logits, labels = drawn(500, 3)
    fitted = [fit_temperature(logits * factor, labels) for factor in (0.5, 1.0, 2.0, 4.0)]
    assert all(one is not None for one in fitted)
    assert fitted == sorted(fitted)  # type: ignore[type-var]
    assert fitted[3] == pytest.approx(8 * fitted[0], rel=1e-3)  # type: ignore[operator]


def test_a_network_that_is_always_right_is_not_made_sure_without_end() -> None:
    labels = torch.arange(4).repeat(10)
    assert fit_temperature(torch.nn.functional.one_hot(labels).float(), labels) == pytest.approx(MIN_TEMPERATURE)


def test_a_network_that_is_sure_and_always_wrong_is_heard_no_more_than_needed() -> None:
    labels = torch.arange(4).repeat(10)
    wrong = 50 * torch.nn.functional.one_hot((labels + 1) % 4).float()
    assert fit_temperature(wrong, labels) == pytest.approx(MAX_TEMPERATURE)


@pytest.mark.parametrize(
    ("samples", "classes", "enough"),
    [(19, 2, False), (20, 2, True), (20, 11, False), (22, 11, True), (799, 400, False)],
)
def test_few_samples_give_no_temperature(samples: int, classes: int, enough: bool) -> None:
    logits, labels = drawn(samples, classes)
    assert enough_samples(samples, classes) is enough
    assert (fit_temperature(logits, labels) is not None) is enough
    assert (calibrate(logits, labels) is not None) is enough


def test_a_fit_tells_what_it_changes() -> None:
    logits, labels = drawn(2000, 5, 3.0)
    found = calibrate(logits, labels, before=2.0)
    assert found is not None
    assert (found.samples, found.before) == (2000, 2.0)
    assert found.temperature == pytest.approx(3.0, rel=0.08)
    assert found.ece < 0.03 < found.ece_before
    assert found.nll < found.nll_before
    again = calibrate(logits, labels, before=found.temperature)
    assert again is not None
    assert again.ece_before == pytest.approx(found.ece, abs=1e-4)


def test_half_precision_logits_are_fitted_in_double() -> None:
    logits, labels = drawn(2000, 5, 3.0)
    assert fit_temperature(logits.bfloat16(), labels) == pytest.approx(fit_temperature(logits, labels), rel=0.01)


FOUND = Calibration(temperature=1.375, before=1.0, samples=40, ece_before=0.2, ece=0.05, nll_before=0.9, nll=0.7)


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_checkpoint, tmp_path / "own.safetensors"))


def scenes(held_out: int, **data: Any) -> TrainConfig:
    return toy_config(
        data={"source": "scenes", "scenes": {"held_out": held_out, "size": [64, 48]}, **data},
        clip={"clip_len": None, "short_side": None, "crop_size": None},
        run={"precision": "fp32"},
    )


def test_a_temperature_is_stored_with_its_origin(checkpoint: Path) -> None:
    before, weights = read_spec(checkpoint), load_checkpoint(checkpoint)[0].state_dict()
    told = store_calibration(str(checkpoint), FOUND, "val.csv")
    spec = read_spec(checkpoint)
    assert spec is not None and before is not None
    assert (before.temperature, spec.temperature) == (1.0, 1.375)
    assert (spec.calibration, spec.calibrated, spec.min_confidence) == ("validation", True, None)
    assert spec.provenance["calibration"] == told
    assert "20.0% -> 5.0%" in told and "on 40 clips of val.csv" in told
    after = load_checkpoint(checkpoint)[0].state_dict()
    assert all(torch.equal(after[key], weights[key]) for key in weights)


def test_what_comes_with_the_package_is_not_written_to() -> None:
    with pytest.raises(CheckpointError, match=r"motion comes with the package .* weights convert motion --output"):
        check_calibratable("motion")


def test_a_file_without_a_spec_has_no_place_for_a_temperature(checkpoint: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.pt"
    torch.save(load_checkpoint(checkpoint)[0].state_dict(), foreign)
    with pytest.raises(CheckpointError, match=r"foreign\.pt has no place for a temperature"):
        check_calibratable(str(foreign))
    check_calibratable(str(checkpoint))


def test_one_clip_of_each_video_of_the_validation_set_is_looked_at_and_nothing_changed(checkpoint: Path) -> None:
    config, content = scenes(20), checkpoint.read_bytes()
    network = load_network(str(checkpoint), config)
    found = calibrate_network(network, config)
    assert found.samples == 20
    assert found.before == 1.0
    dataset = videos_for(network, with_clips(config, 1, 1), None)
    clips = torch.cat([dataset[SampleKey(0, index)]["clips"]["rgb"] for index in range(20)])
    logits = network.logits({"rgb": clips})
    own = torch.nn.functional.cross_entropy(logits, torch.tensor(dataset.targets))
    assert found.nll_before == pytest.approx(float(own), rel=1e-4)
    assert found.nll <= found.nll_before
    assert checkpoint.read_bytes() == content
    assert network.spec.temperature == 1.0


def test_a_small_validation_set_is_an_error(checkpoint: Path) -> None:
    config = scenes(19)
    with pytest.raises(ConfigError, match="held-out scenes has 19 videos, and fewer than 20 say too little"):
        calibrate_network(load_network(str(checkpoint), config), config)
