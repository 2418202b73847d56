"""Video files made by PyAV as cameras, phones and recorders write them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from stream_i3d.preprocess import Image

ONE = 1 << 16  # of a display matrix
TICKS = 1000  # a second

# What each orientation does to the stored picture, as numpy says it, by its display matrix (a, b, c, d).
ORIENTATIONS: dict[str, tuple[int, int, int, int]] = {
    "upright": (1, 0, 0, 1),
    "mirrored": (-1, 0, 0, 1),
    "turned by 180": (-1, 0, 0, -1),
    "upside down": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "turned right": (0, 1, -1, 0),
    "transposed along the other diagonal": (0, -1, -1, 0),
    "turned left": (0, -1, 1, 0),
}


def display_matrix(a: float, b: float, c: float, d: float) -> list[int]:
    """The nine numbers of a container."""
    return [round(a * ONE), round(b * ONE), 0, round(c * ONE), round(d * ONE), 0, 0, 0, 1 << 30]


def shown(picture: NDArray[np.uint8], orientation: str) -> NDArray[np.uint8]:
    """What is to be seen of a stored picture, (H, W, 3), by the definition of the matrix: point by point."""
    a, b, c, d = ORIENTATIONS[orientation]
    y, x = np.indices(picture.shape[:2])
    to_x, to_y = a * x + c * y, b * x + d * y
    to_x, to_y = to_x - to_x.min(), to_y - to_y.min()
    result = np.zeros((to_y.max() + 1, to_x.max() + 1, 3), np.uint8)
    result[to_y, to_x] = picture
    return result


def corners(size: tuple[int, int] = (96, 64)) -> Image:
    """A (width, height) RGB picture with another colour in each quarter: red, green, blue, grey."""
    width, height = size
    picture = np.full((height, width, 3), 128, np.uint8)
    picture[: height // 2, : width // 2] = (220, 20, 20)
    picture[: height // 2, width // 2 :] = (20, 220, 20)
    picture[height // 2 :, : width // 2] = (20, 20, 220)
    return picture


def write_film(
    path: Path,
    pictures: Sequence[Image] | None = None,
    times: Iterable[float] | None = None,
    *,
    codec: str = "mpeg4",
    matrix: Sequence[int] | None = None,
    pixel_aspect: Fraction | None = None,
    last_s: float | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write RGB pictures, shown from the given times (default: ten pictures at 25 frames/s)."""
    pictures = [corners()] * 10 if pictures is None else pictures
    times = [index / 25 for index in range(len(pictures))] if times is None else list(times)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS)
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if matrix is not None:
            stream.set_display_matrix(matrix)
        packets: list[av.Packet] = []
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time * TICKS), Fraction(1, TICKS)
            packets += stream.encode(frame)
        packets += stream.encode()
        if last_s is not None:
            packets[-1].duration = round(last_s * TICKS)
        container.mux(packets)
    return path


def add_sound(container: av.container.OutputContainer, seconds: float = 1.0) -> None:
    """Add a track of silence to a container that is being written."""
    stream = container.add_stream("aac", rate=44100)
    for number in range(round(seconds * 44100) // 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 44100, number * 1024
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def two_tracks(path: Path, thumbnail: Disposition | None, first: bool = True) -> Path:
    """A large picture of one frame, and a small film of 25."""
    with av.open(str(path), "w") as container:
        kinds = ["mjpeg", "libx264"] if first else ["libx264", "mjpeg"]
        streams = {kind: container.add_stream(kind, rate=25) for kind in kinds}
        for kind, size in (("mjpeg", (640, 480)), ("libx264", (96, 64))):
            streams[kind].width, streams[kind].height = size
            streams[kind].pix_fmt = "yuvj420p" if kind == "mjpeg" else "yuv420p"
        if thumbnail is not None:
            streams["mjpeg"].disposition = thumbnail
        for kind, count, size in (("mjpeg", 1, (640, 480)), ("libx264", 25, (96, 64))):
            for number in range(count):
                frame = av.VideoFrame.from_ndarray(corners(size), format="rgb24")
                frame.pts = number
                container.mux(streams[kind].encode(frame))
            container.mux(streams[kind].encode())
    return path
