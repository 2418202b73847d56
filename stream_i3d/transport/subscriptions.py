"""Limits of subscriptions to a PUB socket: frames of subscribers are read, and those beyond the limits dropped. Pure.

ZeroMQ keeps subscriptions as a tree with a node for each byte (some 50 bytes of memory each) and has no limit for
them: 200 connections with 100 topics of 900 bytes took 880 MB and stopped publishing for six seconds. So nothing may
reach it unread. Frames are those of ZMTP 3 (RFC 23 and 37). With CURVE their content is hidden, and each frame that is
longer than a heartbeat counts as a new subscription.
"""

from __future__ import annotations

from stream_i3d.errors import WireError

MAX_FRAME_BYTES = 2048
"""Of one frame from a subscriber: more than a topic or any part of a handshake has."""
FREE_BYTES = 2048
"""What each connection may subscribe to in any case, however much others have taken: some fifty usual topics."""
CONNECTION_BYTES = 64 * 1024
"""Limit of one connection: the topics of all kinds of 256 cameras, each by itself."""
SHARED_BYTES = 256 * 1024
"""Limit of all connections together, beyond what is free for each."""
TOPIC_BYTES = 16
"""What a subscription costs beside the bytes of its topic."""

_GREETING_BYTES = 64
_MECHANISM = slice(12, 32)
_LONG, _COMMAND, _RESERVED = 0x02, 0x04, 0xF8
_CURVE_BYTES = 33
"""Of an encrypted frame beside its content: command name, nonce, box and flags."""
_HEARTBEAT_BYTES = _CURVE_BYTES + 7
_HANDSHAKE_FRAMES = 2  # HELLO and INITIATE


class SubscriptionPool:
    """What the connections of one socket have subscribed to together.

    Attributes:
        refused: Subscriptions that were left out.
    """

    def __init__(self, limit: int = SHARED_BYTES) -> None:
        """Args: `limit` is for all connections together, beyond the bytes that are free for each."""
        self._left = limit
        self.refused = 0

    def take(self, used: int, more: int) -> bool:
        """Grant `more` bytes to a connection that uses `used`; return whether they are granted."""
        wanted = max(0, used + more - FREE_BYTES) - max(0, used - FREE_BYTES)
        if used + more > CONNECTION_BYTES or wanted > self._left:
            self.refused += 1
            return False
        self._left -= wanted
        return True

    def give_back(self, used: int, less: int) -> None:
        """Release `less` bytes of a connection that uses `used`."""
        self._left += max(0, used - FREE_BYTES) - max(0, used - less - FREE_BYTES)


class SubscriptionFilter:
    """Reads the bytes of one connection, and passes on those within the limits.

    Attributes:
        subscribed: Whether a subscription was passed on.
    """

    def __init__(self, pool: SubscriptionPool) -> None:
        self.subscribed = False
        self._pool = pool
        self._greeting = bytearray()
        self._waiting = bytearray()  # a frame that has not come whole
        self._frames = 0
        self._topics: set[bytes] = set()
        self._used = 0

    @property
    def used(self) -> int:
        """Bytes that the connection has taken from its limit."""
        return self._used

    def feed(self, data: bytes) -> bytes:
        """Process received bytes, and return those to be passed on.

        Raises:
            WireError: It is not ZMTP 3, or a frame is too long.
        """
        passed = self._greet(data)
        self._waiting += data[len(passed) :]
        frames = [passed]
        while (frame := self._next()) is not None:
            head, body = frame
            if self._passes(head[0], body):
                frames.append(head + body)
        return b"".join(frames)

    def close(self) -> None:
        """Give back what the connection has taken."""
        self._pool.give_back(self._used, self._used)
        self._topics.clear()
        self._used = 0

    def _greet(self, data: bytes) -> bytes:
        """Return the part of `data` that belongs to the greeting."""
        part = data[: _GREETING_BYTES - len(self._greeting)]
        self._greeting += part
        known = bytes(self._greeting)
        if (
            known[:1] not in (b"", b"\xff")
            or (len(known) > 9 and not known[9] & 1)
            or (len(known) > 10 and known[10] < 3)
        ):
            raise WireError("what is not ZMTP 3")
        return part

    def _next(self) -> tuple[bytes, bytes] | None:
        """Return head and body of the next frame that is whole."""
        waiting = self._waiting
        if not waiting:
            return None
        flags = waiting[0]
        size_bytes = 8 if flags & _LONG else 1
        if flags & _RESERVED:
            raise WireError("what is not ZMTP 3")
        start = 1 + size_bytes
        if len(waiting) < start:
            return None
        size = int.from_bytes(waiting[1:start], "big")
        if size > MAX_FRAME_BYTES:
            raise WireError(f"a frame of {size} bytes; allowed are {MAX_FRAME_BYTES}")
        if len(waiting) < start + size:
            return None
        head, body = bytes(waiting[:start]), bytes(waiting[start : start + size])
        del waiting[: start + size]
        self._frames += 1
        return head, body

    def _passes(self, flags: int, body: bytes) -> bool:
        if self._greeting[_MECHANISM].rstrip(b"\0") != b"NULL":
            return self._passes_hidden(len(body))
        if flags & _COMMAND:
            name, rest = body[1 : 1 + body[0]] if body else b"", body[1 + body[0] :] if body else b""
            if name not in (b"SUBSCRIBE", b"CANCEL"):
                return True
            return self._adds(rest) if name == b"SUBSCRIBE" else self._removes(rest)
        if body[:1] == b"\x01":
            return self._adds(body[1:])
        return body[:1] == b"\x00" and self._removes(body[1:])

    def _passes_hidden(self, size: int) -> bool:
        if self._frames <= _HANDSHAKE_FRAMES:
            return True
        self.subscribed = True  # or it is at least authenticated
        if size <= _HEARTBEAT_BYTES:
            return True
        cost = size - _CURVE_BYTES + TOPIC_BYTES
        if not self._pool.take(self._used, cost):
            return False
        self._used += cost
        return True

    def _adds(self, topic: bytes) -> bool:
        """Note a subscription; return whether it is new and within the limits."""
        if topic in self._topics:
            return False  # ZeroMQ would make nothing of it
        cost = len(topic) + TOPIC_BYTES
        if not self._pool.take(self._used, cost):
            return False
        self._topics.add(topic)
        self._used += cost
        self.subscribed = True
        return True

    def _removes(self, topic: bytes) -> bool:
        """Note that a subscription ends; return whether there was one."""
        if topic not in self._topics:
            return False
        self._topics.remove(topic)
        cost = len(topic) + TOPIC_BYTES
        self._pool.give_back(self._used, cost)
        self._used -= cost
        return True


class TokenBucket:
    """A rate limit: `burst` at once, and `rate` a second after that."""

    def __init__(self, burst: float, rate: float) -> None:
        self._burst = self._left = burst
        self._rate = rate
        self._at = float("-inf")

    def take(self, amount: float, now: float) -> None:
        """Use an amount at `now` (monotonic, seconds), which may leave a debt."""
        self._fill(now)
        self._left -= amount

    def wait_s(self, now: float) -> float:
        """Return the seconds until there is no debt."""
        self._fill(now)
        return max(0.0, -self._left / self._rate)

    def _fill(self, now: float) -> None:
        if self._at > float("-inf"):
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
