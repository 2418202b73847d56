"""Python code in a process of its own: what it imports, and what it prints, is not this process's."""

from __future__ import annotations

import subprocess
import sys


def printed_by(code: str, *arguments: object) -> str:
    """Run code with `sys.argv[1:]` as given; return what it prints, and fail with its messages if it fails."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
