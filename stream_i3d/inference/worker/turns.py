"""Which cameras are served in streaming mode while the machine cannot keep up. Pure: time is an argument.

A carried network gives no prediction for the first `WARM_UP_STEPS` steps of a stream, so a camera that loses frames now
and then never gives one. So no frame of a served camera is left out at random. Overload has levels, mild to severe:

1. Stride 8 instead of 4.
2. The network sees four of five frames, two of three, every second one, of all cameras.
3. As many cameras as fit are served at a time, and the others wait. They take turns, long enough that the warm-up is at
   most a quarter of a turn.
4. One camera at a time, and the network sees every third, fourth, sixth ... frame of it.

It gets more severe at once, when chunks queue up. It gets milder after a calm time, which doubles each time that this
proved too early.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stream_i3d.models.streaming_plan import STEP_FRAMES, WARM_UP_STEPS

TURN_STEPS = 4 * WARM_UP_STEPS
"""Steps of a turn: the warm-up is a quarter of them. 28 steps are 9 s at 25 frames/s."""

SHARED_INTERVAL = 2.0
"""The largest frame interval that is taken before any camera has to wait for its turn."""
FRAME_INTERVALS: tuple[float, ...] = (1, 1.25, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)

FULL = 0.92
"""Of the engine's time, what the cameras served under overload may need."""
ROOM = 0.88
"""The same, for serving more of them again."""
ADMIT = 0.95
"""The same, for one more camera while there is no overload."""
EXCESS = 1.2
"""From here on it is certain that chunks will queue up, so no camera begins a warm-up that it cannot end."""
LIKELY = 0.6
"""Below this, lost chunks are the fault of a short pause and not of the load."""

BEHIND_CHUNKS = 3
_BEHIND_S = 5.0
_PATIENCE_S = 3.0
_CALM_S = 10.0
_CALM_MOST_S = 320.0
_TOO_EARLY_S = 60.0
_KEPT = 9


@dataclass(frozen=True, slots=True)
class CameraLoad:
    """One camera now.

    Attributes:
        camera: Which one, by any number.
        live: Whether its frames arrive.
        backlog: Chunks that wait.
        overflows: How often so far its queue overflowed, so that its stream was cut.
    """

    camera: int
    live: bool = True
    backlog: int = 0
    overflows: int = 0


class Level(NamedTuple):
    """How cameras are served: the stride and interval of the frames that the network sees, cameras at a time."""

    stride: int
    frame_interval: float
    places: int


@dataclass(slots=True)
class _Turn:
    """A camera's turn: since when, steps in it, and steps since its network last began anew."""

    began: float
    steps: int = 0
    run: int = 0

    @property
    def warm(self) -> bool:
        return self.run > WARM_UP_STEPS


class StepCosts:
    """What a chunk costs, from the newest measured batches of each size."""

    def __init__(self, measured: Mapping[int, float]) -> None:
        """Args: `measured` are seconds by batch size, as far as they are known."""
        self._newest = {size: deque([seconds], _KEPT) for size, seconds in measured.items()}

    def ran(self, size: int, seconds: float) -> None:
        """Take in a batch. What other sizes cost is scaled alike: the machine became faster or slower."""
        newest = self._newest.setdefault(size, deque(maxlen=_KEPT))
        before = _typical(newest) if newest else 0.0
        newest.append(seconds)
        if before and (scale := _typical(newest) / before) != 1.0:
            for other, theirs in self._newest.items():
                if other != size:
                    self._newest[other] = deque([one * scale for one in theirs], _KEPT)

    def per_chunk(self, most: int) -> float:
        """Return the seconds per chunk in batches of up to `most`; 0 while nothing is known."""
        if not self._newest:
            return 0.0
        sizes = sorted(self._newest)
        known = [_typical(self._newest[size]) for size in sizes]
        largest = min(most, sizes[-1])
        between = float(np.interp(largest, sizes, known))
        return min(between / largest, *(one / size for size, one in zip(sizes, known, strict=True) if size <= largest),
                   float("inf"))  # fmt: skip


