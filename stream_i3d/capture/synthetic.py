"""The synthetic:// source: moving scenes whose truth is known, drawn as they are read."""

from __future__ import annotations

from stream_i3d.capture.address import parse_synthetic
from stream_i3d.capture.picture_memory import automatic_limit_mb
from stream_i3d.preprocess import Image
from stream_i3d.scenes import SceneRenderer


class SyntheticSource:
    """A scene renderer behind the source protocol; its media time is the scene's own time."""

    live = False
    intact = True
    pixel_aspect = 1.0

    def __init__(self, query: str) -> None:
        """Args: `query` is what follows synthetic:// (see SyntheticOptions)."""
        options = parse_synthetic(query)
        self._fps = options.fps
        self.duration_s = options.duration_s or None
        self._end_s = options.duration_s or float("inf")
        self._renderer = SceneRenderer(options.seed, (options.width, options.height))
        self._index = -1
        self.description = f"{options.width}x{options.height} at {options.fps:g} fps, synthetic"
        self.memory_limit_mb = automatic_limit_mb(options.width, options.height)

    def grab(self) -> float | None:  # noqa: D102 (the protocol says it)
        self._index += 1
        time = self._index / self._fps
        return time if time < self._end_s else None

    @property
    def until(self) -> float | None:  # noqa: D102
        return (self._index + 1) / self._fps

    def retrieve(self) -> Image:  # noqa: D102
        return self._renderer.render(self._index / self._fps)

    def doubt(self) -> None:  # noqa: D102
        return

    def close(self) -> None:  # noqa: D102
        return
