"""When a live picture was taken, and when to pass it on: by the stream's own time stamps where they can be trusted.

HLS delivers seconds of pictures at once, then nothing for seconds. Stamped with their arrival, they would make windows
of a few milliseconds and gaps of seconds. A stream's own time stamps say how far apart its pictures were taken.
They are used as long as they advance, and advance as fast as pictures arrive; otherwise arrival counts.

The offset from stream time to the local monotonic clock is the least that was seen lately: that of the pictures which
came with the least delay. Whatever came later by that offset came late, and how late pictures come is what they are
held back for, so that they leave at the pace at which they were taken. A steady camera's are not held back at all.

Pure: time is an argument.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

MAX_DELAY_S = 15.0
"""No picture is held back longer than this."""

_LEAST_DELAY_S = 0.25
"""Lateness below this is left to the stream's time stamps: windows are right, and come a little unevenly."""
_MARGIN = 1.1
_EVENTS = 3
"""Times that pictures must have come late within `_MEMORY_S` before later ones are held back for it."""
_MEMORY_S = 60.0
_SLEW = 0.05
"""Seconds by which an offset may change in a second, so that no window's length is off by more than a twentieth."""
_JUMP_S = 0.5
_USUAL_INTERVALS = 15
_STUCK = 10
_SPANS = ((2.0, 0.15), (5.0, 0.07), (15.0, 0.03))
"""Seconds, and by how much the rate of stream time may differ between two such spans: no clock is off by 1 %."""
_SETTLE_S = 2.0
_FIRST_BURST_S = 0.5
"""Seconds to read into a first segment, before its first picture is passed on: how late that is is known then."""
_TRUST_AGAIN_S = 30.0
_NEVER_S = 86400.0


@dataclass(frozen=True, slots=True)
class Timing:
    """What one picture's times are.

    Attributes:
        time_s: On the stream's own time, which runs on without steps; its arrival where stamps are not trusted. Only
            differences mean anything. For sampling, and for `StreamTiming.mapping`.
        restarted: Whether `time_s` does not continue that of the picture before, so no window may hold both.
    """

    time_s: float
    restarted: bool = False


@dataclass(slots=True)
class Mapping:
    """From stream time to the local monotonic clock, for the pictures since a restart; adapts while pictures come.

    Attributes:
        offset_s: From `Timing.time_s` to when a picture was taken: that of the picture which came with the least delay,
            lately. Whatever delay all pictures of the stream have in common (camera, packager, network) is not known,
            and not in it. 0 where arrival counts.
        release_s: Likewise to when it is to be passed on; at most `MAX_DELAY_S` more.
    """

    offset_s: float = 0.0
    release_s: float = 0.0

    @property
    def delay_s(self) -> float:
        """Seconds from a picture's being taken to its being passed on."""
        return self.release_s - self.offset_s


