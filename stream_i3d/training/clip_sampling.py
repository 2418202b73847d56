"""Where clips stand in a video: pure arithmetic on frame numbers.

All numbers are of frames sampled to the model's rate, counted from 0. A clip takes `clip_len` of them, `frame_interval`
apart, as a window of the live path does. A video shorter than a clip is looped (Carreira & Zisserman, CVPR 2017,
section 3): after its last frame comes its first.

The places follow MMAction2's SampleFrames, but for one thing: there a clip's span counts `frame_interval` frames after
its last one as well, and up to num_clips - 1 starts at the video's end are never drawn; here each start can be.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_i3d.preprocess import Preprocessing

Numbers = NDArray[np.int64]


def random_starts(num_frames: int, span: int, num_clips: int, rng: np.random.Generator) -> Numbers:
    """Draw where training clips start: each at random in a segment of its own.

    Args:
        num_frames: Frames of the video, at least 1.
        span: Frames from a clip's first to its last, both counted (`Preprocessing.window_frames`).
        num_clips: The places where a clip fits are cut into so many equal segments.
        rng: Gives `num_clips` numbers, whatever the video's length.

    Returns:
        (num_clips,) int64, not decreasing; zeros where the video is no longer than a clip.
    """
    places = max(1, num_frames - span + 1)
    shares = (np.arange(num_clips) + rng.random(num_clips)) / num_clips  # (num_clips,) in [0, 1)
    return np.minimum((shares * places).astype(np.int64), places - 1)


def centre_start(num_frames: int, span: int) -> Numbers:
    """Return (1,) int64: where the clip in the middle of a video starts."""
    return np.array([max(0, num_frames - span) // 2], np.int64)


def even_starts(num_frames: int, span: int, num_clips: int) -> Numbers:
    """Return (num_clips,) int64: starts spread evenly from the first frame to the last place where a clip fits.

    One clip is the one in the middle. In a video no longer than a clip all are at its start.
    """
    if num_clips == 1:
        return centre_start(num_frames, span)
    return np.round(np.linspace(0, max(0, num_frames - span), num_clips)).astype(np.int64)


def clip_numbers(starts: Numbers, num_frames: int, preprocessing: Preprocessing) -> Numbers:
    """Return (num_clips, clip_len) int64: the numbers of each clip's frames, looped at the video's end."""
    steps = np.arange(preprocessing.clip_len) * preprocessing.frame_interval
    return (starts[:, None] + steps) % num_frames
