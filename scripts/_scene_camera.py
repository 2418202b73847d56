"""A real RTSP camera that shows generated scenes: that of the tests (tests/rtsp.py) on a video made for it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import _root  # noqa: F401  so that `tests` is found
from _scene_video import write_scene_video

from tests.rtsp import RtspServer


@contextmanager
def scene_camera(seed: int, size: tuple[int, int], fps: float) -> Iterator[RtspServer]:
    """Give a camera of H.264 that any number of clients may open, with 20 s of the scenes of `seed` in a loop."""
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "scene.mp4"
        write_scene_video(video, seed, size, fps, 20.0)
        with RtspServer(video) as server:
            yield server
