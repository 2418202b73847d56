"""Builds the data sets of a training or an evaluation from its settings.

config.data -> annotations -> split -> probes -> VideoDataset | SceneDataset
"""

from __future__ import annotations

import logging

from msgspec import Struct, structs

from stream_i3d.errors import ConfigError
from stream_i3d.models.labels import load_labels
from stream_i3d.preprocess import Preprocessing
from stream_i3d.scenes import LABELS as SCENE_LABELS
from stream_i3d.training.annotations import Annotations, check_classes, read_annotations, relabelled, split
from stream_i3d.training.config import ClipConfig, DataConfig, TrainConfig
from stream_i3d.training.frame_cache import FrameCache
from stream_i3d.training.loading import ClipDataset
from stream_i3d.training.probing import Probe, Skipped, leave_out, probe_all
from stream_i3d.training.scene_dataset import SceneDataset
from stream_i3d.training.video_dataset import Mode, VideoDataset, VideoSettings

log = logging.getLogger(__name__)


class Datasets(Struct, frozen=True):
    """The data sets of a training.

    Attributes:
        train: Training set.
        val: Validation set; None if there is none.
        skipped: (path, reason) of videos that cannot be read.
    """

    train: ClipDataset
    val: ClipDataset | None
    skipped: Skipped


def with_clip(preprocessing: Preprocessing, clip: ClipConfig) -> Preprocessing:
    """Return `preprocessing` with the values of `clip` that are not None.

    Raises:
        ConfigError: The values do not fit each other.
    """
    names = ("sample_fps", "clip_len", "frame_interval", "short_side", "crop_size")
    given = {name: value for name in names if (value := getattr(clip, name)) is not None}
    try:
        return structs.replace(preprocessing, **given)
    except ValueError as error:
        raise ConfigError(f"clip: {error}; give both, clip.short_side and clip.crop_size") from None


def make_datasets(
    config: TrainConfig, preprocessing: Preprocessing, streams: tuple[str, ...], known_labels: tuple[str, ...] | None
) -> Datasets:
    """Return the data sets of a training.

    The order of the classes is that of `data.labels`; without it that of `known_labels`, if these are the classes
    found; else alphabetical.

    Args:
        config: Settings of the training.
        preprocessing: Preprocessing of the clips (`with_clip`).
        streams: Input streams of the network, "rgb" or "flow".
        known_labels: Classes of the weights to start from.

    Raises:
        ConfigError: There is nothing to train on, or the data do not fit the settings.
        LabelsError: `data.labels` cannot be read.
    """
    data = config.data
    labels = None if data.labels is None else load_labels(data.labels)
    if data.source == "scenes":
        train, val = (
            _scenes(config, preprocessing, streams, labels or _if_same_classes(known_labels, SCENE_LABELS), held_out)
            for held_out in (False, True)
        )
        return Datasets(train, val, ())
    found = _probe_videos(_read_train(data, labels, known_labels), data, str(data.train))
    if data.val is not None:
        val_found = _probe_videos(
            read_annotations(data.val, data.root, found.annotations.labels), data, data.val, False
        )
    else:
        found, val_found = _split_validation(found, config)
    make = _DatasetFactory(config, preprocessing, streams)
    val_videos = make.videos("val", val_found) if val_found.annotations.items else None
    if val_videos is None and data.val_fraction > 0:
        log.warning("data.val_fraction: no class has a second video to set aside; there is no validation")
    skipped = found.skipped if data.val is None else found.skipped + val_found.skipped
    return Datasets(make.videos("train", found), val_videos, skipped)


