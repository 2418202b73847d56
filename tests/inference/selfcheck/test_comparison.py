from __future__ import annotations

import numpy as np
import pytest

from stream_i3d.inference.selfcheck.comparison import (
    INT8,
    TOLERANCES,
    Attempt,
    Difference,
    attempts,
    compare,
    tolerance_of,
    worst,
)

BF16 = TOLERANCES["bf16"]
REFERENCE = np.array([[4.0, 1.0, 0.0, -2.0], [0.0, 3.0, 2.0, -1.0]], np.float32)


def way(backend: str, precision: str = "fp32", device: str = "cpu", compiled: bool = False) -> Attempt:
    return Attempt(backend=backend, precision=precision, device=device, compiled=compiled)  # type: ignore[arg-type]


def test_the_same_logits_are_no_difference() -> None:
    found = compare(REFERENCE, REFERENCE.copy(), 1.0)
    assert found == Difference(finite=True, probability=0.0, logits=0.0)
    assert found.within(TOLERANCES["fp32"])


def test_what_all_logits_of_a_row_have_in_common_makes_no_difference() -> None:
    found = compare(REFERENCE, REFERENCE + 3, 1.0)
    assert found.probability == pytest.approx(0, abs=1e-6)
    assert found.logits == pytest.approx(0, abs=1e-6)


def test_a_difference_is_measured_in_probabilities_and_in_the_deviation_of_the_logits() -> None:
    other = REFERENCE.copy()
    other[0] = [1.0, 4.0, 0.0, -2.0]  # the first two of a row changed about
    found = compare(REFERENCE, other, 1.0)
    exponentials = np.exp(REFERENCE[0])
    assert found.probability == pytest.approx(float((exponentials[0] - exponentials[1]) / exponentials.sum()), abs=1e-6)
    centred = REFERENCE - REFERENCE.mean(axis=1, keepdims=True)
    assert found.logits == pytest.approx(float(np.sqrt(18 / 8) / np.sqrt((centred**2).mean())), rel=1e-5)
    assert not found.within(BF16)
    assert compare(REFERENCE, other, 1000.0).probability == pytest.approx(0.00075, abs=1e-5)  # the temperature counts


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_within(bad: float) -> None:
    found = REFERENCE.copy()
    found[1, 2] = bad
    for reference in (REFERENCE, None):
        difference = compare(reference, found, 1.0)
        assert difference == Difference(finite=False)
        assert not difference.within(INT8)
        assert str(difference) == "its output is not finite"


def test_without_a_reference_finite_output_is_all_that_is_demanded() -> None:
    difference = compare(None, REFERENCE, 1.0)
    assert difference == Difference(finite=True)
    assert difference.within(TOLERANCES["fp32"])


def test_a_network_that_is_sure_of_nothing_is_told_by_its_logits() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(0, 0.02, (2, 10)).astype(np.float32)
    garbage = rng.normal(0, 0.02, (2, 10)).astype(np.float32)
    difference = compare(flat, garbage, 1.0)
    assert difference.probability is not None
    assert difference.probability < BF16.probability
    assert not difference.within(BF16)


def test_heads_of_zeros_and_of_a_single_class_can_be_compared() -> None:
    zeros = np.zeros((2, 3), np.float32)
    assert compare(zeros, zeros, 1.0).within(TOLERANCES["fp32"])
    single = np.array([[2.0], [3.0]], np.float32)
    assert compare(single, single, 1.0).within(BF16)


def test_the_worst_of_several_counts() -> None:
    every = [Difference(finite=True, probability=0.1, logits=0.3), Difference(finite=True, probability=0.2, logits=0.1)]
    assert worst(every) == Difference(finite=True, probability=0.2, logits=0.3)
    assert worst([*every, Difference(finite=False)]) == Difference(finite=False)
    assert worst([Difference(finite=True)]) == Difference(finite=True)


def test_each_precision_has_its_tolerance_and_int8_its_own() -> None:
    assert [tolerance_of(precision, False) for precision in ("fp32", "fp16", "bf16")] == [
        TOLERANCES["fp32"],
        TOLERANCES["fp16"],
        BF16,
    ]
    assert tolerance_of("bf16", True) == tolerance_of("fp32", True) == INT8
    limits = [TOLERANCES["fp32"].logits, TOLERANCES["fp16"].logits, BF16.logits, INT8.logits]
    assert limits == sorted(limits)


@pytest.mark.parametrize(
    ("first", "others", "order"),
    [
        (way("openvino", "bf16"), ["torch"], [way("openvino", "bf16"), way("openvino"), way("torch")]),
        (way("openvino"), ["torch"], [way("openvino"), way("torch")]),
        (way("torch", "bf16"), [], [way("torch", "bf16"), way("torch")]),
        (way("torch"), [], [way("torch")]),
        (
            way("torch", "bf16", compiled=True),
            [],
            [way("torch", "bf16", compiled=True), way("torch", compiled=True), way("torch")],
        ),
        (
            way("torch", "bf16", "cuda:0"),
            [],
            [way("torch", "bf16", "cuda:0"), way("torch", device="cuda:0"), way("torch")],
        ),
        (
            way("tensorrt", "fp16", "cuda:1"),
            ["torch"],
            [
                way("tensorrt", "fp16", "cuda:1"),
                way("tensorrt", device="cuda:1"),
                way("torch", device="cuda:1"),
                way("torch"),
            ],
        ),
        (way("onnxruntime"), ["openvino"], [way("onnxruntime"), way("openvino")]),
        (way("openvino", "bf16"), [], [way("openvino", "bf16"), way("openvino")]),
    ],
)
def test_the_order_is_the_same_backend_in_fp32_then_others_then_the_cpu(
    first: Attempt, others: list[str], order: list[Attempt]
) -> None:
    assert list(attempts(first, others)) == order  # type: ignore[arg-type]
