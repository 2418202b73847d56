"""One clip of one motion, for training: a scene, a source of some frame rate, a shutter, a codec.

Does not know the network, nor tensors.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stream_i3d.scenes.camera import CLEAN_CAMERA, Camera
from stream_i3d.scenes.compression import InterFrameCodec, draw_codec
from stream_i3d.scenes.motion_sampling import Shot
from stream_i3d.scenes.noise import Pixels
from stream_i3d.scenes.render import Scene

GENERATOR_VERSION = 2
"""Raised whenever the same seed gives other pixels; a checkpoint's provenance names it."""

_SOURCE_FPS = (8.0, 60.0)
_LARGE = 0.5
"""Least size of a plain clip's things, as a share of the (logarithmic) way from the smallest to the largest."""
_LONGEST_EXPOSURE_S = 0.02
"""Half of a 25 fps frame: longer ones blur so much that the direction of the blur tells the motion's axis."""


def render_clip(
    seed: int | tuple[int, ...],
    label: str,
    clip_len: int = 16,
    fps: float = 25.0,
    size: tuple[int, int] = (107, 80),
    *,
    camera: Camera | None = None,
    plain: bool = False,
) -> Pixels:
    """Render one clip of one motion.

    Half of the clips are sampled from a source of 8 to 60 frames per second, as a live camera is, which
    repeats or skips a frame now and then; the others have equal gaps. Three in ten went through a video codec.

    Args:
        seed: The same seed (or tuple of seeds) gives the same clip.
        label: One of `LABELS`.
        clip_len: Frames.
        fps: Frames per second that the sampling aims for.
        size: (width, height) in pixels.
        camera: In place of a random one; its clips always have equal gaps, and no codec.
        plain: Two or three large things through a perfect camera, with equal gaps: what a training may begin with.

    Returns:
        (clip_len, height, width, 3) uint8 BGR.
    """
    rng = np.random.default_rng(seed)
    if plain:
        times, _ = _draw_times(rng, clip_len, fps, at_gaps=True)
        scene = Scene(rng, label, size, camera=CLEAN_CAMERA, least_size=_LARGE)
        return np.stack([scene.frame(float(t)) for t in times])
    times, source_fps = _draw_times(rng, clip_len, fps, at_gaps=camera is not None)
    shot = Shot(float(times[0]), float(times[-1]), min(fps, source_fps))
    scene = Scene(rng, label, size, camera=camera, shot=shot)
    codec = None
    if camera is None:
        scene.camera = _with_shutter(rng, scene.camera, source_fps)
        if rng.random() < 0.3:
            codec = InterFrameCodec(draw_codec(rng))
            scene.camera = replace(scene.camera, jpeg_quality=None)
    pictures: dict[float, Pixels] = {}  # a slow source repeats: its picture is taken, and coded, once
    for t in map(float, times):
        if t not in pictures:
            picture = scene.frame(t)
            pictures[t] = picture if codec is None else codec.feed(picture)
    return np.stack([pictures[float(t)] for t in times])


def _draw_times(
    rng: np.random.Generator, clip_len: int, fps: float, *, at_gaps: bool
) -> tuple[NDArray[np.float64], float]:
    """Return the (clip_len,) seconds of a clip's pictures, rising or repeated, and their source's frames per second."""
    times = rng.uniform(0, 3.0) + np.arange(clip_len) / fps
    source_fps = float(np.exp(rng.uniform(*np.log(_SOURCE_FPS))))
    if rng.random() < 0.5 or at_gaps:
        return times, fps
    return np.floor(times * source_fps) / source_fps, source_fps


def _with_shutter(rng: np.random.Generator, camera: Camera, source_fps: float) -> Camera:
    """Return the camera, in a quarter of the cases with a shutter open for up to half a frame."""
    if rng.random() >= 0.25:
        return camera
    longest = min(0.5 / source_fps, _LONGEST_EXPOSURE_S)
    return replace(camera, shutter=(float(rng.uniform(0.2, 1.0) * longest), int(rng.integers(3, 5))))
