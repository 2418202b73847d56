from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from msgspec import structs
from safetensors.numpy import save_file

from stream_i3d import Recognizer
from stream_i3d.api.recognizer import _options
from stream_i3d.config import Config, load_config
from stream_i3d.errors import CheckpointError, ConfigError, EngineError, LabelsError, SourceError, SourceNotFound
from stream_i3d.inference.extract import ExtractJob, Extractor
from stream_i3d.messages import Segment
from stream_i3d.models.spec import ModelSpec, encode_spec
from stream_i3d.preprocess import Preprocessing
from tests.api.conftest import Make
from tests.inference.fakes import FakeEngine

Video = Callable[[float, float], Path]


def decoded(path: Path) -> np.ndarray:
    """A video's pictures, (T, H, W, 3) uint8 RGB."""
    capture, pictures = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        pictures.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    capture.release()
    return np.stack(pictures)


def raw(prediction: Any) -> np.ndarray:
    """A prediction's own probabilities, in the order of the network's outputs."""
    return np.array([one.raw_probability for one in sorted(prediction.top_k, key=lambda one: one.index)])


def test_an_unknown_option_is_told_with_the_likeliest_and_all(tiny_checkpoint: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Recognizer(tiny_checkpoint, devise="cpu")
    message = str(caught.value)
    assert "Recognizer has no option 'devise' (did you mean 'device'?); allowed are checkpoint, config, " in message
    assert "\n" not in message
    for option in ("backend", "flow_checkpoint", "mode", "sample_fps", "smoothing", "top_k", "fast"):
        assert f" {option}," in message or message.endswith(f" {option}")


def test_every_option_is_a_setting_of_the_configuration() -> None:
    options = _options()
    assert options["model"] == "model.name"
    assert options["smoothing"] == "smoothing.method"
    assert options["fast"] == "capture.fast"
    assert len(set(options.values())) == len(options)
    for dotted in options.values():
        section, name = dotted.split(".")
        assert hasattr(getattr(Config(), section), name)


def test_options_are_validated_as_the_configuration_is(tiny_checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"window\.stride: expected int >= 1, got 0"):
        Recognizer(tiny_checkpoint, stride=0)
    with pytest.raises(ConfigError, match="expected one of auto, fp32, bf16, fp16"):
        Recognizer(tiny_checkpoint, precision="fp8")  # type: ignore[arg-type]


def test_options_lie_over_a_configuration_file(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"model: {{checkpoint: {tiny_checkpoint}, threads: 2}}\nwindow: {{stride: 4}}\n")
    config = Recognizer(config=file, stride=16)._config
    assert (config.model.threads, config.window.stride) == (2, 16)


def test_a_missing_checkpoint_and_wrong_labels_are_told_at_once(tiny_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'missing\.pt' does not exist"):
        Recognizer("missing.pt")
    with pytest.raises(LabelsError, match="400 labels do not fit a network of 10 classes"):
        Recognizer(tiny_checkpoint, labels="kinetics400")


def test_the_architecture_and_mode_are_the_checkpoints(tmp_path: Path) -> None:
    made = Preprocessing(clip_len=8, frame_interval=8)
    spec = ModelSpec(architecture="i3d-r50-8x8", num_classes=10, preprocessing=made)
    save_file({"weight": np.zeros(1, np.float32)}, tmp_path / "own.safetensors", encode_spec(spec))
    assert Recognizer(tmp_path / "own.safetensors")._config.model.name == "i3d-r50-8x8"
    with pytest.raises(ConfigError, match="is of architecture 'i3d-r50-8x8'"):
        Recognizer(tmp_path / "own.safetensors", model="i3d")


def test_a_flow_checkpoint_means_two_streams(tiny_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="takes 3 channels, the flow stream has 2"):
        Recognizer(tiny_checkpoint, flow_checkpoint=str(tiny_checkpoint))


def test_a_video_gives_predictions_segments_and_labels(make_recognizer: Make, make_video: Video) -> None:
    path = make_video(25.0, 2.0)
    result = make_recognizer()(path)
    assert result.video == str(path)
    assert [one.seq for one in result.predictions] == [7, 15, 23, 31, 39, 47]
    assert [one.state for one in result.predictions] == ["warming", *["action"] * 5]
    assert sum(one.windows for one in result.segments) == 5
    assert result.problem is None


def test_a_videos_labels_are_those_of_the_mean_of_its_windows(make_recognizer: Make, make_video: Video) -> None:
    result = make_recognizer()(make_video(25.0, 2.0))
    means = np.stack([raw(one) for one in result.predictions[1:]]).mean(axis=0)
    assert [one.index for one in result.top_k] == list(np.argsort(-means, kind="stable"))
    np.testing.assert_allclose([one.probability for one in result.top_k], np.sort(means)[::-1], atol=1e-6)
    assert (result.label, result.confidence) == (result.top_k[0].label, result.top_k[0].probability)


def test_the_lists_have_the_length_that_is_asked_for(make_recognizer: Make, make_video: Video) -> None:
    full, short = (make_recognizer(top_k=top_k)(make_video(25.0, 2.0)) for top_k in (10, 2))
    assert short.top_k == full.top_k[:2]
    assert [one.top_k for one in short.predictions] == [one.top_k[:2] for one in full.predictions]


def test_a_call_gives_what_the_messages_are(make_recognizer: Make, make_video: Video) -> None:
    recognizer, reached, ended = make_recognizer(), [], []  # type: ignore[var-annotated]
    path = make_video(25.0, 2.0)
    result = recognizer(path)
    messages = list(recognizer.messages(path, progress=lambda time, duration: reached.append(time), ended=ended.append))
    assert [one for one in messages if isinstance(one, Segment)] == result.segments
    for one, other in zip(messages, result.predictions, strict=False):
        latency = other.latency_ms
        assert structs.replace(one, latency_ms=latency) == other  # type: ignore[type-var]
    assert reached == sorted(reached)
    assert [one.predictions for one in ended] == [5]


def test_several_videos_come_in_order_each_when_it_is_asked_for(make_recognizer: Make, make_video: Video) -> None:
    recognizer, first, last = make_recognizer(), make_video(25.0, 2.0), make_video(30.0, 1.0)
    results = recognizer([first, "missing.mp4", str(last)])
    assert next(results).video == str(first)
    with pytest.raises(SourceNotFound, match=r"missing\.mp4"):
        next(results)
    assert next(results).video == str(last)  # one bad file does not lose the others
    assert next(results, None) is None


def test_a_video_that_is_too_short_says_so(make_recognizer: Make, make_video: Video) -> None:
    result = make_recognizer()(make_video(25.0, 0.4))
    assert (result.label, result.confidence, result.top_k, result.segments) == (None, 0.0, [], [])
    assert result.problem is not None
    assert "nothing is recognised in less than" in result.problem


@pytest.mark.parametrize("source", ["0", "rtsp://admin:s3cret@camera/", "synthetic://"])
def test_what_never_ends_is_refused(make_recognizer: Make, source: str) -> None:
    with pytest.raises((ConfigError, SourceError), match="never ends") as caught:
        make_recognizer()(source)
    assert "s3cret" not in str(caught.value)


def test_a_clip_in_memory_gives_what_the_video_gives(make_recognizer: Make, make_video: Video) -> None:
    path, recognizer = make_video(25.0, 2.0), make_recognizer()
    pictures, windows = decoded(path), recognizer(path).predictions[1:]
    for one in windows:
        clip = pictures[one.window.first_frame : one.window.last_frame + 1]
        assert clip.shape == (16, 120, 160, 3)
        np.testing.assert_allclose(raw(recognizer.predict(clip)), raw(one), atol=1e-6)


def test_a_longer_clip_gives_the_mean_of_its_windows(make_recognizer: Make, make_video: Video) -> None:
    path, recognizer = make_video(25.0, 2.0), make_recognizer()
    prediction = recognizer.predict(decoded(path))
    means = np.stack([raw(one) for one in recognizer(path).predictions[1:]]).mean(axis=0)
    found = [one.probability for one in sorted(prediction.top_k, key=lambda one: one.index)]
    np.testing.assert_allclose(found, means, atol=1e-6)
    assert (prediction.window.first_frame, prediction.window.last_frame) == (0, 49)
    assert prediction.label == prediction.top_k[0].label


def test_below_the_threshold_a_prediction_has_no_label(make_recognizer: Make) -> None:
    prediction = make_recognizer(min_confidence=1).predict(np.zeros((16, 32, 32, 3), np.uint8))
    assert (prediction.state, prediction.label, len(prediction.top_k)) == ("idle", None, 10)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([[1]], "frames: a list, not a NumPy array"),
        (np.zeros((16, 3, 32, 32), np.uint8), "an array of shape (16, 3, 32, 32); give (T, H, W, 3) uint8 RGB"),
        (np.zeros((16, 32, 32), np.uint8), "an array of shape (16, 32, 32)"),
        (np.zeros((16, 32, 32, 3), np.float32), "an array of float32; give (T, H, W, 3) uint8 RGB, with values from 0"),
        (np.zeros((16, 0, 32, 3), np.uint8), "holds no pictures"),
        (np.zeros((0, 32, 32, 3), np.uint8), "holds no pictures"),
        (np.zeros((15, 32, 32, 3), np.uint8), "frames: 15 are given, and the first prediction takes 16 (25 a second)"),
    ],
)
def test_another_array_than_a_clip_is_told(make_recognizer: Make, frames: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_recognizer().predict(frames)
    assert words in str(caught.value)


def test_in_streaming_mode_a_clip_must_warm_the_network_up(make_recognizer: Make) -> None:
    recognizer = make_recognizer(mode="streaming")
    with pytest.raises(ConfigError, match="40 are given, and the first prediction takes 64"):
        recognizer.predict(np.zeros((40, 32, 32, 3), np.uint8))
    assert math.isclose(sum(raw(recognizer.predict(np.zeros((64, 32, 32, 3), np.uint8)))), 1, abs_tol=1e-5)


def test_output_that_is_not_finite_is_an_error(make_recognizer: Make) -> None:
    recognizer = make_recognizer()
    engine = FakeEngine(choose=lambda clip: 0)
    engine.logits = lambda batch: np.full((1, 3), np.nan, np.float32)  # type: ignore[method-assign]
    recognizer._model.loaded = engine.model
    with pytest.raises(EngineError, match="not finite"):
        recognizer.predict(np.full((16, 32, 32, 3), 9, np.uint8))


def test_features_are_those_that_extract_writes(make_recognizer: Make, make_video: Video, tmp_path: Path) -> None:
    video, recognizer = str(make_video(25.0, 2.0)), make_recognizer()
    found = recognizer.features(video)
    job = ExtractJob(streams=("rgb",), model=recognizer._config.model, stack_size=16, step_size=8, output=tmp_path)
    Extractor(job).run(video)
    stem = Path(video).stem
    assert found.features.shape == (5, 128)  # 1024 at an eighth of the width
    np.testing.assert_array_equal(found.features, np.load(tmp_path / f"{stem}_rgb.npy"))
    np.testing.assert_allclose(found.times, np.load(tmp_path / f"{stem}_timestamps_ms.npy") / 1000)
    assert recognizer.features(video, stack_size=32, step_size=16).features.shape == (2, 128)
    assert recognizer.features(video, stack_size=64).features.shape == (0, 128)


@pytest.mark.parametrize(("sizes", "words"), [({"stack_size": 7}, "8 to 1024"), ({"step_size": 0}, "1 or more")])
def test_sizes_that_are_no_stacks_are_told(make_recognizer: Make, sizes: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_recognizer().features("clip.mp4", **sizes)


def test_labels_are_in_the_order_of_the_outputs(make_recognizer: Make) -> None:
    assert len(make_recognizer().labels) == 10
    assert make_recognizer().labels[0] == "still"


def test_a_whole_configuration_can_be_given(tiny_checkpoint: Path) -> None:
    config = load_config(None, {"model.checkpoint": str(tiny_checkpoint), "window.stride": 4})
    assert Recognizer.from_config(config)._config.window.stride == 4
