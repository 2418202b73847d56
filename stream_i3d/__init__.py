"""stream-i3d: realtime action recognition for video streams."""

__version__ = "0.1.0"
