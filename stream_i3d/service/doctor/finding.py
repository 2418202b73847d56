"""What `stream-i3d doctor` says of one thing it looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

State = Literal["ok", "absent", "warn", "fail"]
"""`absent`: not here, and not needed; `warn`: it runs, but may not stay so; `fail`: it cannot run."""


class Finding(Struct, frozen=True, kw_only=True):
    """One thing looked at. `remedy` says what to do where it is not ok; never holds a secret."""

    what: str
    state: State
    found: str
    remedy: str = ""


def failed(findings: Sequence[Finding]) -> bool:
    """Tell whether something needed is not there."""
    return any(finding.state == "fail" for finding in findings)
