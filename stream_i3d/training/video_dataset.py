"""Training, validation and test clips from video files.

Validation and test clips are bit for bit what the live path gives a network for the same frames, optical flow
included.

Frame numbers count frames sampled to the model's rate, from 0. A clip has `clip_len` frames, `frame_interval` apart,
like a live window. A video shorter than a clip is looped (Carreira & Zisserman, CVPR 2017, section 3). Clip positions
follow MMAction2's SampleFrames with one difference: there a clip's span also counts `frame_interval` frames after its
last frame, so up to num_clips - 1 starts at the end of the video are never drawn. Here every start can be drawn.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from msgspec import Struct, structs
from numpy.typing import NDArray

from stream_i3d.config import FlowName
from stream_i3d.errors import ConfigError, SourceError, TrainingError
from stream_i3d.flow import FlowMethod, make_flow, quantise, to_gray
from stream_i3d.flow.normalise import STILL
from stream_i3d.preprocess import Image, Preprocessing
from stream_i3d.training.annotations import Annotations
from stream_i3d.training.augment import Augmenter, Colours, Pictures, View, centre_box, three_boxes
from stream_i3d.training.config import AugmentConfig, ClipConfig
from stream_i3d.training.frame_cache import FrameCache
from stream_i3d.training.loading import Sample, SampleKey
from stream_i3d.training.videos import Numbers, VideoReader, claimed_frames

log = logging.getLogger(__name__)

Mode = Literal["train", "val", "test"]

_PLACES, _AUGMENTATION = 0, 1  # last number of a seed, so that the two are independent
_ATTEMPTS = 20


class VideoSettings(Struct, frozen=True, kw_only=True):
    """How samples are made from videos.

    Attributes:
        mode: `train`: `clip.num_clips` clips at random places, augmented. `val`: the clip in the middle, cropped at
            the centre. `test`: `clip.test_clips` clips spread evenly, each with `clip.test_crops` crops: one is the
            centre's; three are squares of `short_side` along the longer side, in order of place, clip by clip.
        preprocessing: Preprocessing of the clips, with the settings of `clip` applied.
        streams: Input streams of the network, "rgb" or "flow".
        clip: Numbers of clips and crops.
        augment: Augmentation in training.
        flow: Method that computes flow.
        seed: Seed of the training.
    """

    mode: Mode
    preprocessing: Preprocessing
    streams: tuple[str, ...] = ("rgb",)
    clip: ClipConfig = ClipConfig()
    augment: AugmentConfig = AugmentConfig()
    flow: FlowName = "dis"
    seed: int = 0


class _Clip(NamedTuple):
    """Frame numbers, view and colours of one clip."""

    numbers: list[int]
    view: View
    colours: Colours


class VideoDataset:
    """A `ClipDataset` of video files.

    A video that cannot be read (any more) is replaced by another of its class, always the same one; this is logged
    once. `index` in the sample is then the index of the replacement.

    Args:
        annotations: The videos.
        settings: How samples are made.
        durations: Duration of each video in seconds according to its container (`probing`); None if unknown.
        cache: Cache of decoded frames.
        skipped: (path, reason) of videos that are not in `annotations`, for reports.

    Raises:
        ConfigError: As for `Augmenter`, or a stream has an unknown name.
    """

    def __init__(
        self,
        annotations: Annotations,
        settings: VideoSettings,
        durations: Sequence[float | None],
        cache: FrameCache | None = None,
        skipped: Sequence[tuple[str, str]] = (),
    ) -> None:
        if not settings.streams or not set(settings.streams) <= {"rgb", "flow"}:
            raise ConfigError(f"streams {', '.join(settings.streams)!r}: of videos there are 'rgb' and 'flow'")
        make = settings.preprocessing
        self.labels = annotations.labels
        self.targets = tuple(item.label for item in annotations.items)
        self.names = tuple(item.path for item in annotations.items)
        self.skipped = tuple(skipped)
        self._settings = settings
        self._augmenter = Augmenter(settings.augment, annotations.labels, make.crop_size)
        self._reader = VideoReader(make.sample_fps, make.short_side, cache)
        claims = (claimed_frames(duration, make.sample_fps) for duration in durations)
        # The exact length of a looped video is needed: its frames are counted, which is fast.
        self._claims = tuple(claim if claim is not None and claim >= make.window_frames else None for claim in claims)
        self._flow: FlowMethod | None = None
        self._failed: set[int] = set()

    def __len__(self) -> int:
        """Return the number of videos."""
        return len(self.targets)

    def __getitem__(self, key: SampleKey) -> Sample:
        """Return the sample of a key; in the modes `val` and `test` it is the same in every epoch.

        Raises:
            TrainingError: 20 videos in a row cannot be read.
        """
        for index in self._candidates(key):
            try:
                return self._sample(key.epoch, index)
            except SourceError as error:
                if index not in self._failed:
                    self._failed.add(index)
                    log.warning("another video takes the place of one that cannot be read any more: %s", error)
        raise TrainingError(
            f"{_ATTEMPTS} videos one after another cannot be read any more, the last {self.names[index]}; is their "
            "disk still there?"
        )

    def in_mode(self, mode: Mode) -> VideoDataset:
        """Return the same videos with the samples of another mode."""
        other = copy.copy(self)
        other._settings = structs.replace(self._settings, mode=mode)
        other._failed = set(self._failed)
        return other

    def __getstate__(self) -> dict[str, object]:
        """Leave out the flow method, which cannot be pickled and is made again in the other process."""
        return self.__dict__ | {"_flow": None}

    def _candidates(self, key: SampleKey) -> Iterator[int]:
        """Yield the key's own video, then replacements, those of the same class first."""
        yield key.index
        rng = np.random.default_rng([self._settings.seed, key.index])
        order = rng.permutation(len(self)).tolist()
        order.sort(key=lambda index: self.targets[index] != self.targets[key.index])  # stable
        yield from [index for index in order if index != key.index][: _ATTEMPTS - 1]

    def _sample(self, epoch: int, index: int) -> Sample:
        settings = self._settings
        seed = [settings.seed, epoch, index]

        def choose(count: int) -> Numbers:
            return self._numbers(count, np.random.default_rng([*seed, _PLACES]))

        with_flow = "flow" in settings.streams
        numbers, frames = self._reader.read(self.names[index], self._claims[index], choose, previous=with_flow)
        height, width = next(iter(frames.values())).shape[:2]
        label = self.targets[index]
        if settings.mode == "train":
            clips, label = self._drawn(numbers, height, width, label, np.random.default_rng([*seed, _AUGMENTATION]))
        else:
            clips = [_Clip(row, view, Colours()) for row in numbers.tolist() for view in self._views(height, width)]
        made = [self._streams(clip, frames) for clip in clips]
        stacked = {name: torch.from_numpy(np.stack([one[name] for one in made])) for name in settings.streams}
        return {"clips": stacked, "label": label, "index": index}

    def _numbers(self, count: int, rng: np.random.Generator) -> Numbers:
        """Return (N, clip_len): the frames of each clip of a video with `count` frames."""
        clip, make = self._settings.clip, self._settings.preprocessing
        span = make.window_frames
        if self._settings.mode == "train":
            starts = random_starts(count, span, clip.num_clips, rng)
        elif self._settings.mode == "val":
            starts = centre_start(count, span)
        else:
            starts = even_starts(count, span, clip.test_clips)
        return clip_numbers(starts, count, make)

    def _drawn(
        self, numbers: Numbers, height: int, width: int, label: int, rng: np.random.Generator
    ) -> tuple[list[_Clip], int]:
        """Draw the augmentation of each clip; return the clips, and their class after mirroring."""
        mirrored, label = self._augmenter.draw_mirrored(label, rng)
        clips = [
            _Clip(row, self._augmenter.draw_view(height, width, mirrored, rng), self._augmenter.draw_colours(rng))
            for row in numbers.tolist()
        ]
        return clips, label

    def _views(self, height: int, width: int) -> list[View]:
        make = self._settings.preprocessing
        if self._settings.mode == "test" and self._settings.clip.test_crops == 3:
            return [View(box, make.short_side) for box in three_boxes(height, width)]
        return [View(centre_box(height, width, make.crop_size), make.crop_size)]

    def _streams(self, clip: _Clip, frames: dict[int, Image]) -> dict[str, NDArray[np.uint8]]:
        """Return the network's input streams: (T, H, W, 3) RGB, (T, H, W, 2) flow codes."""
        numbers = sorted(set(clip.numbers))
        if "flow" in self._settings.streams:
            numbers = sorted({*numbers, *(number - 1 for number in numbers if number > 0)})
        pictures = clip.view.apply(np.stack([frames[number] for number in numbers]))
        place = {number: index for index, number in enumerate(numbers)}
        order = [place[number] for number in clip.numbers]
        streams: dict[str, NDArray[np.uint8]] = {}
        if "flow" in self._settings.streams:
            streams["flow"] = self._flow_of(pictures, [place.get(number - 1) for number in clip.numbers], order)
        if "rgb" in self._settings.streams:
            streams["rgb"] = clip.colours.apply(pictures[order])
        return streams

    def _flow_of(self, pictures: Pictures, before: Sequence[int | None], order: Sequence[int]) -> NDArray[np.uint8]:
        """Return the flow codes of each picture of a clip, from the picture before it in the video.

        As in `inference.flow_frames`, flow is zero for the first picture of a video and for a repeated picture.

        Args:
            pictures: (N, H, W, 3) uint8 RGB.
            before: Index of the picture before each; None for the first of the video.
            order: Indices of the clip's pictures.
        """
        if self._flow is None:
            self._flow = make_flow(self._settings.flow)
        grays = to_gray(pictures)
        codes: dict[int, NDArray[np.uint8]] = {}
        for previous, place in zip(before, order, strict=True):
            if place in codes:
                continue
            still = previous is None or np.array_equal(grays[previous], grays[place])
            codes[place] = (
                np.full((*grays.shape[1:], 2), STILL, np.uint8)
                if still or previous is None
                else quantise(self._flow(grays[previous], grays[place]))
            )
        return np.stack([codes[place] for place in order])


