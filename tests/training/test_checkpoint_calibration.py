from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from stream_i3d.errors import CheckpointError, ConfigError
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.spec import read_spec
from stream_i3d.training.calibration import Calibration
from stream_i3d.training.checkpoint_calibration import calibrate_network, check_calibratable, store_calibration
from stream_i3d.training.config import TrainConfig
from stream_i3d.training.evaluation import load_network, videos_for, with_clips
from stream_i3d.training.sample import SampleKey
from tests.training.toy import toy_config

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


def test_a_temperature_is_stored_and_says_where_it_comes_from(checkpoint: Path) -> None:
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


def test_a_small_validation_set_is_told(checkpoint: Path) -> None:
    config = scenes(19)
    with pytest.raises(ConfigError, match="held-out scenes has 19 videos, and fewer than 20 say too little"):
        calibrate_network(load_network(str(checkpoint), config), config)
