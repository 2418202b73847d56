from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stream_i3d.training.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    calibrate,
    enough_samples,
    fit_temperature,
)
from stream_i3d.training.metrics import negative_log_likelihood


def drawn(samples: int, classes: int, sharpness: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that are right as often as softmax(logits / sharpness) says."""
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
def test_few_samples_say_nothing(samples: int, classes: int, enough: bool) -> None:
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