def random_starts(num_frames: int, span: int, num_clips: int, rng: np.random.Generator) -> Numbers:
    """Draw the starts of training clips, each at random in its own segment of the video.

    Args:
        num_frames: Frames of the video, at least 1.
        span: Frames from a clip's first to its last, both counted (`Preprocessing.window_frames`).
        num_clips: Number of clips; the possible starts are divided into as many equal segments.
        rng: `num_clips` numbers are drawn from it, whatever the video's length.

    Returns:
        (num_clips,) int64, not decreasing; zeros if the video is not longer than a clip.
    """
    places = max(1, num_frames - span + 1)
    shares = (np.arange(num_clips) + rng.random(num_clips)) / num_clips  # (num_clips,) in [0, 1)
    return np.minimum((shares * places).astype(np.int64), places - 1)


def centre_start(num_frames: int, span: int) -> Numbers:
    """Return (1,) int64: the start of the clip in the middle of a video."""
    return np.array([max(0, num_frames - span) // 2], np.int64)


def even_starts(num_frames: int, span: int, num_clips: int) -> Numbers:
    """Return (num_clips,) int64: starts spread evenly from the first to the last possible start.

    A single clip is in the middle. In a video that is not longer than a clip all starts are 0.
    """
    if num_clips == 1:
        return centre_start(num_frames, span)
    return np.round(np.linspace(0, max(0, num_frames - span), num_clips)).astype(np.int64)


def clip_numbers(starts: Numbers, num_frames: int, preprocessing: Preprocessing) -> Numbers:
    """Return (num_clips, clip_len) int64: the frame numbers of each clip, looped at the end of the video."""
    steps = np.arange(preprocessing.clip_len) * preprocessing.frame_interval
    return (starts[:, None] + steps) % num_frames
