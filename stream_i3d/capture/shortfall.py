"""Why a video gives no prediction, or none that means anything. Pure."""

from __future__ import annotations

from typing import Final

from stream_i3d.preprocess import Preprocessing

LEAST_PICTURES: Final = 2
"""Real pictures that a window must hold on average. With one, every window is a picture that stands still."""


def too_short(name: str, pictures: int, seconds: float, needed_frames: int, sample_fps: float) -> str:
    """Return one line about a video of which no prediction, or no stack of features, could be made.

    Args:
        name: Of the video.
        pictures: How many there are in it.
        seconds: How long it lasts.
        needed_frames: Sampled frames that the first prediction takes.
        sample_fps: Sampled frames per second.
    """
    if pictures == 1:
        return f"{name} holds a single picture; nothing is recognised, since an action takes time"
    return (
        f"{name} lasts {seconds:.2f} s ({pictures} pictures); nothing is recognised in less than "
        f"{needed_frames / sample_fps:.2f} s ({needed_frames} frames at {sample_fps:g} a second)"
    )


def too_slow(name: str, pictures: int, seconds: float, preprocessing: Preprocessing) -> str | None:
    """Return one line about a video with too few pictures a second; None where there are enough.

    Args:
        name: Of the video.
        pictures: How many there are in it.
        seconds: How long it lasts.
        preprocessing: Of the frames; a window lasts `window_frames` of them.
    """
    window_s = preprocessing.window_frames / preprocessing.sample_fps
    least = LEAST_PICTURES / window_s
    if seconds <= 0 or pictures / seconds >= least:
        return None
    if pictures == 1:
        return f"{name} holds a single picture; what is recognised in it means nothing, since an action takes time"
    return (
        f"{name} has {pictures / seconds:.2g} pictures a second, fewer than {LEAST_PICTURES} in a window of "
        f"{window_s:.2f} s, so what is recognised in it means little; give at least {least:.1f} a second"
    )
