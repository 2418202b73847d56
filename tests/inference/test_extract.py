from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stream_i3d.capture.address import parse_source
from stream_i3d.capture.source import open_source
from stream_i3d.config import CaptureConfig, ModelConfig, WindowConfig
from stream_i3d.errors import CheckpointError, ConfigError, EngineError, SourceError
from stream_i3d.flow import make_flow
from stream_i3d.inference.extract import ExtractJob, Extractor, check_videos, parse_streams
from stream_i3d.inference.flow_frames import FlowFrames
from stream_i3d.inference.offline import read_frames
from stream_i3d.inference.setup import settle_model
from stream_i3d.inference.torch_engine import TorchEngine
from stream_i3d.models.checkpoint import load_checkpoint
from stream_i3d.models.i3d import I3D
from tests.inference.two_stream import save_stream
from tests.video_files import corners, write_film

Video = Callable[[float, float], Path]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return {
        "rgb": save_stream(folder / "rgb.safetensors", 3, seed=1),
        "flow": save_stream(folder / "flow.safetensors", 2, seed=2),
    }


def job_of(weights: dict[str, Path], output: Path, **given: Any) -> ExtractJob:
    model = ModelConfig(
        name="two-stream-i3d",
        checkpoint=str(weights["rgb"]),
        flow_checkpoint=str(weights["flow"]),
        device="cpu",
        precision="fp32",
    )
    settings: dict[str, Any] = {"streams": ("rgb", "flow"), "stack_size": 16, "step_size": 12, **given}
    return ExtractJob(model=model, output=output, **settings)


def arrays(folder: Path, stem: str) -> dict[str, np.ndarray]:
    found = {path.stem.removeprefix(f"{stem}_"): np.load(path) for path in folder.glob(f"{stem}_*.npy")}
    assert len(found) == len(list(folder.iterdir())), "something else was left behind"
    return found


def test_the_files_hold_the_features_of_each_stack(weights: dict[str, Path], make_video: Video, tmp_path: Path) -> None:
    video = make_video(25, 2)  # 50 frames: stacks end at frames 15, 27, 39
    assert Extractor(job_of(weights, tmp_path)).run(str(video)) == 3
    found = arrays(tmp_path, video.stem)
    assert set(found) == {"rgb", "flow", "fps", "timestamps_ms"}
    assert (found["rgb"].shape, found["flow"].shape) == ((3, 128), (3, 128))
    assert found["rgb"].dtype == found["flow"].dtype == np.float32
    assert found["fps"] == 25.0
    assert found["timestamps_ms"] == pytest.approx([600, 1080, 1560], abs=1)


def test_features_are_the_networks_own(weights: dict[str, Path], make_video: Video, tmp_path: Path) -> None:
    video = make_video(25, 2)
    Extractor(job_of(weights, tmp_path)).run(str(video))
    setup = settle_model(ModelConfig(checkpoint=str(weights["rgb"])), WindowConfig())
    source = open_source(parse_source(str(video)), CaptureConfig())
    with_flow = FlowFrames(make_flow("dis"))
    frames = np.stack([with_flow(frame.pixels) for frame in read_frames(source, "video", setup.preprocessing)])
    source.close()
    second = torch.from_numpy(frames[12:28].astype(np.float32) / 127.5 - 1).permute(3, 0, 1, 2)[None]
    found = arrays(tmp_path, video.stem)
    for stream, channels in (("rgb", slice(0, 3)), ("flow", slice(3, 5))):
        network, _ = load_checkpoint(weights[stream])
        with torch.inference_mode():
            assert isinstance(network, I3D)
            wanted = network.extract_features(second[:, channels]).mean(dim=(2, 3, 4))[0]
        assert found[stream][1] == pytest.approx(wanted.numpy(), abs=1e-4)


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_one_stream_gives_the_same_as_both(
    weights: dict[str, Path], make_video: Video, tmp_path: Path, stream: str
) -> None:
    video = make_video(25, 2)
    for folder, streams in (("both", ("rgb", "flow")), ("one", (stream,))):
        (tmp_path / folder).mkdir()
        Extractor(job_of(weights, tmp_path / folder, streams=streams)).run(str(video))
    one, both = arrays(tmp_path / "one", video.stem), arrays(tmp_path / "both", video.stem)
    assert set(one) == {stream, "fps", "timestamps_ms"}
    assert one[stream] == pytest.approx(both[stream], abs=1e-5)


def test_a_rate_other_than_the_videos_is_sampled_to(
    weights: dict[str, Path], make_video: Video, tmp_path: Path
) -> None:
    video = make_video(25, 2)
    assert Extractor(job_of(weights, tmp_path, fps=12.5, step_size=4, streams=("rgb",))).run(str(video)) == 3
    found = arrays(tmp_path, video.stem)
    assert found["fps"] == 12.5
    assert np.diff(found["timestamps_ms"]) == pytest.approx([320, 320], abs=1)