class StreamTiming:
    """Follows the pictures of one connection."""

    def __init__(self, bursty: bool = False) -> None:
        """Args: `bursty`: the stream is known to come in bursts (segments), so it is held back from the start."""
        self._bursty = bursty
        self._events_needed = 1 if bursty else _EVENTS
        self._trust_again_s = _TRUST_AGAIN_S
        self._timeline = _Timeline()
        self._distrusted_at: float | None = None
        self._started_at: float | None = None
        self._in_pace = True
        self._restart()

    @property
    def trusted(self) -> bool:
        """Whether the stream's own time stamps are used."""
        return self._distrusted_at is None and self._timeline.known

    @property
    def delay_s(self) -> float:
        """Seconds for which pictures are held back."""
        return self.mapping.delay_s

    def push(self, stream_s: float, arrival_s: float) -> Timing:
        """Take in the picture that arrived at `arrival_s`, not decreasing, stamped `stream_s`; both in seconds."""
        offset = self.mapping.offset_s
        known = (offset, offset + self._lateness.largest) if self._mapped else None
        was_trusted = self.trusted
        time = self._timeline.push(stream_s, arrival_s, known)
        if self._started_at is None:
            self._started_at = arrival_s
        self._judge(arrival_s, arrival_s - time)
        if not self.trusted:
            if was_trusted:
                self._restart()
            return Timing(arrival_s, restarted=was_trusted)
        restarted = not was_trusted and self._timeline.pictures > 2
        if self._mapped and arrival_s - time - offset > MAX_DELAY_S:
            restarted = True  # the stream stood still, and its clock with it
        if restarted:
            self._restart()
        self._follow(time, arrival_s)
        return Timing(time, restarted)

    def _restart(self) -> None:
        self.mapping = Mapping()
        """Of the newest picture; another object after a restart, so that older pictures keep theirs."""
        self._mapped = False
        self._seen_at = 0.0
        self._least = _SlidingMin(_MEMORY_S)
        self._lateness = _Lateness()

    def _follow(self, time: float, arrival_s: float) -> None:
        """Adapt the mapping to a picture."""
        mapping, offset = self.mapping, arrival_s - time
        if not self._mapped:
            mapping.offset_s = mapping.release_s = offset
            if self._bursty:
                mapping.release_s += _FIRST_BURST_S
            self._seen_at, self._mapped = arrival_s, True
        slew = _SLEW * (arrival_s - self._seen_at)
        self._seen_at = arrival_s
        self._least.push(arrival_s, offset)
        mapping.offset_s = min(self._least.value, mapping.offset_s + slew)
        self._lateness.push(arrival_s, offset - mapping.offset_s)
        wanted = mapping.offset_s + self._wanted_delay(arrival_s)
        assert self._started_at is not None
        if not self._bursty and arrival_s - self._started_at < _SETTLE_S:
            slew = math.inf  # what was waiting when the camera was connected is passed on at once
        mapping.release_s = min(max(wanted, mapping.release_s - slew), mapping.offset_s + MAX_DELAY_S)

    def _wanted_delay(self, now: float) -> float:
        late = self._lateness.usual(now, self._events_needed)
        return 0.0 if late < _LEAST_DELAY_S else min(MAX_DELAY_S, late * _MARGIN)

    def _judge(self, arrival_s: float, offset: float) -> None:
        """Decide whether the time stamps are to be trusted from now on."""
        assert self._started_at is not None
        if self._timeline.note(arrival_s, offset):  # twice a second is often enough
            self._in_pace = arrival_s - self._started_at < _SETTLE_S or self._timeline.keeps_pace(arrival_s)
        good = self._in_pace and not self._timeline.stuck
        if self._distrusted_at is None:
            if not good:
                self._distrusted_at = arrival_s
        elif not good:
            self._distrusted_at = max(self._distrusted_at, arrival_s - self._trust_again_s / 2)
        elif arrival_s - self._distrusted_at > self._trust_again_s:
            self._distrusted_at = None
            self._trust_again_s = min(2 * self._trust_again_s, _NEVER_S)


