"""Where the pictures of several cameras stand: their order, which one is enlarged, how many columns. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

_MAX_GONE = 64


def best_columns(cameras: int, width: float, height: float, aspect: float = 16 / 9, below: float = 0.0) -> int:
    """Return the number of columns that makes the pictures largest.

    Args:
        cameras: How many, 1 at least.
        width: Of the room, in any unit.
        height: Of the room, in the same.
        aspect: Width to height of a picture.
        below: Height under each picture that is not picture (its strip).
    """

    def size(columns: int) -> float:
        rows = math.ceil(cameras / columns)
        return min(width / columns, (height / rows - below) * aspect)

    return max(range(1, max(1, cameras) + 1), key=lambda columns: (round(size(columns), 3), columns))


def _bounded(order: list[str], here: list[str]) -> list[str]:
    """Return the order without the first of the cameras that are gone, where those are more than are remembered."""
    gone = [name for name in order if name not in here]
    forgotten = set(gone[: max(0, len(gone) - _MAX_GONE)])
    return [name for name in order if name not in forgotten]


class Layout:
    """The cameras in the order the user has given them, and the one that fills the window, if any."""

    def __init__(self, order: Iterable[str] = (), enlarged: str | None = None) -> None:
        self._order = list(dict.fromkeys(order))
        self._present: list[str] = []
        self._wished = enlarged

    @property
    def cameras(self) -> list[str]:
        """The cameras that are there, in order."""
        return list(self._present)

    @property
    def enlarged(self) -> str | None:
        """The camera that fills the window, or None."""
        return self._wished if self._wished in self._present else None

    @property
    def visible(self) -> list[str]:
        """The cameras whose pictures are seen."""
        return self.cameras if self.enlarged is None else [self.enlarged]

    def settle(self, cameras: Iterable[str]) -> bool:
        """Say which cameras there are; known ones keep their place, new ones come last. Returns whether it changed."""
        here = list(dict.fromkeys(cameras))
        self._order += [name for name in here if name not in self._order]
        self._order = _bounded(self._order, here)
        present = [name for name in self._order if name in here]
        changed = present != self._present
        self._present = present
        return changed

    def enlarge(self, camera: str | None) -> None:
        """Let one camera fill the window; None goes back to the grid."""
        self._wished = camera

    def step(self, by: int) -> None:
        """Enlarge the next (1) or previous (-1) camera, round and round."""
        if not self._present:
            return
        at = self._present.index(self.enlarged) if self.enlarged else (-1 if by > 0 else 0)
        self._wished = self._present[(at + by) % len(self._present)]

    def move(self, camera: str, by: int) -> None:
        """Move a camera forwards (-1) or backwards (1) in the grid."""
        at = self._present.index(camera)
        to = at + by
        if not 0 <= to < len(self._present):
            return
        other = self._present[to]
        first, second = self._order.index(camera), self._order.index(other)
        self._order[first], self._order[second] = other, camera
        self._present[at], self._present[to] = other, camera

    def rename(self, old: str, new: str) -> None:
        """Give a camera its new name and leave it where it is."""
        self._order = [new if name == old else name for name in self._order if name != new]
        self._present = [new if name == old else name for name in self._present if name != new]
        self._wished = new if self._wished == old else self._wished

    def as_plain(self) -> dict[str, Any]:
        """Return what is remembered."""
        return {"order": list(self._order), "enlarged": self._wished or ""}

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Layout:
        """Return a remembered layout; what is not understood is left out."""
        order = data.get("order")
        enlarged = data.get("enlarged")
        return cls(
            [name for name in order if isinstance(name, str)] if isinstance(order, list) else [],
            enlarged if isinstance(enlarged, str) and enlarged else None,
        )