def test_stacks_may_have_frames_between_them(weights: dict[str, Path], make_video: Video, tmp_path: Path) -> None:
    video = make_video(25, 2)
    assert Extractor(job_of(weights, tmp_path, step_size=20, streams=("rgb",))).run(str(video)) == 2
    assert np.diff(arrays(tmp_path, video.stem)["timestamps_ms"]) == pytest.approx([800], abs=1)


def test_a_video_shorter_than_a_stack_has_none(weights: dict[str, Path], make_video: Video, tmp_path: Path) -> None:
    video = make_video(25, 2)
    job = job_of(weights, tmp_path, stack_size=64)
    assert Extractor(job).run(str(video)) == 0
    found = arrays(tmp_path, video.stem)
    assert (found["rgb"].shape, found["flow"].shape, found["timestamps_ms"].shape) == ((0, 128), (0, 128), (0,))
    assert job.done(str(video))


def test_a_broken_video_leaves_nothing_behind(weights: dict[str, Path], tmp_path: Path) -> None:
    video, output = tmp_path / "broken.mp4", tmp_path / "out"
    video.write_bytes(b"no video")
    output.mkdir()
    with pytest.raises(SourceError):
        Extractor(job_of(weights, output)).run(str(video))
    assert list(output.iterdir()) == []


def test_a_video_is_done_when_all_its_files_are_there(weights: dict[str, Path], tmp_path: Path) -> None:
    job = job_of(weights, tmp_path)
    for path in job.files("a/dance.mp4").values():
        assert not job.done("a/dance.mp4")
        path.touch()
    assert job.done("a/dance.mp4")


def test_files_that_cannot_be_written_are_told(weights: dict[str, Path], make_video: Video, tmp_path: Path) -> None:
    job = job_of(weights, tmp_path / "missing", streams=("rgb",))
    with pytest.raises(ConfigError, match=r"^cannot write .*missing.*: No such file or directory; give --output"):
        Extractor(job).run(str(make_video(25, 2)))


def test_videos_of_one_stem_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"a/dance\.mp4 and b/dance\.avi would both write dance_\*\.npy"):
        check_videos(["a/dance.mp4", "c/other.mp4", "b/dance.avi"])


@pytest.mark.parametrize(
    ("text", "streams"), [("rgb,flow", ("rgb", "flow")), ("flow, rgb", ("rgb", "flow")), ("flow", ("flow",))]
)
def test_streams_are_named(text: str, streams: tuple[str, ...]) -> None:
    assert parse_streams(text) == streams


@pytest.mark.parametrize("text", ["", "audio", "rgb,rgb", "rgb;flow"])
def test_other_streams_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="give rgb, flow or rgb,flow"):
        parse_streams(text)


def test_weights_of_the_other_stream_are_told(weights: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="give --flow-checkpoint weights that were trained on optical flow"):
        Extractor(job_of({"rgb": weights["rgb"], "flow": weights["rgb"]}, tmp_path))


def test_features_that_are_not_finite_are_an_error_and_nothing_is_written(
    weights: dict[str, Path], make_video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = Extractor(job_of(weights, tmp_path, streams=("rgb",)))
    broken = {"rgb": np.full((1, 1, 1, 128), np.nan, np.float32)}
    monkeypatch.setattr(TorchEngine, "run", lambda self, batch, states: (broken, [None]))
    with pytest.raises(EngineError, match=r"the rgb network's features are not finite for the stack that ends at"):
        extractor.run(str(make_video(25, 2)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [2, 25])
def test_twenty_seconds_are_31_stacks_of_16_frames_at_any_rate(
    weights: dict[str, Path], tmp_path: Path, fps: int
) -> None:
    pictures = [corners((64, 48))] * (20 * fps)
    video = write_film(tmp_path / "slow.mp4", pictures, [index / fps for index in range(20 * fps)], last_s=1 / fps)
    (tmp_path / "out").mkdir()
    job = job_of(weights, tmp_path / "out", streams=("rgb",), step_size=16)
    assert Extractor(job).run(str(video)) == 31
    assert arrays(tmp_path / "out", "slow")["timestamps_ms"][:2] == pytest.approx([600, 1240], abs=40)


def test_a_still_part_is_filled_and_joins_nothing_in_one_stack(weights: dict[str, Path], tmp_path: Path) -> None:
    times = [*(index / 25 for index in range(50)), *(12 + index / 25 for index in range(50))]
    video = write_film(tmp_path / "still.mp4", [corners((64, 48))] * 100, times)
    (tmp_path / "out").mkdir()
    assert Extractor(job_of(weights, tmp_path / "out", streams=("rgb",), step_size=16)).run(str(video)) == 21
    ends = arrays(tmp_path / "out", "still")["timestamps_ms"]
    assert np.diff(ends) == pytest.approx([640] * 20, abs=40)


def test_too_slow_a_video_is_told(weights: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    video = write_film(tmp_path / "slow.mp4", [corners((64, 48))] * 8, [index / 2 for index in range(8)], last_s=0.5)
    (tmp_path / "out").mkdir()
    Extractor(job_of(weights, tmp_path / "out", streams=("rgb",))).run(str(video))
    assert "slow.mp4 has 2 pictures a second, fewer than 2 in a window of 0.64 s" in caplog.text
