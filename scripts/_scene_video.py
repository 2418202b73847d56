"""Videos of generated scenes, for scripts whose own process must not import OpenCV (the window's)."""

from __future__ import annotations

import multiprocessing
from pathlib import Path


def write_scene_video(path: Path, seed: int, size: tuple[int, int], fps: float, seconds: float) -> None:
    """Write an MP4 of the scenes of `seed`, in a process of its own; scenes are drawn small and enlarged."""
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=(path, seed, size, fps, seconds))
    writer.start()
    writer.join()
    if writer.exitcode != 0:
        raise SystemExit(f"cannot write {path}")


def _write(path: Path, seed: int, size: tuple[int, int], fps: float, seconds: float) -> None:
    import cv2

    from stream_i3d.scenes import SceneRenderer

    scale = max(1, size[1] // 360)
    renderer = SceneRenderer(seed, (size[0] // scale, size[1] // scale))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    for number in range(round(seconds * fps)):
        writer.write(cv2.resize(renderer.render(number / fps), size, interpolation=cv2.INTER_LINEAR))
    writer.release()
