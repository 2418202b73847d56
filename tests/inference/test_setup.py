from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stream_i3d.config import ModelConfig, WindowConfig
from stream_i3d.errors import CheckpointError, ConfigError, LabelsError
from stream_i3d.inference.setup import settle_model
from stream_i3d.preprocess import Preprocessing


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A file of another program: it says nothing of itself."""
    path = tmp_path / "rgb_imagenet.pt"
    torch.save({"a": torch.zeros(1)}, path)
    return path


def test_the_checkpoints_own_preprocessing_is_taken(tiny_checkpoint: Path) -> None:
    setup = settle_model(ModelConfig(checkpoint=str(tiny_checkpoint)), WindowConfig())
    assert setup.preprocessing == Preprocessing(short_side=40, crop_size=32)
    assert setup.spec is not None
    assert setup.spec.num_classes == 10
    assert setup.labels is None


def test_window_settings_lie_over_the_checkpoints(tiny_checkpoint: Path) -> None:
    window = WindowConfig(clip_len=24, frame_interval=2, sample_fps=12.5)
    setup = settle_model(ModelConfig(checkpoint=str(tiny_checkpoint)), window)
    assert setup.preprocessing == Preprocessing(
        short_side=40, crop_size=32, clip_len=24, frame_interval=2, sample_fps=12.5
    )


def test_each_window_setting_lies_over_by_itself(tiny_checkpoint: Path) -> None:
    setup = settle_model(ModelConfig(checkpoint=str(tiny_checkpoint)), WindowConfig(sample_fps=10.0))
    assert setup.preprocessing == Preprocessing(short_side=40, crop_size=32, sample_fps=10.0)


def test_another_programs_file_is_given_the_published_preprocessing(foreign: Path) -> None:
    setup = settle_model(ModelConfig(checkpoint=str(foreign)), WindowConfig())
    assert setup.spec is None
    assert setup.preprocessing == Preprocessing()


def test_the_published_name_is_the_files_and_never_its_path(tiny_checkpoint: Path) -> None:
    setup = settle_model(ModelConfig(checkpoint=str(tiny_checkpoint)), WindowConfig())
    assert (setup.model_name.name, setup.model_name.checkpoint) == ("i3d", "tiny.safetensors")


def test_labels_that_are_asked_for_are_read(foreign: Path) -> None:
    setup = settle_model(ModelConfig(checkpoint=str(foreign), labels="kinetics400"), WindowConfig())
    assert setup.labels is not None
    assert len(setup.labels) == 400


def test_labels_of_another_length_than_the_network_are_told_at_once(tiny_checkpoint: Path) -> None:
    with pytest.raises(LabelsError, match="400 labels do not fit a network of 10 classes"):
        settle_model(ModelConfig(checkpoint=str(tiny_checkpoint), labels="kinetics400"), WindowConfig())


def test_an_unknown_label_list_is_told(tiny_checkpoint: Path) -> None:
    with pytest.raises(LabelsError, match=r"'kinetics40' \(did you mean 'kinetics400'\?\)"):
        settle_model(ModelConfig(checkpoint=str(tiny_checkpoint), labels="kinetics40"), WindowConfig())


def test_a_checkpoint_of_another_architecture_is_told_with_the_flag_to_use(tiny_checkpoint: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^model\.name 's3d': checkpoint tiny\.safetensors is of architecture 'i3d'; use --model i3d"
    ):
        settle_model(ModelConfig(name="s3d", checkpoint=str(tiny_checkpoint)), WindowConfig())


def test_a_missing_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist or is not a file"):
        settle_model(ModelConfig(checkpoint=str(tmp_path / "none.pt")), WindowConfig())


def test_a_checkpoint_cut_short_is_told(tiny_checkpoint: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(tiny_checkpoint.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        settle_model(ModelConfig(checkpoint=str(cut)), WindowConfig())


def test_settling_does_not_import_torch(tiny_checkpoint: Path) -> None:
    code = (
        "import sys\n"
        "from stream_i3d.config import ModelConfig, WindowConfig\n"
        "from stream_i3d.inference.setup import settle_model\n"
        "settle_model(ModelConfig(checkpoint=sys.argv[1]), WindowConfig())\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_checkpoint)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"
