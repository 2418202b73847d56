"""From a network's outputs over time to one camera's published predictions and events. Pure.

The order is fixed here: softmax (fp32, at the checkpoint's temperature) -> smoothing -> idle or action -> hysteresis.
The worker, offline `recognize` and the Python API all use `Postprocessor`, so live results equal offline ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import structs

from stream_i3d.config import Config, EventsConfig, IdleConfig, SmoothingConfig
from stream_i3d.messages import (
    ActionEvent,
    FrameStamp,
    LabelScore,
    Latency,
    ModelName,
    Prediction,
    Recognition,
    RecognitionState,
    StreamTop,
    Window,
)
from stream_i3d.recognition.events import EventDetector
from stream_i3d.recognition.smoothing import Probabilities, make_smoother, retune_smoother

NO_MOTION = "no motion"
"""Value of `skipped` for a window that was not run through the network because nothing moved in it."""

UNSEEN_ENDS_ACTION_S = 2.0
"""Seconds without a result (lost frames, a stalled camera) after which a running action ends."""


@dataclass(frozen=True, slots=True)
class PostprocessSettings:
    """Settings of a `Postprocessor`; the same for all cameras of a worker.

    Attributes:
        labels: One per class of the network.
        model: The network, as published.
        top_k: Length of a prediction's list of labels.
        smoothing: How probabilities are smoothed over time.
        idle: When nothing counts as recognised.
        events: When an action starts and ends.
    """

    labels: tuple[str, ...]
    model: ModelName
    top_k: int
    smoothing: SmoothingConfig
    idle: IdleConfig
    events: EventsConfig

    @classmethod
    def of(cls, config: Config, labels: Sequence[str], model: ModelName) -> PostprocessSettings:
        """Return the settings that a configuration holds."""
        top_k = min(config.publish.top_k, len(labels))
        return cls(tuple(labels), model, top_k, config.smoothing, config.idle, config.events)


@dataclass(frozen=True, slots=True)
class Drops:
    """Numbers of frames and windows that a camera has lost so far, as a `Recognition` carries them."""

    frames: int
    windows: int


class Postprocessor:
    """One camera's smoother, idle decision and event detector."""

    def __init__(self, camera: str, settings: PostprocessSettings, now_ns: Callable[[], int]) -> None:
        """Start with no history.

        Args:
            camera: Name of the camera.
            settings: The settings.
            now_ns: Monotonic clock of `capture_ns`, in nanoseconds; used for latencies only.
        """
        self._camera = camera
        self._settings = settings
        self._now_ns = now_ns
        self._smoother = make_smoother(settings.smoothing)
        self._epoch: int | None = None
        self._events = EventDetector(camera, settings.events, self._new_id)
        self._result_at = 0.0  # end of the newest window with a result
        self._date_offset = 0.0  # from the steady clock to the published one, when the running action started

    def retune(self, settings: PostprocessSettings) -> None:
        """Use other settings from the next window on; smoothing and a running action continue.

        Args:
            settings: Settings with the same labels; its `events` are ignored.
        """
        if settings.smoothing != self._settings.smoothing:
            self._smoother = retune_smoother(self._smoother, settings.smoothing)
        self._settings = settings

    def process(
        self, window: Window, newest: FrameStamp, prediction: Prediction, motion: float, queue_ms: float, drops: Drops
    ) -> tuple[Recognition, list[ActionEvent]]:
        """Turn the network's output for one window into what is published.

        Args:
            window: Place of the window in the stream.
            newest: Stamp of its last frame.
            prediction: Probabilities of the window.
            motion: Grey levels of change in the window, from `motion.motion_measure`.
            queue_ms: Milliseconds from the newest frame's capture to the start of inference.
            drops: The camera's losses so far.

        Returns:
            The prediction, and the events that it caused.
        """
        ended = self._enter(newest)
        self._result_at = newest.elapsed
        smoothed = self._smoother.update(prediction.probabilities, newest.elapsed)
        best = int(np.argmax(smoothed))
        confidence = _clamp(smoothed[best])
        idle = self._settings.idle
        label = None
        if confidence >= idle.threshold and motion >= idle.min_motion:
            label = self._settings.labels[best]
        recognition = self._message(
            window,
            newest,
            "idle" if label is None else "action",
            drops,
            label=label,
            confidence=confidence,
            top_k=self._top_k(smoothed, prediction.probabilities),
            streams=[self._stream_top(stream, own) for stream, own in prediction.streams.items()],
            latency=self._latency(newest, queue_ms, prediction.inference_ms),
        )
        return recognition, ended + self._track(label, confidence, smoothed, newest)

    def skip(self, window: Window, newest: FrameStamp, drops: Drops) -> tuple[Recognition, list[ActionEvent]]:
        """Return "idle" for a motionless window that was not run through the network."""
        ended = self._enter(newest)
        self._result_at = newest.elapsed
        self._smoother.reset()
        recognition = self._message(window, newest, "idle", drops, skipped=NO_MOTION)
        return recognition, ended + self._track(None, 0.0, None, newest)

    def warming(self, window: Window, newest: FrameStamp, drops: Drops) -> tuple[Recognition, list[ActionEvent]]:
        """Return "warming" for a stride at which there was no complete window."""
        ended = self._enter(newest)
        self._smoother.reset()
        ended += self._end_unseen(newest)
        return self._message(window, newest, "warming", drops), ended

    def suspend(self) -> list[ActionEvent]:
        """End the running action where it was last seen, because the camera pauses."""
        self._smoother.reset()
        return self.finish()

    def fail(self, newest: FrameStamp) -> list[ActionEvent]:
        """Handle a window without a usable result: nothing is published, and a running action may end."""
        ended = self._enter(newest)
        self._smoother.reset()
        return ended + self._end_unseen(newest)

    def finish(self) -> list[ActionEvent]:
        """End the running action, because the stream is over."""
        return self._dated(self._events.reset(self._result_at))

    def _end_unseen(self, newest: FrameStamp) -> list[ActionEvent]:
        """End a running action if there was no result for `UNSEEN_ENDS_ACTION_S`."""
        if newest.elapsed - self._result_at <= UNSEEN_ENDS_ACTION_S:
            return []
        return self._dated(self._events.reset(self._result_at))

    def _enter(self, newest: FrameStamp) -> list[ActionEvent]:
        """Reset at a new epoch; return the end of the action that ran before it."""
        ended: list[ActionEvent] = []
        if self._epoch is not None and newest.epoch != self._epoch:
            self._smoother.reset()
            ended = self._dated(self._events.reset(self._result_at))
            self._result_at = newest.elapsed
        self._epoch = newest.epoch
        return ended

    def _track(
        self, label: str | None, confidence: float, smoothed: Probabilities | None, newest: FrameStamp
    ) -> list[ActionEvent]:
        running = self._events.running
        own = 0.0
        if running is not None and smoothed is not None:
            own = _clamp(smoothed[self._settings.labels.index(running.label)])
        return self._dated(self._events.update(label, confidence, own, newest.elapsed), newest.time - newest.elapsed)

    def _dated(self, events: Sequence[ActionEvent], offset: float | None = None) -> list[ActionEvent]:
        """Convert event times from the monotonic clock to the published one (wall clock, or media time).

        Durations are measured on a clock that never steps. An action keeps the offset of its start, so that its end is
        never before its start, even if the wall clock was set back in between.
        """
        dated = []
        for event in events:
            if event.event == "start" and offset is not None:
                self._date_offset = offset
            end = None if event.end_time is None else event.end_time + self._date_offset
            dated.append(structs.replace(event, start_time=event.start_time + self._date_offset, end_time=end))
        return dated

    def _top_k(self, smoothed: Probabilities, raw: Probabilities) -> list[LabelScore]:
        order = np.argsort(-smoothed, kind="stable")[: self._settings.top_k]
        return [
            LabelScore(
                index=int(index),
                label=self._settings.labels[index],
                probability=_clamp(smoothed[index]),
                raw_probability=_clamp(raw[index]),
            )
            for index in order
        ]

    def _stream_top(self, stream: str, probabilities: Probabilities) -> StreamTop:
        best = int(np.argmax(probabilities))
        label = self._settings.labels[best]
        return StreamTop(stream=stream, index=best, label=label, probability=_clamp(probabilities[best]))

    def _message(
        self,
        window: Window,
        newest: FrameStamp,
        state: RecognitionState,
        drops: Drops,
        *,
        label: str | None = None,
        confidence: float = 0.0,
        top_k: Sequence[LabelScore] = (),
        streams: Sequence[StreamTop] = (),
        skipped: str | None = None,
        latency: Latency | None = None,
    ) -> Recognition:
        return Recognition(
            camera=self._camera,
            epoch=newest.epoch,
            seq=newest.seq,
            window=window,
            state=state,
            label=label,
            confidence=confidence,
            top_k=list(top_k),
            streams=list(streams),
            skipped=skipped,
            latency_ms=latency or self._latency(newest, 0.0, 0.0),
            frames_dropped=drops.frames,
            windows_dropped=drops.windows,
            model=self._settings.model,
        )

    def _latency(self, newest: FrameStamp, queue_ms: float, inference_ms: float) -> Latency:
        total_ms = max(0.0, (self._now_ns() - newest.capture_ns) * 1e-6)
        return Latency(queue=round(queue_ms, 3), inference=round(inference_ms, 3), total=round(total_ms, 3))

    def _new_id(self, start_time: float) -> str:
        # From the time, not from a counter: a restarted worker must not reuse an id.
        return f"{self._camera}-{self._epoch}-{round(start_time * 1000)}"


def _clamp(probability: np.float32) -> float:
    """Clip to [0, 1], which the schema demands: a float32 sum can exceed 1 by its last bit."""
    return min(1.0, max(0.0, float(probability)))
