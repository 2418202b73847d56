from __future__ import annotations

import errno
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from stream_i3d.errors import ConfigError
from stream_i3d.publish import store_claim
from stream_i3d.publish.store_claim import StoreClaim

HOLD = """
import sys, time
from pathlib import Path
from stream_i3d.publish.store_claim import StoreClaim
claim = StoreClaim(Path(sys.argv[1]))
print("mine", flush=True)
time.sleep(60)
"""


def test_the_claim_of_a_killed_process_is_free_again(tmp_path: Path) -> None:
    store = tmp_path / "events.db"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(store)], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "mine\n"
            with pytest.raises(ConfigError, match="another service writes to the event store"):
                StoreClaim(store)
        finally:
            other.kill()
    with closing(StoreClaim(store)), pytest.raises(ConfigError):
        StoreClaim(store)


def test_a_file_system_without_locks_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(store_claim, "_lock", refuse)
    with closing(StoreClaim(tmp_path / "events.db")) as claim:
        claim.close()
        assert (tmp_path / "events.db.lock").exists()
