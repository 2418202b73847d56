from __future__ import annotations

import logging
import pickle
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stream_i3d.capture.reader import Clock, FrameReader
from stream_i3d.capture.video import open_file
from stream_i3d.errors import ConfigError, TrainingError
from stream_i3d.flow import dequantise, make_flow
from stream_i3d.flow.normalise import STILL
from stream_i3d.inference.flow_frames import FlowFrames
from stream_i3d.preprocess import Preprocessing
from stream_i3d.training import video_dataset, videos
from stream_i3d.training.annotations import Annotations, VideoItem
from stream_i3d.training.config import AugmentConfig, ClipConfig
from stream_i3d.training.frame_cache import FrameCache
from stream_i3d.training.loading import Sample, SampleKey
from stream_i3d.training.video_dataset import (
    Mode,
    VideoDataset,
    VideoSettings,
    centre_start,
    clip_numbers,
    even_starts,
    random_starts,
)
from tests.training.clips import FakeFile, numbers_of, write_video

Video = Callable[[float, float], Path]
LIVE = Preprocessing(clip_len=8, short_side=40, crop_size=32)
WHOLE = Preprocessing(clip_len=8, short_side=48, crop_size=48)  # keeps all of `numbered`'s bars
PLAIN = AugmentConfig(crop="centre", flip=0, brightness=0, contrast=0, saturation=0)


def dataset_of(
    paths: Sequence[Path | str],
    mode: Mode = "val",
    make: Preprocessing = WHOLE,
    *,
    targets: Sequence[int] | None = None,
    durations: Sequence[float | None] | None = None,
    cache: FrameCache | None = None,
    **given: Any,
) -> VideoDataset:
    labels = ("wave", "clap", "jump")
    items = [VideoItem(str(path), label) for path, label in zip(paths, targets or [0] * len(paths), strict=True)]
    settings = VideoSettings(mode=mode, preprocessing=make, **{"augment": PLAIN, **given})
    return VideoDataset(Annotations(tuple(items), labels), settings, durations or [2.0] * len(paths), cache)


def rgb(sample: Sample) -> NDArray[np.uint8]:
    """(N, T, H, W, 3)."""
    return sample["clips"]["rgb"].numpy()


def equal(one: Sample, other: Sample) -> bool:
    return (one["label"], one["index"], list(one["clips"])) == (
        other["label"],
        other["index"],
        list(other["clips"]),
    ) and all(torch.equal(one["clips"][name], other["clips"][name]) for name in one["clips"])


