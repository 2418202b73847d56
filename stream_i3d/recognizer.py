"""One camera's judgement: model outputs over time become published recognitions and events. Pure.

The order is fixed here: softmax (fp32, at the checkpoint's temperature) -> smoothing -> idle or action -> hysteresis.
The worker and the offline `recognize` both use this class, which is why live equals offline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.config import Config, EventsConfig, IdleConfig, SmoothingConfig
from stream_i3d.events import EventDetector
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
from stream_i3d.smoothing import Probabilities, make_smoother, retune_smoother

NO_MOTION = "no motion"
"""The `skipped` of a window that was not run through the network because nothing moved in it."""

UNSEEN_ENDS_ACTION_S = 2.0
"""A running action is ended when no window could be judged for this long (lost frames, a camera that stalls)."""


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float32]:
    """(..., num_classes) float32 logits to probabilities, in float32, with the maximum taken out first.

    Args:
        logits: Of a network.
        temperature: What they are divided by, so that probabilities mean what they say; see `ModelSpec.temperature`.
    """
    shifted = logits.astype(np.float32) - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted / np.float32(temperature))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Judging:
    """How a camera is judged; the same for all cameras of a worker."""

    labels: tuple[str, ...]
    model: ModelName
    top_k: int
    smoothing: SmoothingConfig
    idle: IdleConfig
    events: EventsConfig

    @classmethod
    def of(cls, config: Config, labels: Sequence[str], model: ModelName) -> Judging:
        """Take the settings from a configuration."""
        top_k = min(config.publish.top_k, len(labels))
        return cls(tuple(labels), model, top_k, config.smoothing, config.idle, config.events)


@dataclass(frozen=True, slots=True)
class Drops:
    """A camera's losses so far, as a Recognition carries them."""

    frames: int
    windows: int


