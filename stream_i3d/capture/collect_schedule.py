"""When to count down, record and rest while labelled clips are collected, and which pictures a clip is made of.

Pure: time is an argument (seconds; of arrival for cameras, of the medium for files). Knows no source, no video file and
no terminal: collect.py reads and writes, the command line shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from stream_i3d.errors import ConfigError
from stream_i3d.sampling import Sampler

Phase = Literal["settling", "countdown", "recording", "pause", "done"]

STALL_S: Final = 1.0
"""A gap between two pictures above which a clip is thrown away: it would show a picture that stands still."""


@dataclass(frozen=True, slots=True)
class CollectPlan:
    """What to record. A take is one recording; it is one clip, or, with `split_s`, is cut into several.

    Attributes:
        takes: How many recordings.
        seconds: Length of a take.
        split_s: Length of the clips that a take is cut into (None: the take is the clip). A rest is not recorded.
        countdown_s: Seconds counted down before each take.
        pause_s: Seconds of rest after each take but the last.
        fps: Frames per second of the clips; a camera's own rate is sampled to it.

    Raises:
        ConfigError: A value is out of range, or the parts are longer than the take.
    """

    takes: int = 20
    seconds: float = 3.0
    split_s: float | None = None
    countdown_s: float = 3.0
    pause_s: float = 1.0
    fps: float = 25.0

    def __post_init__(self) -> None:
        """Check the values; the names in the messages are the command line's."""
        _check_range("--clips", self.takes, 1, 10_000)
        _check_range("--seconds", self.seconds, 0.2, 3600)
        _check_range("--countdown", self.countdown_s, 0, 3600)
        _check_range("--pause", self.pause_s, 0, 3600)
        _check_range("--fps", self.fps, 5, 240)
        if self.split_s is not None:
            _check_range("--split", self.split_s, 0.2, 3600)
            if self.split_s > self.seconds:
                raise ConfigError(
                    f"--split {self.split_s:g}: longer than the recording; give at most --seconds {self.seconds:g}"
                )

    @property
    def clip_s(self) -> float:
        """Seconds of a clip."""
        return self.seconds if self.split_s is None else self.split_s

    @property
    def clip_frames(self) -> int:
        """Frames of a clip."""
        return max(1, round(self.clip_s * self.fps))

    @property
    def clips_per_take(self) -> int:
        """Whole clips that a take is cut into."""
        return math.floor(self.seconds / self.clip_s + 1e-6)

    @property
    def take_frames(self) -> int:
        """Frames of a take."""
        return self.clips_per_take * self.clip_frames


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also catches nan
        raise ConfigError(f"{name} {value:g}: allowed is {low:g} to {high:g}")


@dataclass(frozen=True, slots=True)
class Cue:
    """What to do with the picture that has just come, and what to tell the person in front of the camera.

    Attributes:
        phase: What is going on.
        take: The take under way, or the next, from 1.
        left_s: Seconds until the countdown, the recording or the pause ends.
        frames: How often the picture enters the recording (0: it is not kept).
        gap_s: Above 0: nothing came for so long that the clip under way is to be thrown away; it will be taken again.
    """

    phase: Phase
    take: int
    left_s: float
    frames: int = 0
    gap_s: float = 0.0


class CollectSchedule:
    """Leads through a plan, picture by picture.

    A phase begins with the picture that finds the one before it over, so no take is ever without a picture however
    slow the source; a take ends when it has all its frames, which the sampler counts by time.
    """

    def __init__(self, plan: CollectPlan, settle_s: float = 0.0) -> None:
        """Args: `settle_s` is thrown away before all else, for a camera's exposure to find its level."""
        self._plan = plan
        self._settle_s = settle_s
        self._phase: Phase = "settling"
        self._until = -math.inf
        self._last: float | None = None
        self._interval = 0.0
        self._takes = 0
        self._frames = 0  # of the take under way
        self.breaks = 0
        """Clips thrown away one after the other since one was completed."""

    @property
    def done(self) -> bool:
        """Whether all takes are recorded."""
        return self._phase == "done"

    def push(self, now: float) -> Cue:
        """Return what to do with the picture that came at `now` (seconds, increasing)."""
        gap = 0.0
        if self._last is None:
            self._until = now + self._settle_s
        else:
            self._interval = now - self._last
            gap = self._interval if self._phase == "recording" and self._interval > STALL_S else 0.0
        self._last = now
        if gap:
            self._break_off(now)
        while now >= self._until:
            self._advance(now)
        phase, take = self._phase, self._takes + 1
        if phase != "recording":
            return Cue(phase, take, self._until - now, gap_s=gap)
        left = self._plan.take_frames - self._frames
        frames = self._record(now)
        return Cue(phase, take, (left - frames) / self._plan.fps, frames, gap)

    def finish(self) -> int:
        """Return how often the last picture of a file still enters the recording: it is seen for its own time too."""
        if self._last is None or self._phase != "recording":
            return 0
        return self._record(self._last + self._interval)

    def _advance(self, now: float) -> None:
        if self._phase != "countdown":
            self._phase, self._until = "countdown", now + self._plan.countdown_s
            return
        # Gaps up to STALL_S are filled with repeats; the sampler must not start anew by itself.
        self._sampler = Sampler(self._plan.fps, max_repeats=math.ceil(STALL_S * self._plan.fps))
        self._phase, self._until = "recording", math.inf

    def _break_off(self, now: float) -> None:
        """Go back to the countdown; the take's whole clips count."""
        self.breaks += 1
        self._frames -= self._frames % self._plan.clip_frames
        self._phase, self._until = "countdown", now + self._plan.countdown_s

    def _record(self, now: float) -> int:
        plan, before = self._plan, self._frames
        frames = min(self._sampler.push(now), plan.take_frames - before)
        self._frames += frames
        if self._frames // plan.clip_frames > before // plan.clip_frames:
            self.breaks = 0
        if self._frames == plan.take_frames:
            self._takes, self._frames = self._takes + 1, 0
            over = self._takes == plan.takes
            self._phase, self._until = ("done", math.inf) if over else ("pause", now + plan.pause_s)
        return frames
