"""Videos of generated scenes, for scripts whose own process must not import OpenCV (the window's)."""

from __future__ import annotations

import multiprocessing
from pathlib import Path


def write_scene_video(path: Path, seed: int, size: tuple[int, int], fps: float, seconds: float, times: int = 1) -> None:
    """Write an MP4 of the scenes of `seed`, `times` over, in a process of its own; they are drawn small, then enlarged.

    More than once, all pictures are kept in memory.
    """
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=(path, seed, size, fps, seconds, times))
    writer.start()
    writer.join()
    if writer.exitcode != 0:
        raise SystemExit(f"cannot write {path}")


def _write(path: Path, seed: int, size: tuple[int, int], fps: float, seconds: float, times: int) -> None:
    import cv2

    from stream_i3d.scenes import SceneRenderer

    scale = max(1, size[1] // 360)
    renderer = SceneRenderer(seed, (size[0] // scale, size[1] // scale))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    pictures = (renderer.render(number / fps) for number in range(round(seconds * fps)))
    drawn = pictures if times == 1 else list(pictures)
    for _ in range(times):
        for picture in drawn:
            writer.write(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR))
    writer.release()
