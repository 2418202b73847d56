"""The search for the cameras' passwords in everything that the suite's services wrote and published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from _faults.rig import Rig
from _faults.table import Fault, Outcome
from _faults.watch import Unmet

_PIECE = 1 << 20


def search(rig: Rig) -> Outcome:
    """Search logs, messages, stored files and command lines for the passwords; there must be none."""
    rig.scrape()
    words = (rig.password, rig.wrong_password, rig.mqtt_password)
    needles = [spelled.encode() for one in words for spelled in (one, quote(one, safe=""))]
    files = [file for folder in (rig.public, rig.disk) if folder is not None for file in _files(folder)]
    if not any(file.stat().st_size and rig.main.log.samefile(file) for file in files):
        raise Unmet("there is nothing to search")
    found = [str(file.name) for file in files if contains(file, needles)]
    for process in rig.main.family():
        if any(needle in " ".join(process.cmdline()).encode() for needle in needles):
            found.append(f"the command line of {process.name()}")
    if found:
        raise Unmet(f"a camera's password is in: {', '.join(found)}")
    return Outcome(None, f"{len(files)} files, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB")


def contains(file: Path, needles: Sequence[bytes]) -> bool:
    """Tell whether a file has one of some words in it, also across the pieces in which it is read."""
    longest = max(len(needle) for needle in needles)
    with file.open("rb") as content:
        tail = b""
        while piece := content.read(_PIECE):
            if any(needle in tail + piece for needle in needles):
                return True
            tail = (tail + piece)[-longest:]
    return False


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


FAULTS = [
    Fault(
        "passwords",
        "search of all logs, messages and stored files for the cameras' passwords",
        "none",
        None,
        search,
    )
]
