from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.config import BackendName, Config, IdleConfig, ModelConfig, PublishConfig, SmoothingConfig, WindowConfig
from stream_i3d.errors import ConfigError, EngineError, SourceNotFound
from stream_i3d.inference import offline
from stream_i3d.inference.backends import BACKENDS, load_model
from stream_i3d.inference.engine import LoadedModel
from stream_i3d.inference.offline import offline_address, recognize_video
from stream_i3d.inference.setup import ModelSetup, settle_model
from stream_i3d.messages import Segment, VideoRecognition
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.sampling import FileSampler
from tests.inference.fakes import FakeEngine

Video = Callable[[float, float], Path]
PLAIN = Config(
    smoothing=SmoothingConfig(method="none"),
    idle=IdleConfig(min_confidence=0, min_motion=0),
    publish=PublishConfig(top_k=10),
)


@pytest.fixture
def setup(tiny_checkpoint: Path) -> ModelSetup:
    return settle_model(ModelConfig(checkpoint=str(tiny_checkpoint), device="cpu", precision="fp32"), WindowConfig())


def windows_of(video: str, setup: ModelSetup, model: LoadedModel, config: Config = PLAIN) -> list[VideoRecognition]:
    """The predictions of a video, in order."""
    messages = recognize_video(video, model, setup, config)
    return [one for one in messages if isinstance(one, VideoRecognition) and one.state != "warming"]


def decoded(path: Path) -> list[NDArray[np.uint8]]:
    """Every picture of a file, through OpenCV alone."""
    capture, pictures = cv2.VideoCapture(str(path)), []
    while True:
        good, picture = capture.read()
        if not good:
            capture.release()
            return pictures
        pictures.append(np.asarray(picture, np.uint8))


