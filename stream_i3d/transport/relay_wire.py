"""Messages between workers and the publisher, as bytes and back. Pure; everything received is checked first.

Worker -> publisher: `[greeting JSON]`, or `[number, topic, JSON]` where the last two are what will be published. The
number is 8 bytes, big-endian: of messages that must not be lost (events, statuses) 1, 2, 3 ... in the life of the
process, of others 0. Publisher -> worker: `[answer JSON]`.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from stream_i3d.errors import WireError
from stream_i3d.messages import ActionEvent, CameraName, Count, Recognition
from stream_i3d.transport.wire import Published, decode_json, decode_published, encode_published

MAX_GREETING_BYTES = 256 * 1024  # with an action of each camera
MAX_ANSWER_BYTES = 1024

_NUMBER = struct.Struct(">Q")
_MAX_CAMERAS = 256


class Greeting(Struct, frozen=True, kw_only=True, tag_field="kind", tag="greeting", forbid_unknown_fields=True):
    """A worker's message about itself: at first, when its cameras change, every second, and when it ends.

    Attributes:
        worker: Its name.
        pid: Its process, whose end the publisher notices.
        life: Another one for every process of that name.
        session: Session of the publisher, from its answer; 0 for not known yet.
        first: Number of the first message that must not be lost and will follow.
        next: Number that the next such message will get; from `first` on, those before it are sent again if need be.
        cameras: Cameras whose messages it publishes.
        running: The actions that had started and not ended before `next`, as they started; None from a receiver that
            has not got all messages before `next`, and so cannot compare.
        leaving: Whether it ends in order, so that nothing is to be published for its cameras afterwards.
    """

    version: Literal[1] = 1
    worker: Annotated[str, Meta(min_length=1, max_length=64)]
    pid: Count
    life: Count
    session: Count
    first: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    next: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    cameras: Annotated[list[CameraName], Meta(max_length=_MAX_CAMERAS)]
    running: Annotated[list[ActionEvent], Meta(max_length=_MAX_CAMERAS)] | None = None
    leaving: bool = False


class Answer(Struct, frozen=True, kw_only=True, tag_field="kind", tag="answer", forbid_unknown_fields=True):
    """The publisher's message to a worker.

    Attributes:
        session: Another one for every publisher process.
        known: Whether it takes this worker's messages; if not, it waits for a greeting that means this session.
        settled: Number of the newest message of the worker's life that is safe, all before it included.
    """

    version: Literal[1] = 1
    session: Count
    known: bool
    settled: Count = 0


@dataclass(frozen=True, slots=True)
class Publication:
    """A message to be published.

    Attributes:
        number: 0 where it may be lost; else its place among the messages of its worker.
        message: The message.
        parts: Its topic and JSON as the worker encoded them, to be published as they are.
    """

    number: int
    message: Published
    parts: tuple[bytes, bytes]


_encoder = msgspec.json.Encoder()
_decode_greeting = msgspec.json.Decoder(Greeting).decode
_decode_answer = msgspec.json.Decoder(Answer).decode


def must_arrive(message: Published) -> bool:
    """Return whether a message must not be lost; the next prediction makes up for one that is."""
    return not isinstance(message, Recognition)


def encode_publication(number: int, message: Published) -> tuple[bytes, bytes, bytes]:
    """Return the parts of a message that is to be published."""
    return (_NUMBER.pack(number), *encode_published(message))


def encode_control(message: Greeting | Answer) -> bytes:
    """Return the only part of a greeting or an answer."""
    return _encoder.encode(message)


def decode_from_worker(parts: Sequence[bytes]) -> Greeting | Publication:
    """Decode a worker's message.

    Raises:
        WireError: It is not one of ours.
    """
    if len(parts) == 1:
        return decode_json(_decode_greeting, parts[0], MAX_GREETING_BYTES, "a greeting", "version 1")
    if len(parts) != 3:
        raise WireError(f"a message of {len(parts)} parts; allowed are 1 (a greeting) and 3 (number, topic, JSON)")
    if len(parts[0]) != _NUMBER.size:
        raise WireError(f"a number of {len(parts[0])} bytes; allowed are {_NUMBER.size}")
    publication = Publication(_NUMBER.unpack(parts[0])[0], decode_published(parts[1:]), (parts[1], parts[2]))
    if must_arrive(publication.message) != bool(publication.number):
        raise WireError(
            f"number {publication.number} on a {type(publication.message).__name__}; allowed is 0 on predictions only"
        )
    return publication


def decode_answer(part: bytes) -> Answer:
    """Decode the publisher's answer.

    Raises:
        WireError: It is not one of ours.
    """
    return decode_json(_decode_answer, part, MAX_ANSWER_BYTES, "an answer", "version 1")


class Backlog:
    """Numbered messages in order, the first being 1. Drop policy: a full backlog drops its oldest, counted."""

    def __init__(self, limit: int) -> None:
        """Args: `limit` is the greatest number of messages kept."""
        self._kept: deque[tuple[int, tuple[bytes, ...]]] = deque()
        self._limit = limit
        self._newest = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def next_number(self) -> int:
        """The number that the next message will get."""
        return self._newest + 1

    @property
    def first(self) -> int:
        """The number of the oldest message that is kept, or of the next one where none is."""
        return self._kept[0][0] if self._kept else self._newest + 1

    def keep(self, parts: tuple[bytes, ...]) -> None:
        """Keep a message, under `next_number`."""
        self._newest += 1
        self._kept.append((self._newest, parts))
        if len(self._kept) > self._limit:
            self._kept.popleft()
            self.dropped += 1

    def settle(self, number: int) -> None:
        """Forget all messages up to `number`: they are confirmed."""
        while self._kept and self._kept[0][0] <= number:
            self._kept.popleft()

    def since(self, number: int) -> Iterator[tuple[int, tuple[bytes, ...]]]:
        """Yield the messages from `number` on, with their numbers."""
        if not self._kept or number > self._newest:
            return
        # From the newer end: what is asked for is nearly always the last one.
        start = len(self._kept) - min(len(self._kept), self._newest - number + 1)
        for index in range(start, len(self._kept)):
            yield self._kept[index]