class Turns:
    """Decides which cameras are served, at which stride and frame interval.

    Attributes:
        stride: Frames between predictions, of those that the network sees.
        frame_interval: Frames for each one that the network sees: 1 is all of them, 1.25 four of five.
        overloaded_since: When the overload began; None while there is none.
    """

    def __init__(self, asked_stride: int, sample_fps: float, measured: Mapping[int, float] | None = None) -> None:
        """Args: `measured` are seconds by batch size, known from the engine's warm-up."""
        self.batch_limit = 1
        self.stride, self.frame_interval = asked_stride, 1.0
        self.overloaded_since: float | None = None
        self._asked, self._fps = asked_stride, sample_fps
        self._costs = StepCosts(measured or {})
        self._turns: dict[int, _Turn] = {}
        self._waiting: dict[int, float] = {}
        self._places = 0  # cameras served at a time, while overloaded
        self._overflows: dict[int, int] = {}
        self._behind_since: float | None = None
        self._calm_since: float | None = None
        self._calm_s = _CALM_S
        self._eased_at = float("-inf")
        self._next_rotation = float("-inf")

    @property
    def served(self) -> frozenset[int]:
        """The cameras whose chunks are to be run."""
        return frozenset(self._turns)

    @property
    def turn_s(self) -> float:
        """How long a turn lasts."""
        return TURN_STEPS * STEP_FRAMES * self.frame_interval / self._fps

    def waiting_since(self, camera: int) -> float | None:
        """Return since when a camera waits for its turn; None where it is served or there is no overload."""
        return None if self.overloaded_since is None else self._waiting.get(camera)

    def is_waiting(self, camera: int) -> bool:
        """Tell whether a camera waits to be served."""
        return camera in self._waiting

    def retune(self, asked_stride: int) -> None:
        """Take another stride."""
        if asked_stride == self._asked:
            return
        self._asked = asked_stride
        if self.overloaded_since is None:
            self.stride = asked_stride

    def ran(self, numbers: Mapping[int, int], seconds: float) -> None:
        """Take in that the engine ran a batch of chunks.

        Args:
            numbers: Of each camera, how many chunks it was fed before in the same run of its stream.
            seconds: How long that took.
        """
        self._costs.ran(len(numbers), seconds)
        for camera, number in numbers.items():
            if (turn := self._turns.get(camera)) is not None:
                turn.steps, turn.run = turn.steps + 1, number + 1

    def update(self, cameras: Iterable[CameraLoad], now: float) -> None:
        """Take in the cameras as they are now, and decide."""
        live = {one.camera: one for one in cameras if one.live or (one.camera in self._turns and one.backlog)}
        self._follow(live, now)
        if self._falls_behind(live, now):
            self._degrade(len(live), now)
        elif self.overloaded_since is not None:
            self._ease(len(live), now)
        self._rotate(now)
        self._fill(len(live), now)

    def _load(self, cameras: int, stride: int = 0, interval: float = 0) -> float:
        """Return the share of the engine's time that so many cameras need."""
        per_camera = self._fps / ((stride or self.stride) * (interval or self.frame_interval))  # steps a second
        return cameras * per_camera * self._costs.per_chunk(max(1, min(cameras, self.batch_limit)))

    def _follow(self, live: Mapping[int, CameraLoad], now: float) -> None:
        """Forget cameras that have gone, and queue those that have come."""
        self._turns = {camera: turn for camera, turn in self._turns.items() if camera in live}
        self._waiting = {camera: since for camera, since in self._waiting.items() if camera in live}
        for camera in live:
            if camera not in self._turns:
                self._waiting.setdefault(camera, now)

    def _falls_behind(self, live: Mapping[int, CameraLoad], now: float) -> bool:
        """Tell whether the cameras that are served are more than the engine can do."""
        served, load = [live[camera] for camera in self._turns], self._load(len(self._turns))
        overflowed = any(one.overflows > self._overflows.get(one.camera, one.overflows) for one in served)
        self._overflows = {camera: one.overflows for camera, one in live.items()}
        behind = any(one.backlog >= BEHIND_CHUNKS for one in served)
        if not behind:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now
        if behind and load > FULL:
            return True
        if load > EXCESS and any(not turn.warm for turn in self._turns.values()):
            return True
        long_behind = self._behind_since is not None and now - self._behind_since >= _BEHIND_S
        return (overflowed or long_behind) and load > LIKELY

    def _degrade(self, live: int, now: float) -> None:
        """Serve less than now."""
        if now - self._eased_at < _TOO_EARLY_S:
            self._calm_s = min(2 * self._calm_s, _CALM_MOST_S)
        elif now - self._eased_at > 2 * _CALM_MOST_S:
            self._calm_s = _CALM_S
        self._eased_at = float("-inf")
        self._take(max(self._mildest(live, FULL), self._next_worse(live), key=_severity), now)

    def _mildest(self, live: int, limit: float) -> Level:
        """Return the mildest level at which so many cameras need at most `limit` of the engine's time."""
        for stride in sorted({self._asked, STEP_FRAMES}):
            if self._load(live, stride, 1) <= limit:
                return Level(stride, 1, live)
        for interval in (one for one in FRAME_INTERVALS if one < SHARED_INTERVAL):
            if self._load(live, STEP_FRAMES, interval) <= limit:
                return Level(STEP_FRAMES, interval, live)
        places = next((n for n in range(live, 0, -1) if self._load(n, STEP_FRAMES, SHARED_INTERVAL) <= limit), 0)
        if places:
            return Level(STEP_FRAMES, SHARED_INTERVAL, places)
        larger = [one for one in FRAME_INTERVALS if one > SHARED_INTERVAL]
        fitting = (one for one in larger if self._load(1, STEP_FRAMES, one) <= limit)
        return Level(STEP_FRAMES, next(fitting, larger[-1]), 1)

    def _next_worse(self, live: int) -> Level:
        """Return the level below the one in force."""
        if self.stride < STEP_FRAMES:
            return Level(STEP_FRAMES, 1, live)
        if self.frame_interval < SHARED_INTERVAL:
            return Level(STEP_FRAMES, next(one for one in FRAME_INTERVALS if one > self.frame_interval), live)
        if len(self._turns) > 1:
            return Level(STEP_FRAMES, self.frame_interval, len(self._turns) - 1)
        larger = (one for one in FRAME_INTERVALS if one > self.frame_interval)
        return Level(STEP_FRAMES, next(larger, FRAME_INTERVALS[-1]), 1)

    def _take(self, level: Level, now: float) -> None:
        """Serve the cameras at another level. With another frame interval every network begins anew."""
        if level.frame_interval != self.frame_interval:
            self._turns = {camera: _Turn(now) for camera in self._turns}
        self.stride, self.frame_interval, self._places = level.stride, level.frame_interval, level.places
        self._behind_since = self._calm_since = None
        if self.overloaded_since is None:
            self.overloaded_since = now
        while len(self._turns) > self._places:
            self._suspend(self._least_loss(), now)

    def _least_loss(self) -> int:
        """Return the served camera whose turn can end with the least work lost."""
        warm = [camera for camera, turn in self._turns.items() if turn.warm]
        if warm:
            return max(warm, key=lambda camera: self._turns[camera].steps)
        return min(self._turns, key=lambda camera: self._turns[camera].run)

    def _suspend(self, camera: int, now: float) -> None:
        del self._turns[camera]
        self._waiting[camera] = now

    def _ease(self, live: int, now: float) -> None:
        """Serve more again, once there has been room for it for long enough."""
        level = self._mildest(live, ROOM)
        milder = _severity(level) < _severity(Level(self.stride, self.frame_interval, min(self._places, live)))
        done = self._places >= live and (self.stride, self.frame_interval) == (self._asked, 1)
        if self._behind_since is not None or not (milder or done):
            self._calm_since = None
            return
        if self._calm_since is None:
            self._calm_since = now
        if not self._is_calm(now) or not self._may_restart(level):
            return
        if milder:
            self._take(level, now)
        self._calm_since, self._eased_at = None, now
        if (level.stride, level.frame_interval, level.places) == (self._asked, 1, live):
            self.overloaded_since = None

    def _is_calm(self, now: float) -> bool:
        return self._calm_since is not None and now - self._calm_since >= self._calm_s

    def _may_restart(self, level: Level) -> bool:
        """Tell whether another frame interval would throw no work away: every network has given predictions."""
        return level.frame_interval == self.frame_interval or all(turn.warm for turn in self._turns.values())

    def _rotate(self, now: float) -> None:
        """End the longest turn where it is over and another camera waits; one at a time, so that turns are spread."""
        if self.overloaded_since is None or not self._waiting or now < self._next_rotation:
            return
        if self._is_calm(now):
            return  # the level gets milder as soon as every network is warm
        over = [
            camera
            for camera, turn in self._turns.items()
            if turn.steps >= TURN_STEPS or (turn.warm and now - turn.began >= 2 * self.turn_s)
        ]
        if over and len(self._turns) >= self._places:
            self._suspend(max(over, key=lambda camera: self._turns[camera].steps), now)
            self._next_rotation = now + self.turn_s / self._places

    def _fill(self, live: int, now: float) -> None:
        """Begin the turns of those that have waited longest, as far as there is room."""
        if self.overloaded_since is None and self._waiting:
            longest = now - min(self._waiting.values())
            if self._load(live) > EXCESS or (self._load(live) > ADMIT and longest > _PATIENCE_S):
                self._take(self._mildest(live, FULL), now)
        most = live if self.overloaded_since is None else self._places
        for camera in sorted(self._waiting, key=lambda one: self._waiting[one]):
            count = len(self._turns)
            if count >= most or (self.overloaded_since is None and count and self._load(count + 1) > ADMIT):
                return
            del self._waiting[camera]
            self._turns[camera] = _Turn(now)


def _severity(level: Level) -> tuple[int, float, int]:
    return level.stride, level.frame_interval, -level.places


def _typical(seconds: deque[float]) -> float:
    """Return the mean without the largest: one pause of the machine says nothing."""
    return (sum(seconds) - max(seconds)) / (len(seconds) - 1) if len(seconds) > 2 else min(seconds)
