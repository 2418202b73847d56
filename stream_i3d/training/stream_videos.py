"""The videos of a data set as sources of a simulated camera: how each is opened, and their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_i3d.capture.picture_memory import automatic_limit_mb
from stream_i3d.capture.source import Source
from stream_i3d.capture.video import open_file
from stream_i3d.preprocess import Image, Preprocessing, resize_short_side
from stream_i3d.scenes import LABELS
from stream_i3d.scenes.render import Scene
from stream_i3d.training.scene_dataset import HELD_OUT, camera_sizes
from stream_i3d.training.videos import VideoReader

MAX_SCENES = 60

SCENE_SECONDS = 4.0
SCENE_SECONDS_CARRIED = 12.0
"""For streaming mode, where one prediction depends on 4.3 s."""

_SCENE_STREAM = 1  # second number of a scene's seed; the clips of SceneDataset have 0


@dataclass(frozen=True, slots=True)
class StreamVideo:
    """A video to play.

    Attributes:
        name: Its path, or another name.
        label: Name of its class.
        open: Opens it as a source for the live path.
        frames: Returns the sampled frames of given numbers, by number, as an evaluation reads them: (H', W', 3) uint8
            RGB, with the short side resized.
    """

    name: str
    label: str
    open: Callable[[], Source]
    frames: Callable[[Sequence[int]], Mapping[int, Image]]


def file_video(path: str, label: str, preprocessing: Preprocessing) -> StreamVideo:
    """Return a video file as a `StreamVideo`."""

    def frames(numbers: Sequence[int]) -> Mapping[int, Image]:
        reader = VideoReader(preprocessing.sample_fps, preprocessing.short_side)
        return reader.read(path, max(numbers) + 1, lambda count: np.array(numbers, np.int64))[1]

    return StreamVideo(path, label, lambda: open_file(path), frames)


def scene_video(number: int, preprocessing: Preprocessing, seconds: float = SCENE_SECONDS) -> StreamVideo:
    """Return a generated scene as a camera with the sampled frame rate; its label is number % 10.

    The scene is endless: objects that leave the picture enter it again.
    """
    label = LABELS[number % len(LABELS)]
    seed = (HELD_OUT, _SCENE_STREAM, number)
    sizes = camera_sizes(preprocessing.short_side)
    size = sizes[np.random.default_rng([*seed, 1]).integers(len(sizes))]

    def render(numbers: Sequence[int]) -> list[NDArray[np.uint8]]:
        scene = Scene(np.random.default_rng(seed), label, size)
        return [scene.frame(n / preprocessing.sample_fps) for n in numbers]

    def frames(numbers: Sequence[int]) -> Mapping[int, Image]:
        resized = (resize_short_side(picture, preprocessing.short_side) for picture in render(numbers))
        return {n: picture[:, :, ::-1].copy() for n, picture in zip(numbers, resized, strict=True)}

    def open_scene() -> Source:
        return Pictures(np.stack(render(range(round(seconds * preprocessing.sample_fps)))), preprocessing.sample_fps)

    return StreamVideo(f"scene {number}", label, open_scene, frames)


def stream_videos(
    names: Sequence[str],
    targets: Sequence[int],
    labels: Sequence[str],
    preprocessing: Preprocessing,
    scenes: bool,
    scene_seconds: float = SCENE_SECONDS,
) -> list[StreamVideo]:
    """Return the videos of a data set.

    Args:
        names: Name of each; the paths of files.
        targets: The class of each.
        labels: The classes.
        preprocessing: Preprocessing of the frames.
        scenes: Whether they are generated clips, which are replaced by longer scenes, at most `MAX_SCENES`.
        scene_seconds: Length of each scene in seconds.
    """
    if scenes:
        return [scene_video(number, preprocessing, scene_seconds) for number in range(min(len(names), MAX_SCENES))]
    return [file_video(name, labels[target], preprocessing) for name, target in zip(names, targets, strict=True)]


class Pictures:
    """(T, H, W, 3) uint8 BGR pictures in memory as a `Source` with a constant frame rate."""

    live = False
    intact = True
    pixel_aspect = 1.0

    def __init__(self, pictures: NDArray[np.uint8], fps: float) -> None:
        self._pictures, self._fps, self._next = pictures, fps, 0
        self.description = f"{pictures.shape[2]}x{pictures.shape[1]} at {fps:g} fps, in memory"
        self.duration_s: float | None = len(pictures) / fps
        self.memory_limit_mb = automatic_limit_mb(pictures.shape[2], pictures.shape[1])

    def grab(self) -> float | None:  # noqa: D102 (documented in the protocol)
        self._next += 1
        return (self._next - 1) / self._fps if self._next <= len(self._pictures) else None

    @property
    def until(self) -> float | None:  # noqa: D102
        return self._next / self._fps

    def retrieve(self) -> Image:  # noqa: D102
        picture: Image = self._pictures[self._next - 1]
        return picture

    def doubt(self) -> None:  # noqa: D102
        return

    def close(self) -> None:  # noqa: D102
        return


def stream_order(labels: Sequence[str], seed: int) -> list[int]:
    """Return indices of videos in a random order without two neighbours of one class, where possible."""
    rng = np.random.default_rng(seed)
    waiting: dict[str, list[int]] = {}
    for place in rng.permutation(len(labels)).tolist():
        waiting.setdefault(labels[place], []).append(place)
    left = Counter({label: len(places) for label, places in waiting.items()})
    order: list[int] = []
    last: str | None = None
    while total := left.total():
        names = [label for label in left if left[label] and label != last] or [str(last)]
        chosen = max(names, key=lambda label: left[label])
        # A class with more than half of the remaining videos must come now, or it will be its own neighbour later.
        if 2 * left[chosen] <= total:
            weights = np.array([left[label] for label in names], np.float64)
            chosen = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        order.append(waiting[chosen].pop())
        left[chosen] -= 1
        last = chosen
    return order
