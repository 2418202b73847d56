"""Messages for tests: each function makes a valid one, with what the test cares about given by keyword."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_i3d.messages import (
    ActionEvent,
    CameraReport,
    CameraStatus,
    Frame,
    FrameStamp,
    LabelScore,
    Latency,
    ModelName,
    Recognition,
    Segment,
    Window,
)


def stamp(seq: int = 0, *, epoch: int = 1, camera: str = "door", time: float | None = None, **more: Any) -> FrameStamp:
    """A live frame's stamp; without `time` (seconds, monotonic), frames arrive 40 ms apart."""
    seconds = seq / 25 if time is None else time
    given = {"capture_ns": round(seconds * 1e9), "wall_time": 1e9 + seconds, **more}
    return FrameStamp(camera=camera, epoch=epoch, seq=seq, **given)


def pixels(value: int, size: int = 32) -> NDArray[np.uint8]:
    """A picture that tells its number: the low and the high byte of `value` in every pixel, and their sum."""
    low, high = value % 256, value // 256 % 256
    return np.full((size, size, 3), (low, high, (low + high) % 256), np.uint8)


def number_of(picture: NDArray[np.uint8]) -> int:
    """The number that `pixels` wrote; fails where the picture is a mixture of two."""
    low, high, check = (int(channel) for channel in picture[0, 0])
    assert (picture == picture[0, 0]).all() and check == (low + high) % 256
    return low + 256 * high


def frame(seq: int = 0, size: int = 32, **more: Any) -> Frame:
    """A frame whose picture is the number of its seq."""
    return Frame(stamp(seq, **more), pixels(seq, size))


def window(end: float = 1.0, *, start: float | None = None, last: int = 15) -> Window:
    """A window of 16 frames that ends at `end` seconds."""
    return Window(
        first_frame=max(0, last - 15), last_frame=last, start_time=end - 0.6 if start is None else start, end_time=end
    )


def recognition(**more: Any) -> Recognition:
    """A prediction message: waving, at 0.8."""
    given: dict[str, Any] = {
        "camera": "door",
        "epoch": 1,
        "seq": 15,
        "window": window(),
        "state": "action",
        "label": "waving",
        "confidence": 0.8,
        "top_k": [LabelScore(index=3, label="waving", probability=0.8, raw_probability=0.9)],
        "latency_ms": Latency(queue=1.5, inference=20.0, total=22.25),
        "frames_dropped": 0,
        "windows_dropped": 0,
        "model": ModelName(name="i3d", checkpoint="motion"),
    }
    return Recognition(**{**given, **more})


def event(**more: Any) -> ActionEvent:
    """The start of an action."""
    given: dict[str, Any] = {
        "camera": "door",
        "id": "door-1-1",
        "event": "start",
        "label": "waving",
        "start_time": 2.0,
        "end_time": None,
        "peak_confidence": 0.75,
    }
    return ActionEvent(**{**given, **more})


def status(**more: Any) -> CameraStatus:
    """The status of a camera that is well."""
    given: dict[str, Any] = {
        "camera": "door",
        "state": "live",
        "fps": 25.0,
        "last_frame_age_s": 0.04,
        "reconnects": 0,
        "frames_dropped": 0,
        "detail": "640x480",
    }
    return CameraStatus(**{**given, **more})


def report(**more: Any) -> CameraReport:
    """What a capture process says of a camera that is well."""
    given: dict[str, Any] = {"camera": "door", "state": "live", "fps": 25.0, "reconnects": 0, "detail": "640x480"}
    return CameraReport(**{**given, **more})


def segment(**more: Any) -> Segment:
    """A segment of a video."""
    given: dict[str, Any] = {
        "video": "a.mp4",
        "label": "waving",
        "start_time": 0.0,
        "end_time": 1.5,
        "mean_confidence": 0.5,
        "peak_confidence": 0.75,
        "windows": 4,
    }
    return Segment(**{**given, **more})
