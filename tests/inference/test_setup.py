from __future__ import annotations

from pathlib import Path
from typing import Literal
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
import torch
from msgspec import structs

from stream_i3d.config import Config, IdleConfig, ModelConfig, WindowConfig
from stream_i3d.errors import CheckpointError, ConfigError, LabelsError
from stream_i3d.inference.graphs.file import encode_head, graph_metadata
from stream_i3d.inference.setup import calibration_note, settle_model, with_checkpoint_threshold
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.registry import build_model
from stream_i3d.models.spec import ModelSpec
from stream_i3d.preprocess import Preprocessing
from tests.fresh_process import printed_by


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


STREAMING = WindowConfig(mode="streaming")


def refused(model: ModelConfig, window: WindowConfig = STREAMING) -> str:
    with pytest.raises(ConfigError) as caught:
        settle_model(model, window)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def saved(path: Path, spec: ModelSpec) -> str:
    save_checkpoint(path, build_model(spec.architecture, num_classes=2, width=1 / 64), spec)
    return str(path)


def test_an_inception_on_rgb_may_be_carried_along_the_stream(tiny_checkpoint: Path, foreign: Path) -> None:
    for path in (tiny_checkpoint, foreign):
        assert settle_model(ModelConfig(checkpoint=str(path)), STREAMING).path == str(path)


def test_no_other_network_may_be_carried(tmp_path: Path) -> None:
    flow_spec = ModelSpec(num_classes=2, architecture="i3d-flow", in_channels=2, width=1 / 64)
    flow = saved(tmp_path / "flow.safetensors", flow_spec)
    rgb = saved(tmp_path / "rgb.safetensors", ModelSpec(num_classes=2, width=1 / 64))
    resnet = saved(tmp_path / "r50.safetensors", ModelSpec(num_classes=2, architecture="i3d-r50", width=1 / 64))
    ending = ": give an i3d checkpoint, or leave out window.mode (--mode)"
    assert refused(ModelConfig(name="i3d-flow", checkpoint=flow)).endswith(
        "flow.safetensors is i3d-flow of 2 channels" + ending
    )
    assert refused(ModelConfig(name="i3d-r50", checkpoint=resnet)).endswith("r50.safetensors is i3d-r50" + ending)
    two = ModelConfig(name="two-stream", checkpoint=rgb, flow_checkpoint=flow)
    assert refused(two).endswith("rgb.safetensors + flow.safetensors is two-stream-i3d" + ending)


def test_a_network_of_every_second_frame_is_not_carried_over_every_frame(tmp_path: Path) -> None:
    every_second = Preprocessing(short_side=40, crop_size=32, frame_interval=2)
    path = saved(tmp_path / "a.safetensors", ModelSpec(num_classes=2, width=1 / 64, preprocessing=every_second))
    assert "give --frame-interval 1 and --sample-fps 12.5" in refused(ModelConfig(checkpoint=path))
    given = WindowConfig(mode="streaming", frame_interval=1, sample_fps=12.5)
    assert settle_model(ModelConfig(checkpoint=path), given).preprocessing.sample_fps == 12.5


def test_settling_does_not_import_torch(tiny_checkpoint: Path) -> None:
    code = (
        "import sys\n"
        "from stream_i3d.config import ModelConfig, WindowConfig\n"
        "from stream_i3d.inference.setup import settle_model\n"
        "settle_model(ModelConfig(checkpoint=sys.argv[1]), WindowConfig())\n"
        "print('torch' in sys.modules)\n"
    )
    assert printed_by(code, tiny_checkpoint) == "False\n"


@pytest.mark.parametrize(("exported", "asked"), [("window", "streaming"), ("streaming", "window")])
def test_a_file_that_was_exported_for_the_other_mode_is_refused(
    tmp_path: Path, exported: Literal["window", "streaming"], asked: Literal["window", "streaming"]
) -> None:
    spec = ModelSpec(num_classes=2, mode=exported)
    path = tmp_path / "a.xml"
    head = encode_head(np.zeros((2, 4), np.float32), np.zeros(2, np.float32), None)
    texts = "".join(f"<{key} value={quoteattr(text)}/>" for key, text in graph_metadata(spec, head).items())
    path.write_text(f"<net><rt_info>{texts}</rt_info></net>")
    for mode in (exported, asked):
        if mode == exported:
            assert settle_model(ModelConfig(checkpoint=str(path)), WindowConfig(mode=mode)).spec == spec
            continue
        with pytest.raises(ConfigError, match=rf"{asked} \(--mode\): a.xml was exported for {exported} mode"):
            settle_model(ModelConfig(checkpoint=str(path)), WindowConfig(mode=mode))


# --- the threshold that a checkpoint recommends


def uncalibrated(tiny_checkpoint: Path, tmp_path: Path, threshold: float | None) -> Config:
    model, spec = load_checkpoint(tiny_checkpoint)
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, model, structs.replace(spec, calibration="none", min_confidence=threshold))
    return Config(model=ModelConfig(checkpoint=str(path)))


def test_a_checkpoints_recommended_threshold_is_taken(tiny_checkpoint: Path, tmp_path: Path) -> None:
    config = uncalibrated(tiny_checkpoint, tmp_path, 0.12)
    assert with_checkpoint_threshold(config).idle.threshold == 0.12
    note = calibration_note(config)
    assert note is not None
    assert "not calibrated" in note and "min_confidence is 0.12, as the checkpoint recommends" in note


def test_the_users_own_threshold_goes_before_it(tiny_checkpoint: Path, tmp_path: Path) -> None:
    config = uncalibrated(tiny_checkpoint, tmp_path, 0.12)
    for given in (0.0, 0.3, 0.9):
        own = structs.replace(config, idle=IdleConfig(min_confidence=given))
        assert with_checkpoint_threshold(own) == own
        assert f"min_confidence is {given:g}, as configured" in str(calibration_note(own))


def test_without_a_recommendation_the_usual_threshold_is_in_force(tiny_checkpoint: Path, tmp_path: Path) -> None:
    config = uncalibrated(tiny_checkpoint, tmp_path, None)
    assert with_checkpoint_threshold(config).idle.threshold == 0.3
    assert "0.3, the default" in str(calibration_note(config))
    assert calibration_note(Config()) is None  # the carried model is calibrated


def test_a_checkpoint_that_is_not_there_is_left_to_who_loads_it(tmp_path: Path) -> None:
    config = Config(model=ModelConfig(checkpoint=str(tmp_path / "none.safetensors")))
    assert with_checkpoint_threshold(config) == config


@pytest.mark.parametrize("architecture", ["two-stream", "fused-two-stream", "two-stream-i3d"])
def test_a_network_of_two_inputs_is_not_run_live_and_the_advice_does_not_lead_in_a_circle(
    tmp_path: Path, architecture: str, foreign: Path
) -> None:
    path = saved(tmp_path / "a.safetensors", ModelSpec(num_classes=2, architecture=architecture, width=1 / 64))
    with pytest.raises(ConfigError, match="sees RGB and optical flow in one network, and does not run live"):
        settle_model(ModelConfig(checkpoint=path), WindowConfig())
    with pytest.raises(ConfigError, match="does not run live; give two I3D checkpoints with --model two-stream-i3d"):
        settle_model(ModelConfig(name="fused-two-stream", checkpoint=str(foreign)), WindowConfig())