class _Timeline:
    """Makes one continuous time of a stream's stamps, over wrap-arounds and discontinuities; measures its rate."""

    def __init__(self) -> None:
        self.pictures = 0
        self._stamp = 0.0
        self._arrival_s = 0.0
        self._time = 0.0
        self._intervals: deque[float] = deque(maxlen=_USUAL_INTERVALS)
        self._stuck = 0
        self._buckets: deque[tuple[float, float]] = deque()  # arrival and least offset of each half second
        self._gaps: deque[tuple[float, float]] = deque()

    @property
    def known(self) -> bool:
        """Whether any stamp was later than the one before."""
        return bool(self._intervals)

    @property
    def stuck(self) -> bool:
        """Whether stamps do not grow from picture to picture."""
        return self._stuck >= _STUCK

    def push(self, stamp: float, arrival_s: float, known: tuple[float, float] | None) -> float:
        """Return the continuous time of a picture; `known` is the range of arrival minus time lately."""
        self.pictures += 1
        if self.pictures == 1:
            self._stamp, self._arrival_s, self._time = stamp, arrival_s, arrival_s
            return self._time
        step, gap = stamp - self._stamp, arrival_s - self._arrival_s
        self._stamp, self._arrival_s = stamp, arrival_s
        self._note_gap(arrival_s, gap)
        if -_JUMP_S < step <= 0:
            self._stuck += 1
            return self._time
        if not 0 < step <= _JUMP_S and not self._plausible(step, arrival_s, known):
            step = sorted(self._intervals)[len(self._intervals) // 2] if self._intervals else min(gap, _JUMP_S)
        elif step <= _JUMP_S or not self._intervals:
            self._intervals.append(step)
        self._stuck = max(0, self._stuck - 1)
        self._time += step
        return self._time

    def _plausible(self, step: float, arrival_s: float, known: tuple[float, float] | None) -> bool:
        """Tell whether a large step forward is a gap in the stream, and not a step of its clock."""
        if step <= 0:
            return False
        if known is None:
            return step < MAX_DELAY_S
        least, most = known
        return least - _JUMP_S <= arrival_s - (self._time + step) <= most + _JUMP_S

    def note(self, arrival_s: float, offset: float) -> bool:
        """Note a picture's arrival minus its time; return whether another half second has begun."""
        if self._buckets and arrival_s - self._buckets[-1][0] < 0.5:
            begun, least = self._buckets[-1]
            self._buckets[-1] = (begun, min(least, offset))
            return False
        self._buckets.append((arrival_s, offset))
        while arrival_s - self._buckets[0][0] > 2 * _SPANS[-1][0] + 1:
            self._buckets.popleft()
        return True

    def keeps_pace(self, arrival_s: float) -> bool:
        """Tell whether stream time runs as fast as pictures arrive.

        Compared are the least late pictures of two spans, each of which must be long enough to hold a whole burst.
        """
        longest = max((gap for _, gap in self._gaps), default=0.0)
        for span, tolerance in _SPANS:
            if arrival_s - self._buckets[0][0] < 2 * span:
                return True
            if span < 1.5 * longest:
                continue
            newer = min((least for at, least in self._buckets if at > arrival_s - span), default=None)
            older = min((least for at, least in self._buckets if 1 <= (arrival_s - at) / span < 2), default=None)
            if newer is not None and older is not None and abs(newer - older) > tolerance * span + longest / 2:
                return False
        return True

    def _note_gap(self, arrival_s: float, gap: float) -> None:
        while self._gaps and (self._gaps[-1][1] <= gap):
            self._gaps.pop()
        self._gaps.append((arrival_s, gap))
        while arrival_s - self._gaps[0][0] > 2 * _SPANS[-1][0]:
            self._gaps.popleft()


class _SlidingMin:
    """The least of the values of the last `span_s` seconds."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._values: deque[tuple[float, float]] = deque()  # increasing in both

    def push(self, now: float, value: float) -> None:
        """Take a value in."""
        while self._values and self._values[-1][1] >= value:
            self._values.pop()
        self._values.append((now, value))
        while now - self._values[0][0] > self._span_s:
            self._values.popleft()

    @property
    def value(self) -> float:
        """The least; one must have been pushed."""
        return self._values[0][1]


class _Lateness:
    """How late pictures came, once for each time that they did: of a burst, its first."""

    def __init__(self) -> None:
        self._events: deque[tuple[float, float]] = deque()
        self._newest = 0.0

    @property
    def largest(self) -> float:
        """The most seconds by which a picture came late, lately."""
        return max((late for _, late in self._events), default=0.0)

    def push(self, now: float, late: float) -> None:
        """Note that a picture came `late` seconds late."""
        step, self._newest = late - self._newest, late
        if late >= _LEAST_DELAY_S and step >= _LEAST_DELAY_S / 2:
            self._events.append((now, late))
        while self._events and now - self._events[0][0] > _MEMORY_S:
            self._events.popleft()

    def usual(self, now: float, times: int) -> float:
        """Return how late pictures come again and again: at least so many times in the last `_MEMORY_S`; else 0.

        That is the latest of them, unless it stands alone by far: a hiccup, and no habit.
        """
        late = sorted((late for at, late in self._events if now - at <= _MEMORY_S), reverse=True)
        if len(late) < times:
            return 0.0
        return late[0] if late[times - 1] > late[0] / 2 else late[times - 1]


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Held(Generic[T]):
    item: T
    due_s: Callable[[], float]
    size: int


class PlayoutQueue(Generic[T]):
    """Holds things until they are due, which may be judged anew until they leave."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: deque[_Held[T]] = deque()
        self.bytes = 0
        self.early = 0
        """Things that left before they were due, for want of room."""
        self.dropped = 0
        """Things that were dropped."""

    def __len__(self) -> int:
        return len(self._held)

    def push(self, item: T, due_s: Callable[[], float], size: int) -> None:
        """Take in a thing of `size` bytes; `due_s` tells when it is due, on the monotonic clock in seconds."""
        self._held.append(_Held(item, due_s, size))
        self.bytes += size
        while self.bytes > 2 * self._max_bytes and len(self._held) > 1:
            self.bytes -= self._held.popleft().size
            self.dropped += 1

    def wait_s(self, now: float) -> float | None:
        """Return for how many seconds the oldest is not due yet; None where nothing is held."""
        if not self._held:
            return None
        return 0.0 if self.bytes > self._max_bytes else max(0.0, self._held[0].due_s() - now)

    def pop(self, now: float) -> T | None:
        """Return the oldest where it is due, else None."""
        wait_s = self.wait_s(now)
        if wait_s is None or wait_s > 0:
            return None
        held = self._held.popleft()
        if held.due_s() > now:
            self.early += 1
        self.bytes -= held.size
        return held.item
