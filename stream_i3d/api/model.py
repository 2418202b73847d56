"""A configured network for the API."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_i3d.config import Config
from stream_i3d.inference.backends import load_model
from stream_i3d.inference.engine import LoadedModel, warm_up
from stream_i3d.inference.extract import STREAMS, ExtractJob, Extractor, Progress
from stream_i3d.inference.feed import Feed
from stream_i3d.inference.flow_frames import make_augment
from stream_i3d.inference.offline import Ending, recognize_video
from stream_i3d.inference.runner import CameraWindows, Runner, WindowResult
from stream_i3d.inference.setup import settle_model, wait_passively, with_checkpoint_threshold
from stream_i3d.messages import ActionEvent, Frame, Recognition, Segment, VideoRecognition
from stream_i3d.models.streaming_plan import STEP_FRAMES, WARM_UP_STEPS
from stream_i3d.recognition.postprocess import Postprocessor, PostprocessSettings


class Features(NamedTuple):
    """Features of a video.

    Attributes:
        features: (steps, C) float32, C = 1024 for I3D at its published width; of two streams, RGB then flow, 2C.
        times: (steps,) float64, media time of each step's last frame, in seconds.
    """

    features: NDArray[np.float32]
    times: NDArray[np.float64]


class Model:
    """A network as a configuration asks for it. Settings are checked at once; weights are loaded at first use.

    Attributes:
        config: The configuration, with the checkpoint's recommended threshold filled in.
        preprocessing: How the network wants its frames.
    """

    def __init__(self, config: Config) -> None:
        """Check that checkpoint, labels and settings fit each other.

        Raises:
            CheckpointError: There is no such checkpoint, or its header is damaged.
            LabelsError: The label list cannot be read, or has another length than the network's head.
            ConfigError: The settings do not fit the network.
        """
        self.config = with_checkpoint_threshold(config)
        self._setup = settle_model(config.model, config.window)
        self._extractors: dict[tuple[int, int], Extractor] = {}
        self.preprocessing = self._setup.preprocessing

    @cached_property
    def loaded(self) -> LoadedModel:
        """The loaded network; the first access takes seconds and imports its library."""
        wait_passively()
        return load_model(self._setup, self.config.window.mode)

    @property
    def first_prediction(self) -> int:
        """How many frames the first prediction takes."""
        if self.config.window.mode == "streaming":
            return STEP_FRAMES * (WARM_UP_STEPS + 1)
        return self.preprocessing.window_frames

    def warm_up(self) -> None:
        """Load the network and run it once, so that the first real window is not slow."""
        warm_up(self.loaded.engine, [1])

    def camera(self, name: str, config: Config | None = None) -> Camera:
        """Return what recognises one camera's frames, with no history; loads the network.

        Args:
            name: Name of the camera in its messages.
            config: Settings to use in place of the model's own; must have the same window settings.
        """
        config = config or self.config
        settings = PostprocessSettings.of(config, self.loaded.labels, self._setup.model_name)
        feed = Feed(self.preprocessing, config.window, make_augment(self._setup))
        windows = CameraWindows(feed, Postprocessor(name, settings, time.monotonic_ns))
        return Camera(windows, Runner(self.loaded, config))

    def recognize(
        self, video: str, config: Config, progress: Progress, ended: Callable[[Ending], None]
    ) -> Iterator[VideoRecognition | Segment]:
        """Recognise a video file offline; see `inference.offline.recognize_video`."""
        return recognize_video(video, self.loaded, self._setup, config, progress, ended)

    def features(self, video: str, stack_size: int, step_size: int, progress: Progress) -> Features:
        """Return a video's features, stack by stack; see `Recognizer.features`."""
        key = stack_size, step_size
        if key not in self._extractors:
            wait_passively()
            job = ExtractJob(
                streams=STREAMS if self._setup.config.two_stream else ("rgb",),
                model=self._setup.config,
                stack_size=stack_size,
                step_size=step_size,
                fps=self.preprocessing.sample_fps,
                output=Path(),
            )
            self._extractors[key] = Extractor(job)
        found = self._extractors[key].extract(video, progress)
        return Features(np.concatenate(list(found.features.values()), axis=1), found.times_ms / 1000)


class Camera:
    """One camera's frames in, predictions and events out. One thread may push while another one runs."""

    def __init__(self, windows: CameraWindows, runner: Runner) -> None:
        self._windows = windows
        self._runner = runner

    @property
    def pending(self) -> bool:
        """Whether a window waits to be run."""
        with self._windows.lock:
            return self._windows.feed.pending

    @property
    def frames_dropped(self) -> int:
        """Number of frames that never arrived."""
        return self._windows.drops().frames

    @property
    def windows_failed(self) -> int:
        """Number of windows for which the network's output was not finite."""
        return self._windows.failed

    def push(self, frame: Frame) -> bool:
        """Take in one prepared frame; return whether `run` has something to do."""
        pixels = self._windows.feed.augment(frame.stamp, frame.pixels)  # optical flow takes its time: no lock
        with self._windows.lock:
            return self._windows.feed.store(frame.stamp, pixels)

    def run(self) -> list[Recognition | ActionEvent]:
        """Run the window that is due, if one is; return what is to be published."""
        results = self._windows.warming()
        clip = self._windows.take()
        if clip is not None:
            results = [*results, *self._runner.run([(self._windows, clip)])]
        return _in_order(results)

    def finish(self) -> Sequence[ActionEvent]:
        """Return the end of the running action, if there is one."""
        return self._windows.postprocessor.finish()


def _in_order(results: Sequence[WindowResult]) -> list[Recognition | ActionEvent]:
    messages: list[Recognition | ActionEvent] = []
    for recognition, events in results:
        if recognition is not None:
            messages.append(recognition)
        messages += events
    return messages
