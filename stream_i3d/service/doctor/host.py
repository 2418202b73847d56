"""What a service needs of its host, whatever it runs: enough open files, and a clock that is right."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from stream_i3d.service.doctor.finding import Finding, State

_ENOUGH_FILES = 1024
_FILES_PER_CAMERA = 16
_FILES_AT_LEAST = 128
_NEVER_BEFORE = 1_767_225_600.0  # 2026, when this was written
_ASK_S = 3.0
_SYNCHRONIZED = Path("/run/systemd/timesync/synchronized")


def needed_files(cameras: int) -> int:
    """Return how many open files a process of so many cameras' service may want, with room for clients."""
    return _FILES_AT_LEAST + _FILES_PER_CAMERA * cameras


def open_files(cameras: int = 0) -> Finding:
    """Look at the limit of open files (`ulimit -n`) of this process and those it would start."""
    try:
        import resource
    except ImportError:
        return Finding(what="open files", state="ok", found="not limited by this system")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinite = soft == resource.RLIM_INFINITY
    found = "no limit" if infinite else f"{soft} a process"
    if infinite or soft >= max(_ENOUGH_FILES, needed_files(cameras)):
        return Finding(what="open files", state="ok", found=found)
    remedy = f"ulimit -n {max(65536, needed_files(cameras))} before starting, or LimitNOFILE=65536 in the unit"
    state: State = "fail" if not infinite and soft < needed_files(cameras) else "warn"
    return Finding(what="open files", state=state, found=f"{found} (at most {hard})", remedy=remedy)


def clock(now: float | None = None) -> Finding:
    """Look whether the clock is right: times of events, and certificates, depend on it."""
    now = time.time() if now is None else now
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < _NEVER_BEFORE:
        return Finding(
            what="clock", state="fail", found=f"{shown}, which is past", remedy="set it: timedatectl set-ntp on"
        )
    known = _synchronized()
    if known is False:
        remedy = "timedatectl set-ntp on; until then times of events may be off"
        return Finding(what="clock", state="warn", found=f"{shown}, not synchronised", remedy=remedy)
    state = "synchronised" if known else "whether it is synchronised cannot be told here"
    return Finding(what="clock", state="ok", found=f"{shown}, {state}")


def _synchronized() -> bool | None:
    """Ask systemd; None where it does not run."""
    if _SYNCHRONIZED.exists():
        return True
    command = shutil.which("timedatectl")
    if command is None:
        return None
    try:
        asked = [command, "show", "--property=NTPSynchronized", "--value"]
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=_ASK_S, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(answer)
