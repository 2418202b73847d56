"""A subscriber that never sleeps: keeps what the service publishes with the time it came, and every byte in a file.

Knows nothing of faults; `first` and `longest_gap` are what they ask of it.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stream_i3d.errors import WireError
from stream_i3d.messages import ActionEvent, Recognition
from stream_i3d.transport.sockets import Subscriber
from stream_i3d.transport.wire import Published, decode_published

_POLL_S = 0.1


class Unmet(Exception):
    """What was expected of the service did not come; one line that says what."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A message and the monotonic second at which it came."""

    at: float
    message: Published


class Watch:
    """Subscribes to everything at `address` for as long as the context lasts; a service that is gone may come back.

    Attributes:
        wrong: Messages that were not of the wire's form.
    """

    def __init__(self, address: str, copy: Path) -> None:
        """Args: `copy` gets the bytes of every message, for the search for passwords."""
        self._address = address
        self._copy = copy
        self._seen: list[Seen] = []
        self._came = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.wrong = 0

    def first(self, wanted: Callable[[Published], bool], after: float, within_s: float, what: str) -> Seen:
        """Return the first message that came at or after `after` and is wanted.

        Args:
            wanted: Tells whether a message is.
            after: Monotonic seconds.
            within_s: Seconds from `after` to wait for it.
            what: Names it for people.

        Raises:
            Unmet: It did not come.
        """
        index, until = self._index(after), after + within_s
        with self._came:
            while True:
                while index < len(self._seen):
                    if self._seen[index].at <= until and wanted(self._seen[index].message):
                        return self._seen[index]
                    index += 1
                if (left := until - time.monotonic()) <= 0:
                    raise Unmet(f"{what}: not seen within {within_s:g} s")
                self._came.wait(left)

    def frames(self, camera: str, after: float, within_s: float, not_epoch: int) -> Seen:
        """Return a camera's first sign of frames of another connection, its first window being filled included."""

        def wanted(message: Published) -> bool:
            return isinstance(message, Recognition) and message.camera == camera and message.epoch != not_epoch

        return self.first(wanted, after, within_s, f"frames of camera {camera}")

    def prediction(self, camera: str, after: float, within_s: float, not_epoch: int | None = None) -> Seen:
        """Return a camera's first prediction of a whole window, of another connection where `not_epoch` says which."""

        def wanted(message: Published) -> bool:
            return (
                isinstance(message, Recognition)
                and message.camera == camera
                and message.state != "warming"
                and message.epoch != not_epoch
            )

        return self.first(wanted, after, within_s, f"a new prediction of camera {camera}")

    def epoch(self, camera: str) -> int:
        """Return the connection that the camera's newest prediction is of."""
        with self._came:
            for one in reversed(self._seen):
                if isinstance(one.message, Recognition) and one.message.camera == camera:
                    return one.message.epoch
        raise Unmet(f"camera {camera} has published nothing yet")

    def between(self, start: float, end: float) -> list[Seen]:
        """Return what came from `start` to `end`."""
        with self._came:
            return self._seen[self._index(start) : self._index(end)]

    def longest_gap(self, camera: str, start: float, end: float) -> float:
        """Return the longest time without a prediction of a camera between two times, in seconds."""
        came = [
            one.at
            for one in self.between(start, end)
            if isinstance(one.message, Recognition) and one.message.camera == camera
        ]
        return max(later - earlier for earlier, later in zip([start, *came], [*came, end], strict=True))

    def events(self) -> list[ActionEvent]:
        """Return all events so far, in the order in which they came."""
        with self._came:
            return [one.message for one in self._seen if isinstance(one.message, ActionEvent)]

    def _index(self, at: float) -> int:
        return bisect_left(self._seen, at, key=lambda one: one.at)

    def _run(self) -> None:
        with self._copy.open("ab") as copy, Subscriber(self._address) as subscriber:
            while not self._stopping.is_set():
                parts = subscriber.receive(_POLL_S)
                if parts is None:
                    continue
                copy.write(b" ".join(parts) + b"\n")
                try:
                    message = decode_published(parts)
                except WireError:
                    self.wrong += 1
                    continue
                with self._came:
                    self._seen.append(Seen(time.monotonic(), message))
                    self._came.notify_all()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