def make_test_dataset(
    config: TrainConfig,
    preprocessing: Preprocessing,
    streams: tuple[str, ...],
    labels: tuple[str, ...] | None,
    source: str | None = None,
) -> VideoDataset | SceneDataset:
    """Return the test set: the validation videos, with `clip.test_clips` clips and `clip.test_crops` crops of each.

    Args:
        config: Settings of the training.
        preprocessing: Preprocessing of the clips.
        streams: Input streams of the network, "rgb" or "flow".
        labels: The network's classes; None: those of `data.labels`, or those found.
        source: Other videos to test on, a folder or a list like `data.val`. Generated scenes have one.

    Raises:
        ConfigError: There is nothing to test on, or the data do not fit the settings.
        LabelsError: `data.labels` cannot be read.
    """
    data = config.data
    if labels is None and data.labels is not None:
        labels = load_labels(data.labels)
    if data.source == "scenes" and source is None:
        return _scenes(config, preprocessing, streams, labels, held_out=True)
    source = source or data.val
    if source is not None:
        found = _probe_videos(read_annotations(source, data.root, labels), data, source, False)
    else:
        _, found = _split_validation(_probe_videos(_read_train(data, labels, None), data, str(data.train)), config)
        if not found.annotations.items:
            raise ConfigError("there is nothing to test on: give --data, data.val, or a data.val_fraction above 0")
    return _DatasetFactory(config, preprocessing, streams).videos("test", found)


class _Found(Struct, frozen=True):
    """Readable videos, their probes, and the videos that cannot be read."""

    annotations: Annotations
    probes: dict[str, Probe]
    skipped: Skipped


class _DatasetFactory(Struct, frozen=True):
    """Makes the video data sets of a training."""

    config: TrainConfig
    preprocessing: Preprocessing
    streams: tuple[str, ...]

    def videos(self, mode: Mode, found: _Found) -> VideoDataset:
        config = self.config
        settings = VideoSettings(
            mode=mode,
            preprocessing=self.preprocessing,
            streams=self.streams,
            clip=config.clip,
            augment=config.augment,
            flow=config.data.flow,
            seed=config.run.seed,
        )
        durations = [found.probes[item.path].duration_s for item in found.annotations.items]
        cache = None if config.data.cache is None else FrameCache(config.data.cache)
        return VideoDataset(found.annotations, settings, durations, cache, found.skipped)


def _read_train(data: DataConfig, labels: tuple[str, ...] | None, known_labels: tuple[str, ...] | None) -> Annotations:
    if data.train is None:
        raise ConfigError(
            "data.train is not given; give a folder with a folder of videos per class, or a list with a line "
            "`path label` per video; or data.source=scenes"
        )
    found = read_annotations(data.train, data.root, labels)
    check_classes(found, data.train)
    if labels is None:
        return relabelled(found, _if_same_classes(known_labels, found.labels))
    shown = {item.label for item in found.items}
    empty = [label for index, label in enumerate(found.labels) if index not in shown]
    if empty:
        log.warning("%s: no video of %d classes, such as %r; they are not learned", data.train, len(empty), empty[0])
    return found


def _probe_videos(annotations: Annotations, data: DataConfig, source: str, every_class: bool = True) -> _Found:
    if data.cache is not None:
        FrameCache(data.cache)  # makes the folder, in which probes are kept too
    probes = probe_all((item.path for item in annotations.items), data.cache)
    usable, skipped = leave_out(annotations, probes, source, every_class)
    return _Found(usable, probes, skipped)


def _split_validation(found: _Found, config: TrainConfig) -> tuple[_Found, _Found]:
    train, val = split(found.annotations, config.data.val_fraction, config.run.seed)
    return structs.replace(found, annotations=train), structs.replace(found, annotations=val)


def _scenes(
    config: TrainConfig,
    preprocessing: Preprocessing,
    streams: tuple[str, ...],
    labels: tuple[str, ...] | None,
    held_out: bool,
) -> SceneDataset:
    scenes, seed, order = config.data.scenes, config.run.seed, labels or SCENE_LABELS
    return SceneDataset(scenes, preprocessing, streams, seed=seed, held_out=held_out, labels=order)


def _if_same_classes(known: tuple[str, ...] | None, found: tuple[str, ...]) -> tuple[str, ...]:
    """Return `known` if it has the classes of `found` in any order, else `found`."""
    return known if known is not None and set(known) == set(found) else found
