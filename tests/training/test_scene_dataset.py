from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stream_i3d.errors import ConfigError
from stream_i3d.preprocess import Preprocessing, prepare_frame
from stream_i3d.scenes import LABELS
from stream_i3d.training import scene_dataset
from stream_i3d.training.config import SceneConfig
from stream_i3d.training.loading import SampleKey
from stream_i3d.training.scene_dataset import SceneDataset, camera_sizes

MAKE = Preprocessing(clip_len=8, short_side=32, crop_size=32)
CONFIG = SceneConfig(clips=20, fresh=6, held_out=12, size=(43, 32))


class Renderer:
    """Replaces `render_clip`: pictures with a mark that moves along time, x and y; records its calls."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[int, ...], str]] = []
        self.arguments: list[tuple[int, float, tuple[int, int]]] = []
        self.plain: list[bool] = []

    def __call__(
        self, seed: tuple[int, ...], label: str, clip_len: int, fps: float, size: tuple[int, int], *, plain: bool
    ) -> NDArray[np.uint8]:
        self.asked.append((seed, label))
        self.arguments.append((clip_len, fps, size))
        self.plain.append(plain)
        t, y, x = np.ix_(range(clip_len), range(size[1]), range(size[0]))
        value = 10 * t + y + 0 * x
        return np.stack([value, 2 * x + 0 * value, 100 + 0 * value], axis=-1).astype(np.uint8)


@pytest.fixture
def renderer(monkeypatch: pytest.MonkeyPatch) -> Renderer:
    fake = Renderer()
    monkeypatch.setattr(scene_dataset, "render_clip", fake)
    return fake


def clip_of(dataset: SceneDataset, epoch: int, index: int) -> NDArray[np.uint8]:
    """(T, H, W, 3)."""
    return dataset[SampleKey(epoch, index)]["clips"]["rgb"][0].numpy()


def test_samples_are_those_of_rendered_scenes() -> None:
    dataset = SceneDataset(CONFIG, MAKE, held_out=True)
    sample = dataset[SampleKey(0, 3)]
    assert sample["clips"]["rgb"].shape == (1, 8, 32, 32, 3)
    assert sample["clips"]["rgb"].dtype == torch.uint8
    frames = scene_dataset.render_clip((2, 0, 3), LABELS[3], 8, 25.0, (43, 32))
    assert np.array_equal(clip_of(dataset, 0, 3), np.stack([prepare_frame(frame, MAKE) for frame in frames]))
    assert (sample["label"], sample["index"]) == (3, 3)


def test_an_epoch_goes_on_in_an_endless_stream_with_some_new_clips(renderer: Renderer) -> None:
    dataset = SceneDataset(CONFIG, MAKE, seed=4)
    for epoch in range(2):
        for index in range(len(dataset)):
            clip_of(dataset, epoch, index)
    assert renderer.asked == [((1, 4, number), LABELS[number % 10]) for number in range(26)]


def test_a_clip_is_rendered_once_for_all_the_epochs_that_show_it(renderer: Renderer) -> None:
    dataset = SceneDataset(CONFIG, MAKE)
    for epoch in range(4):
        clip_of(dataset, epoch, 19 - 6 * epoch)  # number 19 each time
    assert len(renderer.asked) == 1
    clip_of(dataset, 4, 15)  # number 39 takes its place
    clip_of(dataset, 0, 19)
    assert [seed[-1] for seed, _ in renderer.asked] == [19, 39, 19]


def test_no_more_clips_are_kept_than_an_epoch_shows(renderer: Renderer) -> None:
    dataset = SceneDataset(CONFIG, MAKE)
    for epoch in range(0, 40, 3):
        for index in range(20):
            clip_of(dataset, epoch, index)
    assert len(dataset._rendered) == 20


def test_another_process_gives_the_same_and_does_not_get_what_was_rendered(renderer: Renderer) -> None:
    dataset = SceneDataset(CONFIG, MAKE, seed=3)
    clips = [clip_of(dataset, 2, index) for index in range(5)]
    sent = pickle.dumps(dataset)
    assert len(sent) < 20_000
    elsewhere = pickle.loads(sent)
    assert all(np.array_equal(clip_of(elsewhere, 2, index), clips[index]) for index in reversed(range(5)))


def test_held_out_clips_are_others_the_same_in_every_epoch_and_for_every_seed(renderer: Renderer) -> None:
    sets = [SceneDataset(CONFIG, MAKE, seed=seed, held_out=True) for seed in (0, 5)]
    assert len(sets[0]) == 12
    for dataset in sets:
        assert dataset.targets == tuple(number % 10 for number in range(12))
        for epoch in (0, 1):
            clip_of(dataset, epoch, 7)
    assert {seed for seed, _ in renderer.asked} == {(2, 0, 7)}
    later = SceneDataset(CONFIG, MAKE, held_out=True, first=1005)
    clip_of(later, 0, 1)
    assert renderer.asked[-1] == ((2, 0, 1006), LABELS[6])
    assert later.targets[:2] == (5, 6)


def test_augmentation_is_another_in_every_epoch_and_the_same_for_a_key(renderer: Renderer) -> None:
    dataset = SceneDataset(CONFIG, MAKE)
    clips = [clip_of(dataset, epoch, 19 - 6 * epoch) for epoch in range(4)]
    assert len({clip.tobytes() for clip in clips}) >= 3
    assert np.array_equal(clip_of(dataset, 1, 13), clips[1])
    assert not np.array_equal(clip_of(SceneDataset(CONFIG, MAKE, seed=1), 1, 13), clips[1])


def undone(clip: NDArray[np.uint8]) -> tuple[bool, bool, bool]:
    """The reversed axes of a clip of `Renderer`, x, y and time, whatever its colours."""
    values = clip.astype(int)
    if (np.ptp(values, axis=(0, 1, 2)) == 0).sum() != 1:
        raise AssertionError("no channel is even")
    even = int(values[0, 0, 0][np.ptp(values, axis=(0, 1, 2)) == 0][0])
    values = values if even == 100 else 255 - values
    along_x = np.diff(values, axis=2).sum()
    along_y, along_t = np.diff(values, axis=1).sum(), np.diff(values, axis=0).sum()
    return bool(along_x < 0), bool(along_y < 0), bool(along_t < 0)


@pytest.mark.parametrize(
    ("label", "by_x", "by_y", "by_time"),
    [
        ("left", "right", "left", "right"),
        ("right", "left", "right", "left"),
        ("up", "up", "down", "down"),
        ("down", "down", "up", "up"),
        ("clockwise", "counter-clockwise", "counter-clockwise", "counter-clockwise"),
        ("counter-clockwise", "clockwise", "clockwise", "clockwise"),
        ("nearer", "nearer", "nearer", "farther"),
        ("farther", "farther", "farther", "nearer"),
        ("still", "still", "still", "still"),
        ("waving", "waving", "waving", "waving"),
    ],
)
def test_the_label_is_that_of_what_is_seen(renderer: Renderer, label: str, by_x: str, by_y: str, by_time: str) -> None:
    becomes = {"x": by_x, "y": by_y, "time": by_time}
    dataset = SceneDataset(SceneConfig(clips=10, fresh=10, size=(43, 32)), MAKE)
    seen = set()
    for epoch in range(60):
        sample = dataset[SampleKey(epoch, LABELS.index(label))]
        axes = undone(sample["clips"]["rgb"][0].numpy())
        seen.add(axes)
        single = [name for name, reversed_ in zip(("x", "y", "time"), axes, strict=True) if reversed_]
        if not single:
            assert LABELS[sample["label"]] == label
        if len(single) == 1:
            assert LABELS[sample["label"]] == becomes[single[0]]
        if len(single) == 2 and label in ("clockwise", "counter-clockwise"):
            assert LABELS[sample["label"]] == label
    assert len(seen) == 8


def test_colours_are_exchanged_and_inverted(renderer: Renderer) -> None:
    dataset = SceneDataset(SceneConfig(clips=1, fresh=1, size=(43, 32)), MAKE)
    levels = [
        [int(level) for level, span in zip(clip[0, 0, 0], np.ptp(clip, axis=(0, 1, 2)), strict=True) if span == 0]
        for clip in (clip_of(dataset, epoch, 0).astype(int) for epoch in range(200))
    ]
    assert {level for (level,) in levels} == {100, 155}
    assert 0.08 < np.mean([level == [155] for level in levels]) < 0.24
    places = {int(np.ptp(clip_of(dataset, epoch, 0), axis=(0, 1, 2)).argmin()) for epoch in range(30)}
    assert places == {0, 1, 2}


def test_a_clips_make_is_the_networks(renderer: Renderer) -> None:
    make = Preprocessing(clip_len=9, frame_interval=2, sample_fps=30, short_side=32, crop_size=32)
    clip_of(SceneDataset(CONFIG, make), 0, 0)
    assert renderer.arguments == [(9, 15.0, (43, 32))]


def test_cameras_are_of_the_networks_size_or_larger(renderer: Renderer) -> None:
    assert camera_sizes(80) == ((107, 80),) * 6 + ((142, 80),) + ((160, 120),) * 2 + ((320, 240),)
    dataset = SceneDataset(SceneConfig(clips=200, fresh=1), MAKE)
    for index in range(200):
        clip_of(dataset, 0, index)
    assert {size for _, _, size in renderer.arguments} == set(camera_sizes(32))


def test_ever_fewer_of_the_first_clips_are_plain_ones(renderer: Renderer) -> None:
    dataset = SceneDataset(SceneConfig(clips=600, fresh=1, plain=400, size=(43, 32)), MAKE)
    for index in range(600):
        clip_of(dataset, 0, index)
    shares = [np.mean(renderer.plain[first : first + 100]) for first in range(0, 600, 100)]
    assert shares == pytest.approx([0.875, 0.625, 0.375, 0.125, 0, 0], abs=0.12)
    assert shares[4:] == [0, 0]


def test_by_default_and_among_held_out_clips_none_is_plain(renderer: Renderer) -> None:
    clip_of(SceneDataset(CONFIG, MAKE), 0, 0)
    clip_of(SceneDataset(SceneConfig(plain=10**9, size=(43, 32)), MAKE, held_out=True), 0, 0)
    assert renderer.plain == [False, False]


def test_classes_may_stand_in_another_order(renderer: Renderer) -> None:
    labels = tuple(sorted(LABELS))
    dataset = SceneDataset(CONFIG, MAKE, held_out=True, labels=labels)
    for index in range(10):
        assert labels[dataset[SampleKey(0, index)]["label"]] == LABELS[index]
        assert dataset.targets[index] == dataset[SampleKey(0, index)]["label"]
    mirrored = SceneDataset(CONFIG, MAKE, labels=labels)
    assert {labels[mirrored[SampleKey(epoch, (1 - 6 * epoch) % 10)]["label"]] for epoch in range(30)} == {
        "left",
        "right",
    }


def test_scenes_have_no_flow_and_no_other_classes() -> None:
    with pytest.raises(ConfigError, match="has RGB alone, and the network takes rgb and flow"):
        SceneDataset(CONFIG, MAKE, ("rgb", "flow"))
    with pytest.raises(ConfigError, match="has RGB alone, and the network takes flow"):
        SceneDataset(CONFIG, MAKE, ("flow",))
    with pytest.raises(ConfigError, match=r"has the classes still, left, .*; the network or data\.labels has others"):
        SceneDataset(CONFIG, MAKE, labels=("wave", "clap"))
