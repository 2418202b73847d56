from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.config import Config, IdleConfig, ModelConfig, PublishConfig, SmoothingConfig, WindowConfig
from stream_i3d.errors import CheckpointError, LabelsError
from stream_i3d.flow import dequantise, make_flow
from stream_i3d.flow.normalise import STILL
from stream_i3d.inference import torch_engine
from stream_i3d.inference.backends import load_model
from stream_i3d.inference.engine import LoadedModel, warm_up
from stream_i3d.inference.feed import Feed
from stream_i3d.inference.flow_frames import FlowFrames, make_augment
from stream_i3d.inference.offline import recognize_video
from stream_i3d.inference.setup import ModelSetup, settle_model
from stream_i3d.inference.two_stream import TwoStreamEngine
from stream_i3d.inference.worker.drain import Camera, WorkerJob
from stream_i3d.messages import Frame, ModelName, VideoRecognition
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.preprocess import Preprocessing
from stream_i3d.recognition.head import Scores, softmax
from stream_i3d.recognition.postprocess import PostprocessSettings
from stream_i3d.scenes import LABELS
from stream_i3d.stage import CameraSlot
from stream_i3d.transport.wire import decode_capture, encode_frame
from tests.inference.two_stream import save_stream
from tests.samples import stamp

SIZE = 32
PLAIN = Config(
    smoothing=SmoothingConfig(method="none"),
    idle=IdleConfig(min_confidence=0, min_motion=0),
    publish=PublishConfig(top_k=10),
)
Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def rgb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stream(tmp_path_factory.mktemp("rgb") / "rgb.safetensors", 3, seed=1)


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stream(tmp_path_factory.mktemp("flow") / "flow.safetensors", 2, seed=2)


def settled(rgb: Path, flow: Path, **given: Any) -> ModelSetup:
    model: dict[str, Any] = {"name": "two-stream-i3d", "device": "cpu", "precision": "fp32", **given}
    return settle_model(ModelConfig(checkpoint=str(rgb), flow_checkpoint=str(flow), **model), WindowConfig())


def scene(seed: int = 0) -> Pixels:
    """A smooth random texture, (SIZE + 16, SIZE + 16, 3), to cut moving pictures out of."""
    noise = np.random.default_rng(seed).uniform(0, 255, (SIZE + 22, SIZE + 22))
    smooth = np.lib.stride_tricks.sliding_window_view(noise, (7, 7)).mean(axis=(2, 3))
    stretched = np.clip((smooth - 127.5) * 5 + 127.5, 0, 255)
    return np.repeat(stretched[..., None], 3, axis=2).astype(np.uint8)


def cut(shift: int, seed: int = 0) -> Pixels:
    """A picture whose content moves to the right by `shift` pixels."""
    return np.ascontiguousarray(scene(seed)[8 : 8 + SIZE, 8 - shift : 8 - shift + SIZE])


def clip_of(count: int) -> Pixels:
    """`count` frames of RGB and flow."""
    frames = FlowFrames(make_flow("dis"))
    return np.stack([frames(cut(index % 8)) for index in range(count)])


# --- frames with flow


def test_a_frame_keeps_its_picture_and_gains_the_codes_of_its_flow() -> None:
    frames = FlowFrames(make_flow("dis"))
    frames(cut(0))
    second = frames(cut(2))
    assert second.shape == (SIZE, SIZE, 5) and second.dtype == np.uint8
    assert (second[..., :3] == cut(2)).all()
    moved = dequantise(second[8:-8, 8:-8, 3:]).mean(axis=(0, 1))
    assert moved == pytest.approx([2, 0], abs=0.3)


def test_the_first_picture_and_the_first_after_a_reset_have_no_flow() -> None:
    frames = FlowFrames(make_flow("dis"))
    assert (frames(cut(0))[..., 3:] == STILL).all()
    frames.reset()
    assert (frames(cut(3))[..., 3:] == STILL).all()


