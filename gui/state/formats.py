"""Numbers and times as people read them, with units. Pure."""

from __future__ import annotations

import time

from .translation import translate

NOTHING = "\N{EN DASH}"
"""Stands where there is no value."""

_WALL_CLOCK_FROM = 1e8
"""Stream times above this are seconds since 1970 (from 1973 on); below, seconds into a file."""


def percent(probability: float) -> str:
    """Return a probability as a whole percentage, such as "87 %"."""
    return translate("Formats", "{number} %").format(number=f"{100 * probability:.0f}")


def milliseconds(value: float | None) -> str:
    """Return "86 ms", "2.4 s" from a second on, or a dash where there is none."""
    if value is None:
        return NOTHING
    if value >= 1000:
        return _seconds(f"{value / 1000:.1f}")
    return translate("Formats", "{number} ms").format(number=f"{value:.0f}" if value >= 10 else f"{value:.1f}")


def rate(per_second: float | None) -> str:
    """Return frames per second, such as "29.9 fps", or a dash."""
    if per_second is None:
        return NOTHING
    return translate("Formats", "{number} fps").format(number=f"{per_second:.1f}")


def age(seconds: float | None) -> str:
    """Return how old something is: "0.4 s", "12 s", "3 min", "2 h", or a dash."""
    if seconds is None:
        return NOTHING
    if seconds < 9.95:
        return _seconds(f"{max(0.0, seconds):.1f}")
    if seconds < 99.5:
        return _seconds(f"{seconds:.0f}")
    if seconds < 5970:
        return translate("Formats", "{number} min").format(number=f"{seconds / 60:.0f}")
    return translate("Formats", "{number} h").format(number=f"{seconds / 3600:.0f}")


def count(number: int) -> str:
    """Return a whole number with thin spaces between thousands, such as "12 345"."""
    return f"{number:,}".replace(",", "\u202f")


def stream_time(seconds: float, utc: bool = False) -> str:
    """Return a time of the stream: the clock's "14:03:09" for cameras, "1:02.5" into the medium for files."""
    if seconds >= _WALL_CLOCK_FROM:
        return time.strftime("%H:%M:%S", time.gmtime(seconds) if utc else time.localtime(seconds))
    minutes, rest = divmod(max(0.0, seconds), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def duration(seconds: float) -> str:
    """Return a length of time: "1.2 s", "2 min 5 s", "1 h 3 min"."""
    if seconds < 59.95:
        return _seconds(f"{max(0.0, seconds):.1f}")
    whole = round(seconds)
    if whole < 3600:
        return translate("Formats", "{minutes} min {seconds} s").format(minutes=whole // 60, seconds=whole % 60)
    return translate("Formats", "{hours} h {minutes} min").format(hours=whole // 3600, minutes=whole % 3600 // 60)


def _seconds(number: str) -> str:
    return translate("Formats", "{number} s").format(number=number)


def sentence(words: str) -> str:
    """Return words with a capital at their beginning, but for an address there."""
    return words if "://" in words.split(" ", 1)[0] else words[:1].upper() + words[1:]
