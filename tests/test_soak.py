"""What the soak and the fault suite make of what they have seen (scripts/_faults), on made-up sightings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from _faults.growth import Sample, describe, slope_mb_h
from _faults.ledger import Entry, once, out_of_order
from _faults.passwords import contains


def life(seconds: float, mb_h: float, step_mb: float = 0.0, files: int = 20, more: int = 0) -> list[Sample]:
    """Return a process that grows steadily, with noise, a step in the middle, and `more` files in its last half."""
    rng = np.random.default_rng(1)
    return [
        Sample(
            at,
            int(1e8 + 1e6 * (mb_h * at / 3600 + rng.normal(0, 0.02) + step_mb * (at > seconds / 2))),
            files + more * (at > seconds / 2),
            4,
        )
        for at in np.arange(0.0, seconds, 3.0)
    ]


@pytest.mark.parametrize("mb_h", [0.0, 0.5, 5.0])
def test_growth_is_found_in_noise(mb_h: float) -> None:
    assert slope_mb_h(life(1200, mb_h)) == pytest.approx(mb_h, abs=0.15)


def test_a_stage_is_judged_by_its_longest_life_and_that_from_when_it_is_warm() -> None:
    warming = [Sample(at, int(at * 1e6), 5, 1) for at in range(60)]
    settled = [Sample(60.0 + one.at, one.rss, one.files, one.threads) for one in life(600, 0.0)]
    row = describe("worker", [life(100, 500.0), [*warming, *settled]], warm_up_s=60.0, least_s=300.0)
    assert row["lives"] == 2 and row["fitted_s"] == pytest.approx(600, abs=5)
    assert row["mb_per_hour"] == pytest.approx(0.0, abs=0.5)


def test_lives_that_are_too_short_are_not_fitted() -> None:
    row = describe("worker", [life(100, 500.0), life(200, 500.0)], warm_up_s=60.0, least_s=300.0)
    assert (row["mb_per_hour"], row["more_files"], row["fitted_s"]) == (None, None, 0)


def test_files_that_stay_open_are_counted() -> None:
    assert describe("worker", [life(600, 0.0, more=3)], 60.0, 300.0)["more_files"] == 3
    assert describe("worker", [life(600, 0.0)], 60.0, 300.0)["more_files"] == 0


def entries(camera: str, *ids: int) -> list[Entry]:
    return [Entry(camera, str(number), "start") for number in ids]


def test_order_counts_per_camera_and_repetitions_do_not() -> None:
    right = [*entries("a", 1, 2, 3), *entries("b", 1, 2)]
    assert out_of_order([*entries("b", 1), *entries("a", 1, 2, 1, 2, 3), *entries("b", 2)], right) == []
    assert out_of_order([*entries("a", 1, 3, 2), *entries("b", 1, 2)], right) == ["a"]
    assert once(entries("a", 1, 2, 1)) == entries("a", 1, 2)


@pytest.mark.parametrize("at", [0, 1000, (1 << 20) - 3, 1 << 20])
def test_a_password_is_found_wherever_it_stands(at: int, tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"x" * at + b"s3cret" + b"x" * 100)
    assert contains(file, [b"other", b"s3cret"])
    assert not contains(file, [b"s3cret!"])
