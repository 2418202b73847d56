"""stream-i3d: realtime action recognition for video streams.

    >>> import stream_i3d
    >>> recognizer = stream_i3d.Recognizer("motion")
    >>> for prediction in recognizer.stream("rtsp://camera/1"):
    ...     print(prediction.label, prediction.confidence)

`__all__` is the public API (docs/library.md). Names are imported at first use (PEP 562), so importing the package is
light: without torch and OpenCV.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream_i3d.api.recognizer import Recognizer, VideoResult
    from stream_i3d.api.stream import Stream
    from stream_i3d.api.subscription import subscribe
    from stream_i3d.api.training import evaluate, list_models, train
    from stream_i3d.errors import (
        CheckpointError,
        ConfigError,
        DeviceError,
        EngineError,
        LabelsError,
        SourceError,
        StreamI3DError,
        TrainingError,
        TransportError,
    )
    from stream_i3d.messages import ActionEvent, CameraStatus, Recognition, Segment
    from stream_i3d.models.checkpoint import load_checkpoint
    from stream_i3d.models.i3d import I3D
    from stream_i3d.models.registry import build_model

__version__ = "0.1.0"

__all__ = [
    "I3D",
    "ActionEvent",
    "CameraStatus",
    "CheckpointError",
    "ConfigError",
    "DeviceError",
    "EngineError",
    "LabelsError",
    "Recognition",
    "Recognizer",
    "Segment",
    "SourceError",
    "Stream",
    "StreamI3DError",
    "TrainingError",
    "TransportError",
    "VideoResult",
    "__version__",
    "build_model",
    "evaluate",
    "list_models",
    "load_checkpoint",
    "subscribe",
    "train",
]

_MODULES = {
    "stream_i3d.api.recognizer": ("Recognizer", "VideoResult"),
    "stream_i3d.api.stream": ("Stream",),
    "stream_i3d.api.subscription": ("subscribe",),
    "stream_i3d.api.training": ("evaluate", "list_models", "train"),
    "stream_i3d.messages": ("ActionEvent", "CameraStatus", "Recognition", "Segment"),
    "stream_i3d.models.checkpoint": ("load_checkpoint",),
    "stream_i3d.models.i3d": ("I3D",),
    "stream_i3d.models.registry": ("build_model",),
}
"""Where each public name is defined; errors are in `stream_i3d.errors`."""


def __getattr__(name: str) -> object:
    """Import a public name at its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = next((module for module, names in _MODULES.items() if name in names), "stream_i3d.errors")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
