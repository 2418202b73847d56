"""What is written, by whom it can be read, and that nothing is written through somebody's link. The umask is open."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_i3d.config import Config
from stream_i3d.files import PRIVATE, kind_of, replace_file
from stream_i3d.service import launch as launching
from stream_i3d.transport.frames import FrameReceivers
from stream_i3d.transport.keys import write_new_keys
from stream_i3d.transport.sockets import Publisher

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes are for POSIX")


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def test_a_file_is_replaced_whole_and_has_its_mode_from_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old")
    seen = []
    synced = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (seen.append(mode(temporary(path))), synced(file))[1])
    replace_file(path, b"new", PRIVATE)
    assert (path.read_bytes(), mode(path), seen) == (b"new", 0o600, [0o600])
    replace_file(path, b"newer")
    assert mode(path) == 0o666
    assert list(tmp_path.iterdir()) == [path]


def test_where_writing_fails_the_old_file_stays_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "state"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"new")
    assert [(one, one.read_bytes()) for one in tmp_path.iterdir()] == [(path, b"old")]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "shared" / "state"
    victim.write_bytes(b"precious")
    path.parent.mkdir()
    temporary(path).symlink_to(victim)
    path.symlink_to(victim)
    replace_file(path, b"new")
    assert victim.read_bytes() == b"precious"
    assert (path.read_bytes(), path.is_symlink()) == (b"new", False)


def test_secret_keys_are_their_owners_alone(tmp_path: Path) -> None:
    secret, public = write_new_keys(tmp_path / "keys", "me")
    assert (mode(secret), mode(public), mode(secret.parent)) == (0o600, 0o644, 0o700)


def test_sockets_are_their_owners_alone(tmp_path: Path) -> None:
    with Publisher(f"ipc://{tmp_path}/publish"), FrameReceivers([f"ipc://{tmp_path}/frames"]):
        assert {path.name: mode(path) for path in tmp_path.iterdir()} == {"publish": 0o600, "frames": 0o600}


def test_the_settings_of_a_service_that_the_window_starts_are_private(monkeypatch: pytest.MonkeyPatch) -> None:
    class Process:
        returncode = 0
        stdin = open(os.devnull, "wb")  # noqa: SIM115, PTH123

        def __init__(self, command: list[str], **_: object) -> None:
            self.settings = Path(command[command.index("--config") + 1])
            found.update({path.name: mode(path) for path in (self.settings, self.settings.parent)})

        def poll(self) -> int:
            return 0

        wait = poll

    found: dict[str, int] = {}
    monkeypatch.setattr(launching.subprocess, "Popen", Process)
    launching.launch(Config()).close()
    assert sorted(found.values()) == [0o600, 0o700]


def test_whatever_is_asked_for_is_a_kind_of_file_or_nothing_and_never_an_error(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    asked = [tmp_path / "clip.mp4", tmp_path, tmp_path / "pipe", tmp_path / "none", "x" * 5000, "a\0b"]
    assert [kind_of(path) for path in asked] == ["file", "folder", "other", None, None, None]
