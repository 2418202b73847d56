"""Window or streaming mode: the one place that chooses a camera's feed, the engine and the runner. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from stream_i3d.buffer import Augment, CameraFeed
from stream_i3d.config import Config, ModelConfig, WindowConfig
from stream_i3d.inference.chunk_feed import ChunkFeed
from stream_i3d.inference.runner import Feed, GatheringEngine, WindowRunner
from stream_i3d.inference.setup import ModelSetup
from stream_i3d.inference.stream_runner import StreamRunner
from stream_i3d.preprocess import Preprocessing
from stream_i3d.ring import MakeMemory

if TYPE_CHECKING:
    from stream_i3d.inference.engine import Engine
    from stream_i3d.inference.stream_engine import StreamEngine

Runner = WindowRunner | StreamRunner


def make_feed(
    preprocessing: Preprocessing,
    window: WindowConfig,
    augment: Augment | None = None,
    make_memory: MakeMemory | None = None,
) -> Feed:
    """Return what takes in one camera's frames.

    Args:
        preprocessing: Of the frames.
        window: The mode, and its settings.
        augment: Makes of each arriving frame what the network sees; None keeps frames as they are, as streaming mode
            always does.
        make_memory: What the ring keeps its frames in, see `memory_maker`; streaming mode takes plain memory.
    """
    if window.mode == "streaming":
        return ChunkFeed(preprocessing, window)
    return CameraFeed(preprocessing, window.stride, window.max_span_ratio, augment, make_memory)


def memory_maker(engine: object, model: ModelConfig) -> MakeMemory | None:
    """Return what makes cameras' rings where an engine wants them on its own device; None is plain memory."""
    return engine.make_ring if model.device_ring and isinstance(engine, GatheringEngine) else None


def make_runner(engine: Engine | StreamEngine, config: Config, now_ns: Callable[[], int] = time.monotonic_ns) -> Runner:
    """Return what runs the cameras' due frames; `engine` must be of the configuration's mode."""
    idle = config.idle
    if config.window.mode == "streaming":
        carried = cast("StreamEngine", engine)
        return StreamRunner(carried, config.window.averaging, idle.min_motion, idle.skip_inference, now_ns)
    return WindowRunner(cast("Engine", engine), idle.min_motion, idle.skip_inference, now_ns)


def load_mode_engine(setup: ModelSetup, window: WindowConfig) -> Engine | StreamEngine:
    """Load the network for the mode; call `wait_passively` before. Raises as `load_engine` does."""
    from stream_i3d.inference.backends import load_carried_engine, load_engine

    return load_carried_engine(setup) if window.mode == "streaming" else load_engine(setup)
