from __future__ import annotations

import platform
import subprocess
import sys

import pytest

GROWTH = """
import psutil, sys
from stream_i3d.publish.heap import give_back_freed_memory
if sys.argv[1] == "given back":
    give_back_freed_memory()
process = psutil.Process()
before = process.memory_info().rss
pieces = [bytes([number % 256]) * 100_000 for number in range(300)]
last = pieces[-1]  # behind all others: what is before it in the heap cannot be given back from its end
del pieces
print((process.memory_info().rss - before) // 1_000_000)
"""


def growth_mb(how: str) -> int:
    """Return by how much a process has grown that had 30 MB and freed nearly all of it."""
    done = subprocess.run([sys.executable, "-c", GROWTH, how], capture_output=True, text=True, timeout=60, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_freed_memory_goes_back_to_the_system_whatever_lies_behind_it() -> None:
    assert growth_mb("as it is") >= 20
    assert growth_mb("given back") <= 3
