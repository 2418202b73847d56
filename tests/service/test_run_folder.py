from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from stream_i3d.errors import ServiceError
from stream_i3d.service.run_folder import WINDOW_PREFIX, RunFolder, clear_left_folders

pytestmark = pytest.mark.skipif(os.name != "posix", reason="folders are cleared on POSIX systems only")

LONG_AGO = 1_000_000_000.0


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left(place: Path, name: str = "stream-i3d-run-old", lock: str = "owner.lock") -> Path:
    """Make a folder as a killed process of long ago left it."""
    folder = place / name
    folder.mkdir(mode=0o700)
    for file in ("settings.yaml", lock):
        (folder / file).touch()
    os.utime(folder, (LONG_AGO, LONG_AGO))
    return folder


def test_a_folder_goes_with_its_block_and_is_private(place: Path) -> None:
    with RunFolder() as folder:
        assert folder.path.parent == place and stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        (folder.path / "socket").touch()
    assert list(place.iterdir()) == []


def test_a_place_without_room_is_one_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(prefix: str) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", no_room)
    with pytest.raises(ServiceError, match=r"^cannot make a temporary folder: No space left on device; make room"):
        RunFolder()


def test_what_a_killed_process_left_is_removed_at_the_next_start_and_what_lives_stays(place: Path) -> None:
    code = (
        "import os, signal, tempfile, sys; tempfile.tempdir = sys.argv[1]\n"
        "from stream_i3d.service.run_folder import RunFolder\n"
        "folder = RunFolder(); (folder.path / 'settings.yaml').write_text('a password')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    with RunFolder(WINDOW_PREFIX) as living:
        subprocess.run([sys.executable, "-c", code, str(place)], check=False)
        assert len(list(place.iterdir())) == 2
        with RunFolder() as mine:
            assert set(place.iterdir()) == {living.path, mine.path}


@pytest.mark.parametrize("name", ["stream-i3d-data", "stream-i3d-bench-a1b2", "stream-i3d-run-mine"])
def test_a_folder_without_the_lock_of_a_run_is_somebody_elses(place: Path, name: str) -> None:
    mine = left(place, name, lock="notes.txt")
    assert clear_left_folders(place) == []
    assert (mine / "notes.txt").exists()


def test_a_folder_with_another_name_stays_whatever_is_in_it(place: Path) -> None:
    mine = left(place, "stream-i3d-data")
    assert clear_left_folders(place) == []
    assert (mine / "owner.lock").exists()


def test_nothing_is_removed_through_a_link_nor_what_others_may_have_put_there(place: Path) -> None:
    precious = place / "precious"
    precious.mkdir(mode=0o700)
    (precious / "file").touch()
    os.utime(precious, (LONG_AGO, LONG_AGO))
    (place / "stream-i3d-run-link").symlink_to(precious)
    open_to_all = left(place, "stream-i3d-run-open")
    open_to_all.chmod(0o777)
    (place / "stream-i3d-run-file").touch()
    assert clear_left_folders(place) == []
    assert (precious / "file").exists() and open_to_all.exists()


def test_a_link_in_a_folder_of_ours_is_removed_and_what_it_leads_to_stays(place: Path) -> None:
    (place / "precious").touch()
    gone = left(place)
    (gone / "link").symlink_to(place / "precious")
    os.utime(gone, (LONG_AGO, LONG_AGO))
    assert clear_left_folders(place) == [gone]
    assert (place / "precious").exists()