@pytest.fixture(scope="module")
def numbered_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of pictures that encode their number."""
    return write_video(tmp_path_factory.mktemp("videos") / "numbers.mp4", 50)


# --- the same as live


def live_frames(path: Path, flow: str | None = None) -> NDArray[np.uint8]:
    """(T, 32, 32, 3) as prepared by the live path, or (T, 32, 32, 5) with flow."""
    source = open_file(str(path))
    reader = FrameReader(
        source, "camera", 0, LIVE, Clock(time.monotonic_ns, time.time, lambda until: True), paced=False
    )
    with_flow = FlowFrames(make_flow(flow)) if flow else None
    frames: list[NDArray[np.uint8]] = []
    while (more := reader.read()) is not None:
        frames += [frame.pixels if with_flow is None else with_flow(frame.pixels) for frame in more]
    source.close()
    return np.stack(frames)


@pytest.mark.parametrize("fps", [19.62, 25.0, 29.97])
@pytest.mark.parametrize("interval", [1, 2])
def test_validation_and_tests_give_what_the_live_path_gives_flow_included(
    make_video: Video, fps: float, interval: int
) -> None:
    path = make_video(fps, 2.0)
    make = Preprocessing(clip_len=8, frame_interval=interval, short_side=40, crop_size=32)
    live = live_frames(path, "dis")
    clip = ClipConfig(test_clips=3, test_crops=1)
    for mode, first in (("val", (50 - make.window_frames) // 2), ("test", 0)):
        dataset = dataset_of([path], mode, make, streams=("rgb", "flow"), clip=clip)  # type: ignore[arg-type]
        sample = dataset[SampleKey(0, 0)]
        wanted = live[first : first + make.window_frames : interval]
        assert np.array_equal(sample["clips"]["rgb"][0], wanted[..., :3])
        assert np.array_equal(sample["clips"]["flow"][0], wanted[..., 3:])
        assert len(sample["clips"]["rgb"]) == (1 if mode == "val" else 3)
        assert (sample["clips"]["flow"].numpy() != STILL).mean() > 0.01


def test_a_looped_videos_flow_begins_anew_at_its_first_frame(tmp_path: Path, make_video: Video) -> None:
    path = make_video(25.0, 0.2)
    (flow,) = dataset_of([path], make=LIVE, streams=("flow",), durations=[0.2])[SampleKey(0, 0)]["clips"][
        "flow"
    ].numpy()
    live = live_frames(path, "dis")[..., 3:]
    assert np.array_equal(flow, live[[0, 1, 2, 3, 4, 0, 1, 2]])
    assert (flow[5] == STILL).all()
    assert (flow[6] != STILL).any()


def test_repeats_have_no_flow(make_video: Video) -> None:
    (flow,) = dataset_of([make_video(10.0, 2.0)], make=LIVE, streams=("flow",))[SampleKey(0, 0)]["clips"][
        "flow"
    ].numpy()
    still = [(one == STILL).all() for one in flow]
    assert 3 <= sum(still) <= 6


def test_flow_is_computed_once_for_each_new_picture_and_never_for_a_repeat(
    make_video: Video, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[bool] = []

    def everything_moves(previous: NDArray[np.uint8], current: NDArray[np.uint8]) -> NDArray[np.float32]:
        computed.append(np.array_equal(previous, current))
        return np.full((*current.shape, 2), 3, np.float32)

    monkeypatch.setattr(video_dataset, "make_flow", lambda name: everything_moves)
    (flow,) = dataset_of([make_video(10.0, 2.0)], make=LIVE, streams=("flow",))[SampleKey(0, 0)]["clips"][
        "flow"
    ].numpy()
    assert not any(computed)
    assert sum((one != STILL).all() for one in flow) == len(computed) in (3, 4)


# --- which frames


def test_validation_sees_the_clip_in_the_middle(numbered_video: Path) -> None:
    sample = dataset_of([numbered_video])[SampleKey(0, 0)]
    assert rgb(sample).shape == (1, 8, 48, 48, 3)
    assert numbers_of(rgb(sample)[0]) == list(range(21, 29))


def test_tests_see_clips_all_over_the_video_each_in_three_crops(numbered_video: Path) -> None:
    dataset = dataset_of([numbered_video], "test", clip=ClipConfig(test_clips=4, test_crops=3))
    sample = dataset[SampleKey(0, 0)]
    assert rgb(sample).shape == (12, 8, 48, 48, 3)
    assert [numbers_of(clip)[0] for clip in rgb(sample)] == [0] * 3 + [14] * 3 + [28] * 3 + [42] * 3
    smaller = Preprocessing(clip_len=8, short_side=48, crop_size=32)
    assert rgb(dataset_of([numbered_video], "test", smaller)[SampleKey(0, 0)]).shape == (30, 8, 48, 48, 3)
    centre = dataset_of([numbered_video], "test", smaller, clip=ClipConfig(test_clips=4, test_crops=1))
    assert rgb(centre[SampleKey(0, 0)]).shape == (4, 8, 32, 32, 3)


def test_three_crops_are_the_left_the_middle_and_the_right_of_a_wide_video(make_video: Video) -> None:
    crops = rgb(dataset_of([make_video(25.0, 2.0)], "test", LIVE, clip=ClipConfig(test_clips=1))[SampleKey(0, 0)])
    whole = Preprocessing(clip_len=8, short_side=40, crop_size=40)
    middle = rgb(dataset_of([make_video(25.0, 2.0)], "val", whole)[SampleKey(0, 0)])
    assert crops.shape == (3, 8, 40, 40, 3)
    assert np.array_equal(crops[1], middle[0])
    assert np.array_equal(crops[0][:, :, 6:], middle[0][:, :, :-6])  # 53 wide: 0, 6 and 13 from the left
    assert np.array_equal(crops[2][:, :, :-7], middle[0][:, :, 7:])


def test_training_sees_random_clips_another_in_each_epoch(numbered_video: Path) -> None:
    dataset = dataset_of([numbered_video] * 2, "train")
    firsts = [numbers_of(rgb(dataset[SampleKey(epoch, 0)])[0])[0] for epoch in range(60)]
    assert len(set(firsts)) > 25
    assert 0 <= min(firsts) < 5
    assert 37 < max(firsts) <= 42
    others = [numbers_of(rgb(dataset[SampleKey(epoch, 1)])[0])[0] for epoch in range(10)]
    assert others != firsts[:10]


def test_several_training_clips_are_in_the_order_of_the_video(numbered_video: Path) -> None:
    dataset = dataset_of([numbered_video], "train", clip=ClipConfig(num_clips=3))
    for epoch in range(5):
        clips = rgb(dataset[SampleKey(epoch, 0)])
        assert clips.shape == (3, 8, 48, 48, 3)
        first, second, third = [numbers_of(clip)[0] for clip in clips]
        assert 0 <= first <= 14 <= second <= 28 <= third <= 42  # 43 places in segments of 14.3


def test_a_clips_frames_are_the_interval_apart(numbered_video: Path) -> None:
    make = Preprocessing(clip_len=8, frame_interval=3, short_side=48, crop_size=48)
    assert numbers_of(rgb(dataset_of([numbered_video], make=make)[SampleKey(0, 0)])[0]) == list(range(14, 36, 3))


@pytest.mark.parametrize("duration", [0.2, None, 2.0])
def test_a_short_video_is_looped_whatever_its_container_says(tmp_path: Path, duration: float | None) -> None:
    path = write_video(tmp_path / "short.mp4", 5)
    for mode in ("train", "val", "test"):
        dataset = dataset_of([path], mode, durations=[duration], clip=ClipConfig(test_clips=2, test_crops=1))  # type: ignore[arg-type]
        for clip in rgb(dataset[SampleKey(0, 0)]):
            assert numbers_of(clip) == [0, 1, 2, 3, 4, 0, 1, 2]


def test_a_video_that_claims_less_than_a_clip_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "open_file", FakeFile(50).open)
    sample = dataset_of(["a"], durations=[0.2])[SampleKey(0, 0)]
    assert numbers_of(rgb(sample)[0]) == list(range(21, 29))


def test_with_a_cache_samples_are_the_same(numbered_video: Path, tmp_path: Path) -> None:
    cached = dataset_of([numbered_video], "train", cache=FrameCache(tmp_path), augment=AugmentConfig())
    plain = dataset_of([numbered_video], "train", augment=AugmentConfig())
    for epoch in (0, 1, 0):
        assert equal(cached[SampleKey(epoch, 0)], plain[SampleKey(epoch, 0)])
    assert len(list(tmp_path.glob("*/*.npy"))) == 1


# --- keys


def test_a_key_gives_the_same_sample_in_any_process_at_any_time(numbered_video: Path) -> None:
    all_at_once = AugmentConfig(crop="multi-scale", hue=0.2, gray=0.3)
    dataset = dataset_of([numbered_video] * 3, "train", make=LIVE, augment=all_at_once, streams=("rgb", "flow"), seed=7)
    keys = [SampleKey(epoch, index) for epoch in range(3) for index in range(3)]
    first = [dataset[key] for key in keys]
    elsewhere = pickle.loads(pickle.dumps(dataset))
    for key, sample in reversed(list(zip(keys, first, strict=True))):
        assert equal(elsewhere[key], sample)
        assert sample["index"] == key.index
    assert not any(equal(first[0], other) for other in first[1:])
    other_seed = dataset_of([numbered_video], "train", make=LIVE, augment=all_at_once, streams=("rgb", "flow"), seed=8)
    assert not equal(other_seed[keys[0]], first[0])


def test_validation_and_tests_are_the_same_in_every_epoch(numbered_video: Path) -> None:
    for mode in ("val", "test"):
        dataset = dataset_of([numbered_video], mode, augment=AugmentConfig(flip=1))  # type: ignore[arg-type]
        assert equal(dataset[SampleKey(0, 0)], dataset[SampleKey(5, 0)])


# --- augmentation


def test_a_training_clip_is_cropped_alike_in_all_frames(make_video: Video) -> None:
    still = dataset_of([make_video(25.0, 0.04)], "train", LIVE, durations=[0.04], augment=AugmentConfig())
    clips = [rgb(still[SampleKey(epoch, 0)])[0] for epoch in range(6)]  # one picture, looped
    for clip in clips:
        assert (clip == clip[0]).all()
    assert len({clip.tobytes() for clip in clips}) == 6
    several = dataset_of([make_video(25.0, 0.04)] * 6, "train", LIVE, durations=[0.04] * 6, augment=AugmentConfig())
    assert len({rgb(several[SampleKey(0, index)]).tobytes() for index in range(6)}) == 6


def test_a_mirrored_clip_has_the_label_of_the_mirror(numbered_video: Path, make_video: Video) -> None:
    swap = AugmentConfig(crop="centre", flip=1, flip_swap=(("wave", "clap"),), flip_keep=("jump",))
    paths = [make_video(25.0, 2.0)] * 3
    mirrored = dataset_of(paths, "train", LIVE, targets=[0, 1, 2], augment=swap)
    plain = dataset_of(paths, "train", LIVE, targets=[0, 1, 2], augment=PLAIN)
    assert mirrored.targets == (0, 1, 2)
    samples = [(mirrored[SampleKey(0, index)], plain[SampleKey(0, index)]) for index in range(3)]
    assert [one["label"] for one, _ in samples] == [1, 0, 2]
    assert [other["label"] for _, other in samples] == [0, 1, 2]
    no_jitter = AugmentConfig(crop="centre", flip=1, flip_keep=("jump",), brightness=0, contrast=0, saturation=0)
    mirrored = dataset_of(paths, "train", LIVE, targets=[0, 1, 2], augment=no_jitter)
    for index in range(3):
        seen, straight = (rgb(dataset[SampleKey(0, index)]) for dataset in (mirrored, plain))
        assert np.array_equal(seen, straight if index == 2 else straight[:, :, :, ::-1])


def test_the_clips_of_a_video_are_all_mirrored_or_none(make_video: Video) -> None:
    half = AugmentConfig(crop="centre", flip=0.5, brightness=0, contrast=0, saturation=0)
    clip = ClipConfig(num_clips=3)
    drawn, plain = (
        dataset_of([make_video(25.0, 2.0)], "train", LIVE, augment=augment, clip=clip) for augment in (half, PLAIN)
    )
    mirrored = []
    for epoch in range(10):
        seen, straight = (rgb(dataset[SampleKey(epoch, 0)]) for dataset in (drawn, plain))
        same = [np.array_equal(one, other) for one, other in zip(seen, straight, strict=True)]
        assert all(same) or np.array_equal(seen, straight[:, :, :, ::-1])
        mirrored.append(not same[0])
    assert {True, False} == set(mirrored)


def test_a_mirrored_clips_flow_is_mirrored_and_its_x_has_the_other_sign(make_video: Video) -> None:
    mirror = AugmentConfig(crop="centre", flip=1)
    seen, straight = (
        dataset_of([make_video(25.0, 2.0)], "train", LIVE, streams=("flow",), augment=augment)[SampleKey(0, 0)]
        for augment in (mirror, PLAIN)
    )
    mirrored = dequantise(seen["clips"]["flow"].numpy())
    wanted = dequantise(straight["clips"]["flow"].numpy())[:, :, :, ::-1] * np.array([-1, 1])
    moving = np.abs(wanted[..., 0]) > 0.5
    assert moving.mean() > 0.02
    assert np.median(np.abs(mirrored - wanted)[moving]) < 0.2
    assert np.median(np.abs(mirrored * np.array([-1, 1]) - wanted)[moving]) > 0.5  # without the sign it is another


def test_colours_change_rgb_and_not_flow(make_video: Video) -> None:
    jitter = AugmentConfig(crop="centre", flip=0, brightness=1.0)
    seen, straight = (
        dataset_of([make_video(25.0, 2.0)], "train", LIVE, streams=("rgb", "flow"), augment=augment)[SampleKey(0, 0)]
        for augment in (jitter, PLAIN)
    )
    assert not torch.equal(seen["clips"]["rgb"], straight["clips"]["rgb"])
    assert torch.equal(seen["clips"]["flow"], straight["clips"]["flow"])


def test_streams_are_in_the_networks_order(numbered_video: Path) -> None:
    for streams in (("rgb", "flow"), ("flow", "rgb"), ("flow",)):
        clips = dataset_of([numbered_video], streams=streams)[SampleKey(0, 0)]["clips"]
        assert tuple(clips) == streams
        assert clips["flow"].shape == (1, 8, 48, 48, 2)
        assert {clip.dtype for clip in clips.values()} == {torch.uint8}


@pytest.mark.parametrize("streams", [(), ("rgb", "depth")])
def test_an_unknown_stream_is_refused(numbered_video: Path, streams: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="of videos there are 'rgb' and 'flow'"):
        dataset_of([numbered_video], streams=streams)


# --- videos that go bad


@pytest.fixture
def spoiled(tmp_path: Path) -> list[Path]:
    """Six videos, two of each of three classes; the first is no longer readable."""
    paths = [write_video(tmp_path / f"{number}.mp4", 50) for number in range(6)]
    paths[0].write_bytes(b"noise")
    return paths


def test_another_video_of_its_class_takes_the_place_of_one_that_went_bad(
    spoiled: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    for seed in range(5):
        dataset = dataset_of(spoiled, "train", targets=[0, 1, 2, 0, 1, 2], seed=seed)
        assert dataset[SampleKey(0, 0)]["index"] == 3
    caplog.clear()
    dataset = dataset_of(spoiled, "train", targets=[0, 1, 2, 0, 1, 2])
    with caplog.at_level(logging.WARNING):
        samples = [dataset[SampleKey(epoch, 0)] for epoch in range(3)]
    assert {(sample["index"], sample["label"]) for sample in samples} == {(3, 0)}
    assert equal(samples[1], dataset[SampleKey(1, 3)])
    (record,) = caplog.records  # logged once
    assert "another video takes the place" in record.getMessage()
    assert "0.mp4 is not a video" in record.getMessage()


def test_where_its_class_has_no_other_one_of_another_class_does_the_same_each_time(spoiled: list[Path]) -> None:
    spoiled[3].unlink()
    samples = [dataset_of(spoiled, targets=[0, 1, 2, 0, 1, 2])[SampleKey(0, 0)] for _ in range(2)]
    assert samples[0]["label"] in (1, 2)
    assert equal(*samples)


def test_when_video_after_video_cannot_be_read_the_run_ends(spoiled: list[Path]) -> None:
    for path in spoiled:
        path.unlink(missing_ok=True)
    with pytest.raises(
        TrainingError, match=r"videos one after another cannot be read any more, the last .*mp4; is their"
    ):
        dataset_of(spoiled)[SampleKey(0, 2)]


def test_a_damaged_picture_does_not_lose_the_video(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "open_file", FakeFile(50, damaged=(24,)).open)
    assert numbers_of(rgb(dataset_of(["a"])[SampleKey(0, 0)])[0]) == [21, 22, 23, 23, 25, 26, 27, 28]


def test_labels_targets_and_names_are_attributes(spoiled: list[Path]) -> None:
    dataset = dataset_of(spoiled, targets=[0, 1, 2, 0, 1, 2])
    assert (len(dataset), dataset.targets, dataset.labels) == (6, (0, 1, 2, 0, 1, 2), ("wave", "clap", "jump"))
    assert dataset.names == tuple(map(str, spoiled))


def starts(num_frames: int, span: int, num_clips: int, draws: int = 400) -> np.ndarray:
    """(draws, num_clips) random starts."""
    rng = np.random.default_rng(0)
    return np.stack([random_starts(num_frames, span, num_clips, rng) for _ in range(draws)])


def test_every_place_where_a_clip_fits_is_as_likely() -> None:
    counts = Counter(starts(20, 16, 1, draws=2000).ravel().tolist())
    assert sorted(counts) == [0, 1, 2, 3, 4]
    assert min(counts.values()) > 320
    assert max(counts.values()) < 480


def test_each_of_several_clips_is_in_its_own_segment() -> None:
    drawn = starts(115, 16, 4)  # 100 places in segments of 25
    for segment, column in enumerate(drawn.T):
        assert (column.min() // 25, column.max() // 25) == (segment, segment)
        assert len(set(column.tolist())) == 25


def test_each_clips_place_in_its_segment_is_its_own() -> None:
    drawn = starts(115, 16, 4) % 25
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.2


def test_segments_may_be_smaller_than_a_frame() -> None:
    drawn = starts(18, 16, 5)  # three places for five clips
    assert (np.diff(drawn, axis=1) >= 0).all()
    assert set(drawn.ravel().tolist()) == {0, 1, 2}


@pytest.mark.parametrize("num_frames", [1, 10, 16])
def test_in_a_short_video_clips_start_at_its_beginning(num_frames: int) -> None:
    assert not starts(num_frames, 16, 3, draws=20).any()
    assert centre_start(num_frames, 16).tolist() == [0]
    assert even_starts(num_frames, 16, 10).tolist() == [0] * 10


def test_as_many_numbers_are_drawn_whatever_the_length() -> None:
    after = []
    for num_frames in (3, 500):
        rng = np.random.default_rng(0)
        random_starts(num_frames, 16, 3, rng)
        after.append(rng.random())
    assert after[0] == after[1]


def test_the_clip_in_the_middle() -> None:
    assert centre_start(50, 16).tolist() == [17]
    assert centre_start(17, 16).tolist() == [0]


def test_ten_clips_are_spread_from_the_beginning_to_the_end() -> None:
    assert even_starts(250, 64, 10).tolist() == [0, 21, 41, 62, 83, 103, 124, 145, 165, 186]


def test_one_clip_for_a_test_is_the_one_in_the_middle() -> None:
    assert even_starts(50, 16, 1).tolist() == centre_start(50, 16).tolist()


def test_clip_numbers_are_the_interval_apart() -> None:
    make = Preprocessing(clip_len=8, frame_interval=3)
    numbers = clip_numbers(np.array([0, 5]), 100, make)
    assert numbers.tolist() == [[0, 3, 6, 9, 12, 15, 18, 21], [5, 8, 11, 14, 17, 20, 23, 26]]
    assert numbers[0, -1] + 1 == make.window_frames


def test_a_short_video_is_looped() -> None:
    make = Preprocessing(clip_len=8, frame_interval=1)
    assert clip_numbers(np.array([0]), 3, make).tolist() == [[0, 1, 2, 0, 1, 2, 0, 1]]
    assert clip_numbers(np.array([0]), 1, make).tolist() == [[0] * 8]
    assert clip_numbers(np.array([0]), 5, Preprocessing(clip_len=8, frame_interval=2)).tolist() == [
        [0, 2, 4, 1, 3, 0, 2, 4]
    ]