class Recognizer:
    """One camera's smoother, idle decision and event detector."""

    def __init__(self, camera: str, judging: Judging, now_ns: Callable[[], int]) -> None:
        """Args: `now_ns` is the monotonic clock of capture_ns; it only measures latency."""
        self._camera = camera
        self._judging = judging
        self._now_ns = now_ns
        self._smoother = make_smoother(judging.smoothing)
        self._epoch: int | None = None
        self._events = EventDetector(camera, judging.events, self._new_id)
        self._judged_at = 0.0  # when the newest window that was judged ended
        self._date_offset = 0.0  # from the steady clock to the published one, when the running action started

    def retune(self, judging: Judging) -> None:
        """Judge by other settings from the next window on; what was smoothed, and a running action, go on.

        Args:
            judging: Of the same labels; its `events` are not looked at.
        """
        if judging.smoothing != self._judging.smoothing:
            self._smoother = retune_smoother(self._smoother, judging.smoothing)
        self._judging = judging

    def judge(
        self, window: Window, newest: FrameStamp, prediction: Prediction, motion: float, queue_ms: float, drops: Drops
    ) -> tuple[Recognition, list[ActionEvent]]:
        """Turn the model's word on one window into what is published.

        Args:
            motion: Grey levels of change in the window, from motion.motion_measure.
            queue_ms: From the newest frame's capture to the start of inference.
        """
        ended = self._enter(newest)
        self._judged_at = newest.elapsed
        smoothed = self._smoother.update(prediction.probabilities, newest.elapsed)
        best = int(np.argmax(smoothed))
        confidence = _clamp(smoothed[best])
        idle = self._judging.idle
        label = None
        if confidence >= idle.threshold and motion >= idle.min_motion:
            label = self._judging.labels[best]
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
        """Publish "idle" for a motionless window that the network was not asked about."""
        ended = self._enter(newest)
        self._judged_at = newest.elapsed
        self._smoother.reset()
        recognition = self._message(window, newest, "idle", drops, skipped=NO_MOTION)
        return recognition, ended + self._track(None, 0.0, None, newest)

    def warming(self, window: Window, newest: FrameStamp, drops: Drops) -> tuple[Recognition, list[ActionEvent]]:
        """Publish "warming" for a stride at which no whole window stood."""
        ended = self._enter(newest)
        self._smoother.reset()
        ended += self._end_unseen(newest)
        return self._message(window, newest, "warming", drops), ended

    def suspend(self) -> list[ActionEvent]:
        """End the running action when it was last seen: the camera is not recognised for a while."""
        self._smoother.reset()
        return self.finish()

    def unjudged(self, newest: FrameStamp) -> list[ActionEvent]:
        """Take note of a window whose result cannot be used: nothing is published, and an old action ends in time."""
        ended = self._enter(newest)
        self._smoother.reset()
        return ended + self._end_unseen(newest)

    def finish(self) -> list[ActionEvent]:
        """End the running action: the stream is over."""
        return self._dated(self._events.reset(self._judged_at))

    def _end_unseen(self, newest: FrameStamp) -> list[ActionEvent]:
        """End a running action where no window could be judged for too long."""
        if newest.elapsed - self._judged_at <= UNSEEN_ENDS_ACTION_S:
            return []
        return self._dated(self._events.reset(self._judged_at))

    def _enter(self, newest: FrameStamp) -> list[ActionEvent]:
        """Start anew at a new epoch; return the end of the action that ran before it."""
        ended: list[ActionEvent] = []
        if self._epoch is not None and newest.epoch != self._epoch:
            self._smoother.reset()
            ended = self._dated(self._events.reset(self._judged_at))
            self._judged_at = newest.elapsed
        self._epoch = newest.epoch
        return ended

    def _track(
        self, label: str | None, confidence: float, smoothed: Probabilities | None, newest: FrameStamp
    ) -> list[ActionEvent]:
        running = self._events.running
        own = 0.0
        if running is not None and smoothed is not None:
            own = _clamp(smoothed[self._judging.labels.index(running.label)])
        return self._dated(self._events.update(label, confidence, own, newest.elapsed), newest.time - newest.elapsed)

    def _dated(self, events: Sequence[ActionEvent], offset: float | None = None) -> list[ActionEvent]:
        """Put events from the steady clock onto the published one (wall clock, or media time).

        Durations are measured on a clock that never steps; an action keeps the offset of its start, so that its end
        never stands before its start, whatever was done to the wall clock meanwhile.
        """
        dated = []
        for event in events:
            if event.event == "start" and offset is not None:
                self._date_offset = offset
            end = None if event.end_time is None else event.end_time + self._date_offset
            dated.append(structs.replace(event, start_time=event.start_time + self._date_offset, end_time=end))
        return dated

    def _top_k(self, smoothed: Probabilities, raw: Probabilities) -> list[LabelScore]:
        order = np.argsort(-smoothed, kind="stable")[: self._judging.top_k]
        return [
            LabelScore(
                index=int(index),
                label=self._judging.labels[index],
                probability=_clamp(smoothed[index]),
                raw_probability=_clamp(raw[index]),
            )
            for index in order
        ]

    def _stream_top(self, stream: str, probabilities: Probabilities) -> StreamTop:
        best = int(np.argmax(probabilities))
        label = self._judging.labels[best]
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
            model=self._judging.model,
        )

    def _latency(self, newest: FrameStamp, queue_ms: float, inference_ms: float) -> Latency:
        total_ms = max(0.0, (self._now_ns() - newest.capture_ns) * 1e-6)
        return Latency(queue=round(queue_ms, 3), inference=round(inference_ms, 3), total=round(total_ms, 3))

    def _new_id(self, start_time: float) -> str:
        # By its time rather than by counting: a worker that was started again must not use an id a second time.
        return f"{self._camera}-{self._epoch}-{round(start_time * 1000)}"


def _clamp(probability: np.float32) -> float:
    """A sum in float32 may pass 1 by its last bit; the schema allows [0, 1]."""
    return min(1.0, max(0.0, float(probability)))