def prepared(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """160 x 120 BGR to the tiny network's (3, 32, 32) in [-1, 1]: written out once more, with its numbers."""
    resized = cv2.resize(picture, (53, 40), interpolation=cv2.INTER_LINEAR)
    cropped = resized[4:36, 10:42, ::-1].astype(np.float32)
    return ((cropped - 127.5) / 127.5).transpose(2, 0, 1)


def plain_probabilities(checkpoint: Path, frames: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """What the network says of 16 pictures, without any of the pipeline."""
    network, _ = load_checkpoint(checkpoint)
    clip = torch.from_numpy(np.stack([prepared(frame) for frame in frames], axis=1)[None])
    with torch.no_grad():
        return torch.softmax(network(clip), dim=1)[0].numpy()


def raw_of(window: VideoRecognition) -> NDArray[np.float32]:
    """A window's own probabilities, in the order of the network's outputs."""
    assert len(window.top_k) == 10
    return np.array(
        [score.raw_probability for score in sorted(window.top_k, key=lambda score: score.index)], np.float32
    )


def test_windows_stand_at_every_stride_and_are_told_in_frames_and_seconds(make_video: Video, setup: ModelSetup) -> None:
    windows = windows_of(str(make_video(25.0, 2.0)), setup, FakeEngine(choose=lambda clip: 0).model)
    assert [(one.window.first_frame, one.window.last_frame) for one in windows] == [
        (0, 15), (8, 23), (16, 31), (24, 39), (32, 47),
    ]  # fmt: skip
    for one in windows:
        assert one.window.start_time == pytest.approx(one.window.first_frame / 25, abs=1e-3)
        assert one.window.end_time == pytest.approx(one.window.last_frame / 25, abs=1e-3)
        assert one.seq == one.window.last_frame
        assert (one.frames_dropped, one.windows_dropped) == (0, 0)


def test_a_stride_before_the_first_whole_window_is_warming(make_video: Video, setup: ModelSetup) -> None:
    engine = FakeEngine(choose=lambda clip: 0)
    first, second, *_ = recognize_video(str(make_video(25.0, 2.0)), engine.model, setup, PLAIN)
    assert isinstance(first, VideoRecognition)
    assert isinstance(second, VideoRecognition)
    assert (first.state, first.seq, second.state, second.seq) == ("warming", 7, "action", 15)


def test_every_message_names_its_video(make_video: Video, setup: ModelSetup) -> None:
    path = str(make_video(25.0, 2.0))
    messages = list(recognize_video(path, FakeEngine(choose=lambda clip: 0).model, setup, PLAIN))
    assert {message.video for message in messages} == {path}
    assert {message.camera for message in messages if isinstance(message, VideoRecognition)} == {Path(path).stem}


def test_probabilities_are_those_of_the_plain_network_on_the_same_pictures(
    make_video: Video, setup: ModelSetup, tiny_checkpoint: Path
) -> None:
    path = make_video(25.0, 2.0)
    pictures = decoded(path)
    windows = windows_of(str(path), setup, load_model(setup))
    assert len(windows) == 5
    for one in windows:
        plain = plain_probabilities(tiny_checkpoint, pictures[one.window.first_frame : one.window.last_frame + 1])
        np.testing.assert_allclose(raw_of(one), plain, rtol=0, atol=1e-5)
    assert np.abs(raw_of(windows[0]) - raw_of(windows[-1])).max() > 1e-4  # they are not all the same


@pytest.mark.parametrize("backend", ["torch", "openvino"])
@pytest.mark.parametrize(("stride", "averaging"), [(8, 1), (4, 1), (8, 2)])
def test_in_streaming_mode_probabilities_are_those_of_the_whole_clip_network_one_frame_on(
    make_video: Video, setup: ModelSetup, tiny_checkpoint: Path, stride: int, averaging: int, backend: BackendName
) -> None:
    if not BACKENDS[backend].installed:
        pytest.skip(f"the extra {backend} is not installed")
    setup = structs.replace(setup, config=structs.replace(setup.config, backend=backend))
    path = make_video(25.0, 4.0)
    window = WindowConfig(mode="streaming", stride=stride, averaging=averaging)
    config = Config(window=window, smoothing=PLAIN.smoothing, idle=PLAIN.idle, publish=PLAIN.publish)
    windows = windows_of(str(path), setup, load_model(setup, window.mode), config)
    assert [one.window.last_frame for one in windows] == list(range(63, 100, stride))
    assert {one.window.first_frame for one in windows} == {0}
    network, _ = load_checkpoint(tiny_checkpoint)
    frames = torch.from_numpy(np.stack([prepared(frame) for frame in decoded(path)], axis=1)[None])
    logits: dict[int, NDArray[np.float32]] = {}  # by the newest frame that they depend on
    for first in range(1, 9, stride):  # a phase's clip begins one frame late
        clip = frames[:, :, first:]
        clip = clip[:, :, : clip.shape[2] // 8 * 8]
        with torch.no_grad():
            steps = network.temporal_logits(clip)[0].numpy().T
        logits.update({first + 62 + 8 * index: row for index, row in enumerate(steps)})
    for index, one in enumerate(windows):
        newest = [windows[place].seq for place in range(max(0, index - averaging + 1), index + 1)]
        plain = torch.softmax(torch.from_numpy(np.mean([logits[seq] for seq in newest], axis=0)), dim=0).numpy()
        np.testing.assert_allclose(raw_of(one), plain, rtol=0, atol=1e-5)
    assert np.abs(raw_of(windows[0]) - raw_of(windows[-1])).max() > 1e-4


@pytest.mark.parametrize("fps", [19.62, 29.97])
def test_at_odd_rates_too_probabilities_are_those_of_the_plain_network(
    make_video: Video, setup: ModelSetup, tiny_checkpoint: Path, fps: float
) -> None:
    path = make_video(fps, 2.0)
    sampler, sampled = FileSampler(25.0), []
    for index, picture in enumerate(decoded(path)):
        sampled += [picture] * sampler.push(index / fps, (index + 1) / fps)
    windows = windows_of(str(path), setup, load_model(setup))
    assert len(windows) == (len(sampled) - 16) // 8 + 1
    for one in windows:
        plain = plain_probabilities(tiny_checkpoint, sampled[one.window.first_frame : one.window.last_frame + 1])
        np.testing.assert_allclose(raw_of(one), plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fps", [10.0, 15.0, 19.62, 29.97, 60.0])
def test_windows_span_the_same_time_whatever_the_rate(make_video: Video, setup: ModelSetup, fps: float) -> None:
    windows = windows_of(str(make_video(fps, 2.0)), setup, FakeEngine(choose=lambda clip: 0).model)
    assert len(windows) in (4, 5)
    for one in windows:
        assert one.window.end_time - one.window.start_time == pytest.approx(15 / 25, abs=1 / fps + 1e-6)
    steps = np.diff([one.window.end_time for one in windows])
    assert steps == pytest.approx(np.full(len(steps), 8 / 25), abs=1 / fps + 1e-6)


def test_the_stride_and_the_clip_are_the_configurations(make_video: Video, tiny_checkpoint: Path) -> None:
    window = WindowConfig(stride=5, clip_len=8, frame_interval=2)
    model = ModelConfig(checkpoint=str(tiny_checkpoint), device="cpu", precision="fp32")
    engine = FakeEngine(choose=lambda clip: len(clip) % 3)
    windows = windows_of(
        str(make_video(25.0, 2.0)),
        settle_model(model, window),
        engine.model,
        Config(window=window, idle=IdleConfig(min_confidence=0, min_motion=0)),
    )
    assert [(one.window.first_frame, one.window.last_frame) for one in windows] == [
        (first, first + 14) for first in range(0, 36, 5)
    ]
    assert {len(clip) for batch in engine.batches for clip in batch} == {8}


def test_segments_follow_the_windows_and_do_not_overlap(make_video: Video, setup: ModelSetup) -> None:
    path = str(make_video(25.0, 2.0))
    engine = FakeEngine(choose=lambda clip: 0 if len(engine.batches) <= 2 else 1)
    messages = list(recognize_video(path, engine.model, setup, PLAIN))
    kinds = [isinstance(message, Segment) for message in messages]
    assert kinds == sorted(kinds)
    segments = [message for message in messages if isinstance(message, Segment)]
    assert [(one.label, one.windows) for one in segments] == [("wave", 2), ("clap", 3)]
    assert segments[0].start_time == pytest.approx(0.28, abs=1e-3)  # since the warming stride's end
    assert segments[0].end_time == segments[1].start_time == pytest.approx(23 / 25, abs=1e-3)
    assert segments[1].end_time == pytest.approx(47 / 25, abs=1e-3)


def test_progress_is_told_in_media_time(make_video: Video, setup: ModelSetup) -> None:
    told: list[tuple[float, float | None]] = []
    engine = FakeEngine(choose=lambda clip: 0)
    path = str(make_video(25.0, 2.0))
    list(recognize_video(path, engine.model, setup, PLAIN, lambda time, duration: told.append((time, duration))))
    assert [time for time, _ in told] == pytest.approx([7 / 25, 15 / 25, 23 / 25, 31 / 25, 39 / 25, 47 / 25], abs=1e-3)
    assert {duration for _, duration in told} == {2.0}


def test_a_synthetic_scene_that_ends_is_a_video(setup: ModelSetup) -> None:
    windows = windows_of("synthetic://?fps=25&duration=1&size=64x64", setup, FakeEngine(choose=lambda clip: 0).model)
    assert [one.window.last_frame for one in windows] == [15, 23]


@pytest.mark.parametrize(
    ("video", "shown"),
    [
        ("0", "0"),
        ("/dev/video0", "/dev/video0"),
        ("rtsp://admin:s3cret@camera/live", r"rtsp://\*\*\*@camera/live"),
        ("synthetic://", "synthetic://"),
        ("synthetic://?duration=0", "synthetic://"),
    ],
)
def test_what_never_ends_is_refused_and_no_password_shown(video: str, shown: str, setup: ModelSetup) -> None:
    with pytest.raises(ConfigError, match=rf"^{shown}.* never ends: give recognize a video file") as caught:
        next(recognize_video(video, FakeEngine().model, setup, PLAIN))
    assert "s3cret" not in str(caught.value)


def test_a_file_may_be_recognised() -> None:
    assert offline_address("clips/a.mp4").kind == "file"


def test_a_file_that_is_no_video_is_told(tmp_path: Path, setup: ModelSetup) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("not a video")
    with pytest.raises(SourceNotFound, match="is not a video"):
        next(recognize_video(str(path), FakeEngine().model, setup, PLAIN))


def test_a_video_shorter_than_a_window_gives_no_judged_window_and_no_segment(
    make_video: Video, setup: ModelSetup
) -> None:
    engine = FakeEngine(choose=lambda clip: 0)
    messages = list(recognize_video(str(make_video(25.0, 0.5)), engine.model, setup, PLAIN))
    assert [message.state for message in messages if isinstance(message, VideoRecognition)] == ["warming"]
    assert len(messages) == 1


def test_the_video_is_closed_also_where_nobody_reads_to_its_end(
    make_video: Video, setup: ModelSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    closed: list[Any] = []

    def open_and_watch(*arguments: Any) -> Any:
        source = real(*arguments)
        close = source.close
        source.close = lambda: (closed.append(source), close())
        opened.append(source)
        return source

    real = offline.open_source
    monkeypatch.setattr(offline, "open_source", open_and_watch)
    messages = recognize_video(str(make_video(25.0, 2.0)), FakeEngine(choose=lambda clip: 0).model, setup, PLAIN)
    next(messages)
    assert closed == []
    messages.close()  # type: ignore[attr-defined]
    assert closed == opened
    assert len(opened) == 1


class NotFinite(FakeEngine):
    """Every second batch's output is not finite."""

    def logits(self, batch: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        rows = super().logits(batch)
        return rows if len(self.batches) % 2 else rows * np.float32("nan")


def test_windows_without_a_finite_output_are_left_out_and_told_at_the_end(make_video: Video, setup: ModelSetup) -> None:
    found: list[Any] = []
    with pytest.raises(EngineError, match=r"the network's output was not finite for \d+ windows, which are left out"):
        for message in recognize_video(str(make_video(25, 2)), NotFinite(choose=lambda clip: 0).model, setup, PLAIN):
            found.append(message)
    windows = [one for one in found if isinstance(one, VideoRecognition) and one.state != "warming"]
    assert windows
    assert all(abs(sum(score.probability for score in one.top_k) - 1) < 1e-3 for one in windows)
    assert windows[-1].windows_dropped >= len(windows) - 1
    assert any(isinstance(one, Segment) for one in found)
