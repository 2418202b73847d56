from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from stream_i3d.errors import ConfigError, LabelsError
from stream_i3d.preprocess import Preprocessing
from stream_i3d.scenes import LABELS as SCENES
from stream_i3d.settings import convert_settings
from stream_i3d.training import probing
from stream_i3d.training.config import ClipConfig, TrainConfig
from stream_i3d.training.datasets import Datasets, make_datasets, make_test_dataset, with_clip
from stream_i3d.training.loading import SampleKey
from stream_i3d.training.scene_dataset import SceneDataset
from stream_i3d.training.video_dataset import VideoDataset
from tests.training.clips import numbers_of, write_video

MAKE = Preprocessing(clip_len=8, short_side=48, crop_size=48)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A video of a second."""
    return write_video(tmp_path_factory.mktemp("template") / "a.mp4", 25).read_bytes()


@pytest.fixture
def data(tmp_path: Path, template: bytes) -> Path:
    """Five videos of each of three classes."""
    folder = tmp_path / "data"
    for name in ("wave", "clap", "jump"):
        add(folder, name, 5, template)
    return folder


def add(folder: Path, name: str, count: int, content: bytes) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / name / f"{number}.mp4").write_bytes(content)


def config(**data: Any) -> TrainConfig:
    sections = {name: data.pop(name) for name in ("clip", "augment", "run") if name in data}
    scenes = {"clips": 20, "fresh": 5, "held_out": 7, "size": [43, 32]}
    return convert_settings(TrainConfig, {"data": {"scenes": scenes, **data}, **sections})


def make(settings: TrainConfig, known: tuple[str, ...] | None = None, streams: tuple[str, ...] = ("rgb",)) -> Datasets:
    return make_datasets(settings, MAKE, streams, known)


def videos_of(dataset: object) -> list[str]:
    """`class/name` of each video."""
    assert isinstance(dataset, VideoDataset)
    for name, target in zip(dataset.names, dataset.targets, strict=True):
        assert Path(name).parent.name == dataset.labels[target]
    return [str(Path(name).relative_to(Path(name).parents[1])) for name in dataset.names]


def counts(dataset: object) -> dict[str, int]:
    names = [video.split("/")[0] for video in videos_of(dataset)]
    return {name: names.count(name) for name in sorted(set(names))}


# --- a clip's make


def test_given_clip_settings_lie_over_the_networks() -> None:
    assert with_clip(MAKE, ClipConfig()) == MAKE
    changed = with_clip(MAKE, ClipConfig(sample_fps=12.5, clip_len=16, frame_interval=2, short_side=64, crop_size=56))
    assert changed == Preprocessing(sample_fps=12.5, clip_len=16, frame_interval=2, short_side=64, crop_size=56)
    other = Preprocessing(mean=(1, 2, 3), std=(4, 5, 6))
    assert with_clip(other, ClipConfig(clip_len=8)) == Preprocessing(mean=(1, 2, 3), std=(4, 5, 6), clip_len=8)


def test_a_crop_larger_than_the_picture_is_an_error() -> None:
    with pytest.raises(ConfigError, match="crop_size 224 must not be above short_side 128; give both"):
        with_clip(Preprocessing(), ClipConfig(short_side=128))


# --- training and validation


def test_a_share_of_each_class_is_set_aside(data: Path) -> None:
    found = make(config(train=str(data)))
    assert (counts(found.train), counts(found.val)) == (
        {"clap": 4, "jump": 4, "wave": 4},
        {"clap": 1, "jump": 1, "wave": 1},
    )
    assert not set(videos_of(found.train)) & set(videos_of(found.val))
    assert found.skipped == ()
    other = make(config(train=str(data), run={"seed": 1}))
    assert set(videos_of(other.val)) != set(videos_of(found.val))


def test_samples_are_made_as_configured(data: Path) -> None:
    augment = {"crop": "centre", "flip": 1, "flip_swap": [["wave", "clap"]], "brightness": 0.0}
    found = make(config(train=str(data), clip={"num_clips": 2}, augment=augment))
    first = found.train[SampleKey(0, 0)]
    assert first["clips"]["rgb"].shape == (2, 8, 48, 48, 3)
    assert (found.train.targets[0], first["label"]) == (0, 2)  # clap, jump, wave
    assert found.val is not None
    assert numbers_of(found.val[SampleKey(3, 0)]["clips"]["rgb"][0].numpy()) == list(range(8, 16))
    assert found.val[SampleKey(0, 0)]["label"] == found.val.targets[0]


def test_flow_is_given_where_the_network_takes_it(data: Path) -> None:
    found = make(config(train=str(data), flow="farneback"), streams=("rgb", "flow"))
    assert list(found.train[SampleKey(0, 0)]["clips"]) == ["rgb", "flow"]


def test_settings_reach_the_samples(data: Path) -> None:
    def first(streams: tuple[str, ...] = ("rgb",), **given: Any) -> torch.Tensor:
        settings = config(train=str(data), val_fraction=0, **given)
        return make(settings, streams=streams).train[SampleKey(0, 0)]["clips"][streams[0]]

    assert torch.equal(first(), first(run={"seed": 0}))
    assert not torch.equal(first(), first(run={"seed": 1}))
    assert not torch.equal(first(("flow",), flow="farneback"), first(("flow",), flow="dis"))


def test_validation_videos_may_be_given(data: Path, tmp_path: Path, template: bytes) -> None:
    add(tmp_path / "val", "wave", 2, template)
    found = make(config(train=str(data), val=str(tmp_path / "val")))
    assert (len(found.train), counts(found.val)) == (15, {"wave": 2})
    assert found.val is not None
    assert found.val.labels == found.train.labels == ("clap", "jump", "wave")


def test_lists_share_a_root(data: Path, tmp_path: Path) -> None:
    for name, numbers in (("train", (0, 1)), ("val", (2,))):
        lines = [f"{label}/{number}.mp4 {label}" for label in ("wave", "clap") for number in numbers]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    found = make(config(train=str(tmp_path / "train.txt"), val=str(tmp_path / "val.txt"), root=str(data)))
    assert (counts(found.train), counts(found.val)) == ({"clap": 2, "wave": 2}, {"clap": 1, "wave": 1})


def test_there_may_be_no_validation(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert make(config(train=str(data), val_fraction=0)).val is None
    assert not caplog.records


def test_without_second_videos_there_is_no_validation_and_a_warning(
    tmp_path: Path, template: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("wave", "clap"):
        add(tmp_path / "data", name, 1, template)
    with caplog.at_level(logging.WARNING):
        found = make(config(train=str(tmp_path / "data")))
    assert (found.val, len(found.train)) == (None, 2)
    assert "there is no validation" in caplog.text


def test_training_needs_videos_of_two_classes(tmp_path: Path, template: bytes) -> None:
    with pytest.raises(ConfigError, match=r"data\.train is not given; give a folder .*; or data\.source=scenes"):
        make(config())
    add(tmp_path / "data", "wave", 3, template)
    with pytest.raises(ConfigError, match="has videos of one class only"):
        make(config(train=str(tmp_path / "data")))


def test_a_flip_of_an_unknown_class_is_an_error(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"augment\.flip_keep: no class 'wav' \(did you mean 'wave'\?\)"):
        make(config(train=str(data), augment={"flip_keep": ["wav"]}))


# --- the order of the classes


def test_known_labels_fix_the_order_where_they_are_the_same_classes(data: Path) -> None:
    assert make(config(train=str(data)), ("wave", "jump", "clap")).train.labels == ("wave", "jump", "clap")
    for known in (None, ("wave", "clap"), ("wave", "jump", "clap", "nod"), ("a", "b", "c")):
        assert make(config(train=str(data)), known).train.labels == ("clap", "jump", "wave")
    videos_of(make(config(train=str(data)), ("wave", "jump", "clap")).train)  # each with its own class


def test_given_labels_win(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "labels.txt").write_text("jump\nwave\nnod\nclap\n")
    with caplog.at_level(logging.WARNING):
        found = make(config(train=str(data), labels=str(tmp_path / "labels.txt")), ("wave", "jump", "clap"))
    assert found.train.labels == ("jump", "wave", "nod", "clap")
    assert "no video of 1 classes, such as 'nod'; they are not learned" in caplog.text
    with pytest.raises(ConfigError, match="no class 'clap'"):
        make(config(train=str(data), labels="kinetics400"))
    with pytest.raises(LabelsError):
        make(config(train=str(data), labels="kinetics40"))


# --- videos that cannot be read


def test_corrupt_videos_are_logged_skipped_and_counted(
    data: Path, tmp_path: Path, template: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (data / "wave" / "2.mp4").write_bytes(b"noise")
    add(tmp_path / "val", "wave", 2, template)
    (tmp_path / "val" / "wave" / "0.mp4").write_bytes(b"")
    add(tmp_path / "val", "jump", 1, b"noise")  # no class needs to be in the validation set
    with caplog.at_level(logging.WARNING):
        found = make(config(train=str(data), val=str(tmp_path / "val")))
    assert [Path(path).parts[-3:] for path, _ in found.skipped] == [
        ("data", "wave", "2.mp4"),
        ("val", "jump", "0.mp4"),
        ("val", "wave", "0.mp4"),
    ]
    assert len(caplog.records) == 3
    assert (len(found.train), counts(found.val)) == (14, {"wave": 1})
    for part in (found.train, found.val):
        assert part is not None
        for index in range(len(part)):
            assert part[SampleKey(0, index)]["index"] == index


def test_what_is_set_aside_is_chosen_among_those_that_can_be_read(data: Path) -> None:
    for number in (0, 1, 3):
        (data / "wave" / f"{number}.mp4").write_bytes(b"noise")
    found = make(config(train=str(data)))
    assert (counts(found.train)["wave"], counts(found.val)["wave"], len(found.skipped)) == (1, 1, 3)


def test_a_class_without_one_readable_video_is_an_error(data: Path) -> None:
    for number in range(5):
        (data / "wave" / f"{number}.mp4").write_bytes(b"noise")
    with pytest.raises(ConfigError, match=r"no video of class 'wave' can be read; the first: .*0\.mp4 is not a video"):
        make(config(train=str(data)))


def test_a_wrong_root_is_an_immediate_error(data: Path, tmp_path: Path) -> None:
    (data / "list.txt").write_text("0.mp4 wave\n1.mp4 clap\n")
    with pytest.raises(
        ConfigError, match=r"none of the 2 videos of .*; the first: no such file: .*, or give data\.root"
    ):
        make(config(train=str(data / "list.txt")))


def test_with_a_cache_a_second_start_does_not_open_the_videos(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(train=str(data), cache=str(tmp_path / "cache" / "deep"))
    first = make(settings)
    first.train[SampleKey(0, 0)]
    assert (tmp_path / "cache" / "deep" / "probes.json").is_file()
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 1
    monkeypatch.setattr(probing, "open_file", None)
    again = make(settings)
    assert again.train.targets == first.train.targets
    with pytest.raises(ConfigError, match=r"data\.cache: cannot write"):
        make(config(train=str(data), cache=str(data / "wave" / "0.mp4")))


# --- scenes


def test_scenes_are_a_source_of_data() -> None:
    found = make(config(source="scenes", run={"seed": 3}))
    assert isinstance(found.train, SceneDataset)
    assert isinstance(found.val, SceneDataset)
    assert (len(found.train), len(found.val), found.skipped) == (20, 7, ())
    assert found.train.labels == SCENES
    assert found.val[SampleKey(0, 4)]["label"] == 4
    assert found.val[SampleKey(0, 4)]["clips"]["rgb"].shape == (1, 8, 48, 48, 3)


def test_scenes_keep_the_order_of_known_classes_if_they_are_theirs(tmp_path: Path) -> None:
    order = tuple(sorted(SCENES))
    assert make(config(source="scenes"), order).train.labels == order
    assert make(config(source="scenes"), ("wave", "clap")).train.labels == SCENES
    (tmp_path / "labels.txt").write_text("\n".join(order))
    assert make(config(source="scenes", labels=str(tmp_path / "labels.txt")), SCENES).train.labels == order
    with pytest.raises(ConfigError, match="has the classes"):
        make(config(source="scenes", labels="ucf101"))


# --- tests


def test_the_validation_videos_are_tested_with_all_clips_and_crops(data: Path) -> None:
    settings = config(train=str(data), clip={"test_clips": 4, "test_crops": 3})
    dataset = make_test_dataset(settings, MAKE, ("rgb",), None)
    assert sorted(videos_of(dataset)) == sorted(videos_of(make(settings).val))
    assert dataset[SampleKey(0, 0)]["clips"]["rgb"].shape == (12, 8, 48, 48, 3)


def test_the_same_videos_are_tested_whatever_the_order_of_the_classes(data: Path) -> None:
    settings = config(train=str(data), val_fraction=0.4)
    dataset = make_test_dataset(settings, MAKE, ("rgb",), ("wave", "jump", "clap", "nod"))
    assert dataset.labels == ("wave", "jump", "clap", "nod")
    assert sorted(videos_of(dataset)) == sorted(videos_of(make(settings).val))


def test_validation_or_other_videos_are_tested_where_they_are_given(
    data: Path, tmp_path: Path, template: bytes
) -> None:
    add(tmp_path / "val", "wave", 2, template)
    add(tmp_path / "other", "jump", 3, template)
    (tmp_path / "other" / "jump" / "0.mp4").write_bytes(b"noise")
    settings = config(train=str(data), val=str(tmp_path / "val"))
    labels = ("clap", "jump", "wave")
    assert counts(make_test_dataset(settings, MAKE, ("rgb",), labels)) == {"wave": 2}
    other = make_test_dataset(settings, MAKE, ("rgb",), labels, str(tmp_path / "other"))
    assert counts(other) == {"jump": 2}
    assert [Path(path).name for path, _ in other.skipped] == ["0.mp4"]
    only = make_test_dataset(config(source="scenes"), MAKE, ("rgb",), labels, str(tmp_path / "other"))
    assert counts(only) == {"jump": 2}


def test_videos_of_a_class_that_the_network_does_not_have_are_an_error(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"no class 'clap' \(did you mean 'clapping'\?\)"):
        make_test_dataset(config(val=str(data)), MAKE, ("rgb",), ("wave", "clapping"))


def test_with_nothing_set_aside_there_is_nothing_to_test_on(data: Path) -> None:
    with pytest.raises(ConfigError, match="there is nothing to test on: give --data"):
        make_test_dataset(config(train=str(data), val_fraction=0), MAKE, ("rgb",), None)
    with pytest.raises(ConfigError, match=r"data\.train is not given"):
        make_test_dataset(config(), MAKE, ("rgb",), None)


def test_scenes_are_tested_on_those_held_out() -> None:
    dataset = make_test_dataset(config(source="scenes"), MAKE, ("rgb",), tuple(sorted(SCENES)))
    assert isinstance(dataset, SceneDataset)
    assert (len(dataset), dataset.labels) == (7, tuple(sorted(SCENES)))
    assert dataset.labels[dataset[SampleKey(9, 3)]["label"]] == SCENES[3]
    with pytest.raises(ConfigError, match="has the classes"):
        make_test_dataset(config(source="scenes"), MAKE, ("rgb",), ("wave", "clap"))
