"""The demo: the synthetic source through the real processes, and how often the live label is the truth."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from stream_i3d.errors import ServiceError, WireError
from stream_i3d.messages import Recognition
from stream_i3d.scenes import Schedule
from stream_i3d.service.demo_settings import demo_config
from stream_i3d.service.run import run_service
from stream_i3d.stage import Ready, Summary
from stream_i3d.transport.sockets import Subscriber
from stream_i3d.transport.wire import decode_published

STILL = "still"


@dataclass(slots=True)
class DemoScore:
    """Counts windows whose frames all lie within one motion, and those recognised rightly.

    Attributes:
        windows: Windows counted; those across a change of motion have no single truth and are left out.
        shown_right: The published (smoothed) label was the truth; "idle" is right for "still".
        window_right: The likeliest label of the window alone was.
    """

    windows: int = 0
    shown_right: int = 0
    window_right: int = 0
    confusions: dict[tuple[str, str], int] = field(default_factory=dict)

    def take(self, recognition: Recognition, truth: str | None) -> None:
        """Count one published recognition."""
        if truth is None or not recognition.top_k:
            return
        shown = recognition.label or STILL
        best = max(recognition.top_k, key=lambda score: score.raw_probability).label
        self.windows += 1
        self.shown_right += shown == truth
        self.window_right += best == truth
        if best != truth:
            self.confusions[truth, best] = self.confusions.get((truth, best), 0) + 1

    def describe(self) -> str:
        """Return the result as one line."""
        if not self.windows:
            return "no window was recognised"
        shown, alone = 100 * self.shown_right / self.windows, 100 * self.window_right / self.windows
        return (
            f"live accuracy {alone:.1f} % window by window, {shown:.1f} % as shown (smoothed, so it lags a change) "
            f"over {self.windows} windows; chance is 10 %"
        )


def run_demo(
    seed: int, duration_s: float, show: Callable[[Recognition, str | None], None]
) -> tuple[DemoScore, Summary]:
    """Run the demo; `show` is called with each recognition and the truth during its window (None: it changed).

    Raises:
        StreamI3DError: A process could not go on.
    """
    score, schedule = DemoScore(), Schedule(seed)
    stopping = threading.Event()
    watchers: list[threading.Thread] = []

    def watch(address: str) -> None:
        with Subscriber(address, ("v1/demo/prediction",)) as subscriber:
            while not stopping.is_set():
                if (parts := subscriber.receive(0.1)) is None:
                    continue
                try:
                    message = decode_published(parts)
                except WireError:
                    continue  # somebody else's bytes on our port; the demo is not about them
                if isinstance(message, Recognition):
                    truth = schedule.label_during(message.window.start_time, message.window.end_time)
                    score.take(message, truth)
                    show(message, truth)

    def on_ready(ready: Ready) -> None:
        watchers.append(threading.Thread(target=watch, args=(ready.address,), daemon=True))
        watchers[0].start()

    try:
        summary = run_service(demo_config(seed), duration_s, on_ready)
    finally:
        stopping.set()
        for watcher in watchers:
            watcher.join(1.0)
    if not score.windows:
        raise ServiceError("the demo saw no window; run `stream-i3d doctor`")
    return score, summary
