from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX has these limits")


def test_open_files_are_raised_to_the_hard_limit_for_the_process_and_those_it_starts() -> None:
    code = (
        "import resource, subprocess, sys\n"
        "from stream_i3d.service.process_limits import raise_open_files_limit\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 512))\n"
        "print(raise_open_files_limit(), flush=True)\n"
        "subprocess.run([sys.executable, '-c',"
        " 'import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))'], check=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split() == ["512", "512", "512"]


@pytest.mark.parametrize(
    ("umask", "file", "folder"),
    [(0o000, 0o640, 0o750), (0o020, 0o640, 0o750), (0o022, 0o644, 0o755), (0o002, 0o664, 0o775), (0o077, 0o600, 0o700)],
)
def test_files_are_closed_to_others_where_everybody_could_write_to_them(
    umask: int, file: int, folder: int, tmp_path: Path
) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from stream_i3d.service.process_limits import tighten_umask\n"
        "os.umask(int(sys.argv[1])); tighten_umask()\n"
        "Path('file').touch(); Path('folder').mkdir()\n"
        "print(Path('file').stat().st_mode & 0o777, Path('folder').stat().st_mode & 0o777)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(umask)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert [int(mode) for mode in done.stdout.split()] == [file, folder]


def test_every_command_makes_its_files_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stream_i3d", "keys", "new", "door", "--folder", str(tmp_path / "keys")],
        umask=0,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    modes = {path.name: path.stat().st_mode & 0o777 for path in [tmp_path / "keys", *(tmp_path / "keys").iterdir()]}
    assert all(mode & 0o027 == 0 for mode in modes.values()), modes
