"""The view `whole`: frames of a picture's own shape through feeds, batches and engines, exact for every mode."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.config import Config, IdleConfig, ModelConfig, ModeName, SmoothingConfig, WindowConfig
from stream_i3d.errors import ConfigError, WireError
from stream_i3d.inference.backends import load_model
from stream_i3d.inference.feed import Feed
from stream_i3d.inference.offline import recognize_video
from stream_i3d.inference.runner import CameraWindows, Runner
from stream_i3d.inference.setup import ModelSetup, settle_model
from stream_i3d.inference.worker.drain import Camera, WorkerJob
from stream_i3d.messages import Frame, ModelName, VideoRecognition
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.registry import build_model
from stream_i3d.models.spec import ModelSpec
from stream_i3d.models.streaming_plan import STEP_FRAMES, WARM_UP_STEPS
from stream_i3d.preprocess import Preprocessing, normalise
from stream_i3d.recognition.postprocess import Postprocessor, PostprocessSettings
from stream_i3d.stage import CameraSlot
from stream_i3d.transport.wire import ReceivedFrame, decode_capture, encode_frame
from tests.inference.exported import logits_of
from tests.inference.fakes import LABELS, FakeEngine
from tests.inference.streams import carried
from tests.samples import stamp

SIZES = [(32, 64), (64, 32), (32, 32)]
WHOLE = WindowConfig(view="whole")
EIGHT = Preprocessing(clip_len=8, short_side=32, crop_size=32)


def needs(backend: str) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"the extra {backend} is not installed")


def random_frames(count: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, *size, 3), np.uint8)


def setup_of(checkpoint: Path, backend: str, mode: ModeName) -> Any:
    config = ModelConfig(checkpoint=str(checkpoint), backend=backend, precision="fp32", device="cpu", threads=1)  # type: ignore[arg-type]
    return settle_model(config, structs.replace(WHOLE, mode=mode))


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_windows_of_every_shape_give_the_networks_own_logits(tiny_checkpoint: Path, backend: str) -> None:
    needs(backend)
    model, (network, spec) = load_model(setup_of(tiny_checkpoint, backend, "window")), load_checkpoint(tiny_checkpoint)
    assert model.engine.clip_shape == (16, 32, 64, 3)  # of a 16:9 picture
    for size in SIZES:
        clips = [random_frames(16, size), random_frames(16, size)[::-1].copy()]
        with torch.no_grad():
            wanted = network(normalise(torch.from_numpy(np.stack(clips)), spec.preprocessing)).numpy()
        np.testing.assert_allclose(logits_of(model, clips), wanted, rtol=0, atol=1e-4 * float(np.abs(wanted).max()))
        assert np.ptp(wanted) > 1e-3


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_streams_of_every_shape_are_the_whole_clip_network(tiny_checkpoint: Path, backend: str) -> None:
    needs(backend)
    model = load_model(setup_of(tiny_checkpoint, backend, "streaming"), "streaming")
    network, spec = load_checkpoint(tiny_checkpoint)
    for size in SIZES:
        frames = random_frames(10 * STEP_FRAMES, size)
        shifted = np.concatenate((frames[1:], frames[-1:]))
        with torch.no_grad():
            wanted = network.temporal_logits(normalise(torch.from_numpy(shifted[None]), spec.preprocessing))[0].numpy()
        given = carried(model, frames)[:, WARM_UP_STEPS:]
        wanted = wanted[:, : given.shape[1]]
        np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-4 * float(np.abs(wanted).max()))


def windows(made: Preprocessing) -> CameraWindows:
    config = Config(smoothing=SmoothingConfig(method="none"), idle=IdleConfig(min_confidence=0, min_motion=0))
    settings = PostprocessSettings.of(config, LABELS, ModelName(name="i3d", checkpoint="fake"))
    return CameraWindows(Feed(made, WindowConfig(stride=4)), Postprocessor("door", settings, lambda: 0))


def numbered(number: int, width: int) -> NDArray[np.uint8]:
    return np.full((32, width, 3), number, np.uint8)


def test_a_feed_takes_frames_of_another_shape_in_a_new_epoch_and_no_window_holds_both() -> None:
    camera = windows(EIGHT)
    clips = []
    for seq in range(12):
        camera.feed.push(stamp(seq, epoch=1), numbered(seq, 32))
        clips.append(camera.take())
    for seq in range(12):
        camera.feed.push(stamp(seq, epoch=2), numbered(seq, 64))
        clips.append(camera.take())
    shapes = [clip.frames.shape for clip in clips if clip is not None]
    assert shapes == [(8, 32, 32, 3)] * 2 + [(8, 32, 64, 3)] * 2
    assert [int(clip.frames[-1].max()) for clip in clips if clip is not None] == [7, 11, 7, 11]
    assert camera.feed.frames_dropped == 0


def test_a_window_that_waits_when_the_shape_changes_is_counted_and_not_run() -> None:
    camera = windows(EIGHT)
    for seq in range(8):
        camera.feed.push(stamp(seq, epoch=1), numbered(seq, 32))
    camera.feed.push(stamp(0, epoch=2), numbered(0, 64))
    assert camera.take() is None
    assert camera.feed.windows_dropped.total() >= 1


def test_cameras_of_one_shape_are_one_batch_and_those_of_another_the_next() -> None:
    engine = FakeEngine(choose=lambda clip: 0)
    cameras = [windows(EIGHT) for _ in range(4)]
    for camera, width in zip(cameras, (32, 64, 32, 64), strict=True):
        for seq in range(8):
            camera.feed.push(stamp(seq), numbered(seq + 1, width))
    due = []
    for camera in cameras:
        clip = camera.take()
        assert clip is not None
        due.append((camera, clip))
    results = Runner(engine.model, Config(idle=IdleConfig(min_motion=0)), lambda: 0).run(due)
    assert [[clip.shape[2] for clip in batch] for batch in engine.batches] == [[32, 32], [64, 64]]
    assert len(results) == 4


@pytest.mark.parametrize("mode", ["window", "streaming"])
def test_a_video_is_recognised_whole(
    tiny_checkpoint: Path, make_video: Callable[[float, float], Path], mode: ModeName
) -> None:
    setup = setup_of(tiny_checkpoint, "torch", mode)
    config = Config(window=structs.replace(WHOLE, mode=mode), smoothing=SmoothingConfig(method="none"))
    found = {}
    for view in ("whole", "centre"):
        of_view = structs.replace(setup, preprocessing=structs.replace(setup.preprocessing, view=view))
        messages = recognize_video(str(make_video(25, 4)), load_model(setup, mode), of_view, config)
        found[view] = [m.top_k[0].probability for m in messages if isinstance(m, VideoRecognition) and m.top_k]
    assert len(found["whole"]) == len(found["centre"]) > 0
    assert found["whole"] != found["centre"]


# --- what takes squares alone


def checkpoint_of(folder: Path, name: str, side: int = 64, **options: Any) -> Path:
    path = folder / f"{name}.safetensors"
    made = Preprocessing(clip_len=16, short_side=side, crop_size=side)
    spec = ModelSpec(num_classes=3, architecture=name, width=1 / 64, preprocessing=made, options=options)
    save_checkpoint(path, build_model(name, num_classes=3, width=1 / 64, **options), spec)
    return path


@pytest.mark.parametrize(
    ("name", "side", "model", "message"),
    [
        ("c3d", 64, {}, r"^view whole: c3d \(c3d.safetensors\) takes square frames alone; give view centre or squeeze"),
        ("convnet-lstm", 64, {}, "^view whole: convnet-lstm .* takes square frames alone"),
        ("i3d-r50-nl-dot-product", 64, {}, "^view whole: i3d-r50-nl-dot-product .* takes square frames alone"),
        ("i3d", 80, {}, "multiple of 32 pixels, and i3d.safetensors was trained on 80; give view centre or squeeze"),
        ("i3d", 64, {"backend": "onnxruntime"}, "^view whole: ONNX graphs take frames of one size alone"),
    ],
)
def test_a_network_that_takes_squares_alone_says_so_and_what_to_do(
    tmp_path: Path, name: str, side: int, model: dict[str, Any], message: str
) -> None:
    options = {"clip_len": 16, "crop_size": 64} if name == "c3d" else {}
    config = ModelConfig(checkpoint=str(checkpoint_of(tmp_path, name, side, **options)), name=name, **model)
    for view in ("centre", "squeeze"):
        assert settle_model(config, WindowConfig(view=view)).preprocessing.view == view  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        settle_model(config, WHOLE)


def test_without_a_setting_the_checkpoints_view_counts(tmp_path: Path) -> None:
    path = checkpoint_of(tmp_path, "i3d")
    model, spec = load_checkpoint(path)
    save_checkpoint(path, model, structs.replace(spec, preprocessing=structs.replace(spec.preprocessing, view="whole")))
    assert settle_model(ModelConfig(checkpoint=str(path)), WindowConfig()).preprocessing.view == "whole"
    assert settle_model(ModelConfig(checkpoint=str(path)), WindowConfig(view="centre")).preprocessing.view == "centre"


# --- what the worker lets in


def camera_of(setup: ModelSetup) -> Camera:
    config = Config()
    job = WorkerJob(cameras=[], relay="", setup=setup, config=config)
    settings = PostprocessSettings.of(config, LABELS, setup.model_name)
    return Camera(CameraSlot(name="door", channel="", lossless=False), job, settings)


def received(height: int, width: int) -> ReceivedFrame:
    frame = Frame(stamp(0), np.zeros((height, width, 3), np.uint8))
    message = decode_capture([bytes(part) for part in encode_frame(frame)])
    assert isinstance(message, ReceivedFrame)
    return message


def test_the_worker_takes_frames_of_every_view_where_the_network_does(tiny_checkpoint: Path) -> None:
    camera = camera_of(settle_model(ModelConfig(checkpoint=str(tiny_checkpoint)), WindowConfig()))
    for size in ((32, 32), (32, 64), (64, 32)):
        camera.accept(received(*size))
    for size in ((32, 48), (32, 96), (64, 64), (16, 32)):
        with pytest.raises(WireError, match=r"the model takes \(32, 32, 3\), or longer in one direction$"):
            camera.accept(received(*size))


def test_the_worker_takes_squares_alone_where_the_network_does(tmp_path: Path) -> None:
    """A longer frame would end the engine, and the worker with it."""
    path = checkpoint_of(tmp_path, "c3d", clip_len=16, crop_size=64)
    camera = camera_of(settle_model(ModelConfig(checkpoint=str(path), name="c3d"), WindowConfig()))
    camera.accept(received(64, 64))
    with pytest.raises(WireError, match=r"the model takes \(64, 64, 3\)$"):
        camera.accept(received(64, 96))