class CountingFlow:
    """A flow method that counts its calls and says that all moved by 3 pixels."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, previous: Any, current: Any) -> NDArray[np.float32]:
        self.calls += 1
        return np.full((*current.shape, 2), 3, np.float32)


def test_a_repeated_picture_has_no_flow_and_costs_none() -> None:
    method = CountingFlow()
    frames = FlowFrames(method)
    pictures = [cut(0), cut(1), cut(1), cut(1), cut(2)]
    still = [bool((frames(picture)[..., 3:] == STILL).all()) for picture in pictures]
    assert still == [True, False, True, True, False]
    assert method.calls == 2


# --- the engine


def scores_of(model: LoadedModel, *clips: Pixels) -> Scores:
    features, _ = model.engine.run(model.engine.prepare(clips), [None] * len(clips))
    return model.head(features)


def test_the_engine_gives_what_the_two_networks_give_by_themselves(rgb: Path, flow: Path) -> None:
    clip = clip_of(16)
    model = load_model(settled(rgb, flow))
    assert isinstance(model.engine, TwoStreamEngine)
    logits, streams = scores_of(model, clip, clip[::-1])
    inputs = torch.from_numpy(clip.astype(np.float32) / 127.5 - 1).permute(3, 0, 1, 2)[None]
    with torch.inference_mode():
        own = load_checkpoint(rgb)[0](inputs[:, :3]).numpy()
        moving = load_checkpoint(flow)[0](inputs[:, 3:]).numpy()
    assert streams["rgb"][:1] == pytest.approx(own, abs=1e-4)
    assert streams["flow"][:1] == pytest.approx(moving, abs=1e-4)
    assert softmax(logits)[:1] == pytest.approx((softmax(own) + softmax(moving)) / 2, abs=1e-5)


def test_logits_are_added_where_that_is_asked_for(rgb: Path, flow: Path) -> None:
    logits, streams = scores_of(load_model(settled(rgb, flow, fusion="logits")), clip_of(16))
    assert logits == pytest.approx(streams["rgb"] + streams["flow"], abs=1e-5)


def calibrated(rgb: Path, flow: Path, folder: Path, temperatures: tuple[float, float]) -> tuple[Path, Path]:
    paths = []
    for path, temperature in zip((rgb, flow), temperatures, strict=True):
        network, spec = load_checkpoint(path)
        paths.append(folder / f"calibrated-{path.name}")
        save_checkpoint(paths[-1], network, structs.replace(spec, temperature=temperature))
    return paths[0], paths[1]


def test_each_networks_probabilities_are_at_its_own_temperature_before_they_are_fused(
    rgb: Path, flow: Path, tmp_path: Path
) -> None:
    model = load_model(settled(*calibrated(rgb, flow, tmp_path, (0.5, 3.0))))
    logits, streams = scores_of(model, clip_of(16))
    wanted = (softmax(streams["rgb"] / 0.5) + softmax(streams["flow"] / 3)) / 2
    assert softmax(logits, model.head.temperature) == pytest.approx(wanted, abs=1e-5)
    assert np.abs(softmax(logits) - softmax(streams["rgb"]) / 2 - softmax(streams["flow"]) / 2).max() > 0.01


def test_added_logits_are_added_as_they_are(rgb: Path, flow: Path, tmp_path: Path) -> None:
    model = load_model(settled(*calibrated(rgb, flow, tmp_path, (0.5, 3.0)), fusion="logits"))
    logits, streams = scores_of(model, clip_of(16))
    assert model.head.temperature == 1.0
    assert logits == pytest.approx(streams["rgb"] + streams["flow"], abs=1e-5)


def test_flow_is_normalised_by_its_codes_whatever_rgb_was_trained_with(rgb: Path, flow: Path, tmp_path: Path) -> None:
    imagenet = Preprocessing(short_side=40, crop_size=32, mean=(120.0, 110.0, 100.0), std=(60.0, 57.0, 58.0))
    other = save_stream(tmp_path / "imagenet.safetensors", 3, seed=1, preprocessing=imagenet)
    results = [scores_of(load_model(settled(one, flow)), clip_of(16)).streams for one in (rgb, other)]
    assert (results[0]["flow"] == results[1]["flow"]).all()
    assert not np.allclose(results[0]["rgb"], results[1]["rgb"])


def test_every_batch_size_can_be_warmed_up(rgb: Path, flow: Path) -> None:
    engine = load_model(settled(rgb, flow)).engine
    sizes: list[int] = []
    run = engine._flow.run
    engine._flow.run = lambda batch, states: sizes.append(len(batch)) or run(batch, states)
    warm_up(engine, [1, 2])
    assert sizes == [1, 2]


# --- weights that do not fit


def test_torch_takes_no_more_threads_than_the_cores_it_may_have(
    rgb: Path, flow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_engine, "allowed_cores", lambda: 1)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(3)  # as it counted them at its start
    load_model(settled(rgb, flow))
    assert torch.get_num_threads() == 1


def test_two_stream_is_short_for_the_i3d(rgb: Path, flow: Path) -> None:
    setup = settled(rgb, flow, name="two-stream")
    assert setup.model_name == ModelName(name="two-stream-i3d", checkpoint="rgb.safetensors + flow.safetensors")


def test_weights_of_the_other_stream_are_told(rgb: Path, flow: Path) -> None:
    with pytest.raises(CheckpointError, match="takes 3 channels, the flow stream has 2: give --flow-checkpoint"):
        settled(rgb, rgb)
    with pytest.raises(CheckpointError, match="takes 2 channels, the rgb stream has 3: give --checkpoint"):
        settled(flow, flow)


def test_another_programs_file_of_the_other_stream_is_told_when_it_is_read(
    rgb: Path, flow: Path, tmp_path: Path
) -> None:
    path = tmp_path / "foreign.pt"
    torch.save(load_checkpoint(rgb)[0].state_dict(), path)
    published = save_stream(tmp_path / "published.safetensors", 3, seed=1, preprocessing=Preprocessing())
    with pytest.raises(CheckpointError, match=r"foreign\.pt takes 3 channels"):
        load_model(settled(published, path))


def test_different_classes_are_told(rgb: Path, tmp_path: Path) -> None:
    fewer = save_stream(tmp_path / "fewer.safetensors", 2, 2, num_classes=7, labels=None)
    with pytest.raises(CheckpointError, match="RGB checkpoint has 10 classes and the flow checkpoint 7"):
        settled(rgb, fewer)
    turned = save_stream(tmp_path / "turned.safetensors", 2, 2, labels=tuple(reversed(LABELS)))
    with pytest.raises(CheckpointError, match=r"class 0 is .* in the RGB checkpoint and .* in the flow checkpoint"):
        settled(rgb, turned)


def test_frames_of_different_sizes_are_told(rgb: Path, tmp_path: Path) -> None:
    larger = save_stream(tmp_path / "larger.safetensors", 2, 2, preprocessing=Preprocessing())
    with pytest.raises(CheckpointError, match="short_side=40 and the flow checkpoint with 256"):
        settled(rgb, larger)


def test_labels_of_another_length_are_told(rgb: Path, flow: Path) -> None:
    with pytest.raises(LabelsError, match="400 labels do not fit a network of 10 classes"):
        settled(rgb, flow, labels="kinetics400")


def test_flow_weights_alone_are_told_where_to_go(flow: Path) -> None:
    setup = settle_model(ModelConfig(checkpoint=str(flow)), WindowConfig())
    with pytest.raises(CheckpointError, match="give it as --flow-checkpoint with --model two-stream-i3d"):
        load_model(setup)


# --- live and offline


def windows(video: Path, model: LoadedModel, setup: ModelSetup, config: Config = PLAIN) -> list[VideoRecognition]:
    messages = recognize_video(str(video), model, setup, config)
    return [one for one in messages if isinstance(one, VideoRecognition) and one.state != "warming"]


def test_a_prediction_carries_what_each_stream_says(
    rgb: Path, flow: Path, make_video: Callable[[float, float], Path]
) -> None:
    setup = settled(rgb, flow)
    found = windows(make_video(25, 2), load_model(setup), setup)
    assert len(found) == 5
    for one in found:
        tops = {top.stream: top for top in one.streams}
        assert list(tops) == ["rgb", "flow"]
        assert all(top.label == LABELS[top.index] for top in one.streams)
        by_index = {score.index: score.raw_probability for score in one.top_k}
        # Fused is the mean of both, so no class has less than half of what one stream gives it.
        assert all(by_index[top.index] >= top.probability / 2 - 1e-6 for top in one.streams)


def test_one_network_has_no_streams(tiny_checkpoint: Path, make_video: Callable[[float, float], Path]) -> None:
    setup = settle_model(ModelConfig(checkpoint=str(tiny_checkpoint), device="cpu", precision="fp32"), WindowConfig())
    assert make_augment(setup) is None
    found = windows(make_video(25, 2), load_model(setup), setup)
    assert found and all(one.streams == [] for one in found)


def test_flow_does_not_count_as_motion(rgb: Path, flow: Path, make_video: Callable[[float, float], Path]) -> None:
    """Motion is of the pictures: the same with two streams and with one."""
    two = settled(rgb, flow)
    one = settle_model(ModelConfig(checkpoint=str(rgb), device="cpu", precision="fp32"), WindowConfig())
    config = structs.replace(PLAIN, idle=IdleConfig(min_confidence=0, min_motion=8.0))
    video = make_video(25, 2)
    states = [[found.state for found in windows(video, load_model(setup), setup, config)] for setup in (two, one)]
    assert states[0] == states[1]


def test_the_worker_makes_the_same_clips_as_offline(rgb: Path, flow: Path) -> None:
    setup = settled(rgb, flow)
    config = structs.replace(PLAIN, window=WindowConfig(stride=4))
    job = WorkerJob(cameras=[], relay="", setup=setup, config=config)
    settings = PostprocessSettings.of(config, LABELS, setup.model_name)
    camera = Camera(CameraSlot(name="door", channel="", lossless=True), job, settings)
    offline = Feed(setup.preprocessing, config.window, make_augment(setup))
    compared = 0
    for seq in range(24):
        frame = Frame(stamp(seq), cut(seq % 8))
        live = camera.accept(decode_capture([bytes(part) for part in encode_frame(frame)]))
        assert live == offline.push(frame.stamp, frame.pixels)
        ours, theirs = camera.windows.take(), offline.take()
        if ours is not None and theirs is not None:
            assert ours.frames.shape == (16, SIZE, SIZE, 5)
            assert (ours.frames == theirs.frames).all()
            compared += 1
    assert compared == 3
