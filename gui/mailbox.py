"""Messages from the reader thread to the window: bounded, newest wins, one wake-up for any number. No ZeroMQ."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from .picture import Picture
from .state.board import Message

MAX_MESSAGES = 2000


@dataclass(slots=True)
class Delivery:
    """What came since the last one.

    Attributes:
        messages: Published messages with the monotonic time at which they came, in seconds.
        pictures: The newest picture of each camera.
        pictures_dropped: Pictures of each camera that a newer one replaced before the window looked.
        answers: Requests with their replies.
        lost: Messages for which there was no room.
        malformed: Messages so far that were not ours, or pictures that are none.
    """

    messages: list[tuple[Message, float]] = field(default_factory=list)
    pictures: dict[str, Picture] = field(default_factory=dict)
    pictures_dropped: dict[str, int] = field(default_factory=dict)
    answers: list[tuple[Any, Any, float]] = field(default_factory=list)
    lost: int = 0
    malformed: int = 0


class Mailbox:
    """Filled by one thread, emptied by another. Every `put` returns whether the other side is to be told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: deque[tuple[Message, float]] = deque(maxlen=MAX_MESSAGES)
        self._now = Delivery()
        self._notified = False

    def put_message(self, message: Message, now: float) -> bool:
        """Keep a message. Drop policy: the oldest goes where 2000 wait, counted."""
        with self._lock:
            if len(self._messages) == MAX_MESSAGES:
                self._now.lost += 1
            self._messages.append((message, now))
            return self._tell()

    def put_picture(self, camera: str, picture: Picture) -> bool:
        """Keep a picture in place of an older one."""
        with self._lock:
            if camera in self._now.pictures:
                self._now.pictures_dropped[camera] = self._now.pictures_dropped.get(camera, 0) + 1
            self._now.pictures[camera] = picture
            return self._tell()

    def put_answer(self, request: Any, reply: Any, now: float) -> bool:
        """Keep a reply with the request that it answers."""
        with self._lock:
            self._now.answers.append((request, reply, now))
            return self._tell()

    def set_malformed(self, number: int) -> bool:
        """Say how many messages so far were not ours."""
        with self._lock:
            if number == self._now.malformed:
                return False
            self._now.malformed = number
            return self._tell()

    def take(self) -> Delivery:
        """Return what has come and start anew."""
        with self._lock:
            taken, self._now = self._now, Delivery(malformed=self._now.malformed)
            taken.messages = list(self._messages)
            self._messages.clear()
            self._notified = False
            return taken

    def _tell(self) -> bool:
        notified, self._notified = self._notified, True
        return not notified
