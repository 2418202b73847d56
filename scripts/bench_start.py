"""Measures the time from starting a command to its first prediction, with the packaged model and the full I3D.

Every round starts each case once, in turn; medians are reported. Each start is a new process. The operating system
caches files, so a first start after boot reads some 100 MB (with torch 300) more from the disk.

    import-...      imports of supervisor and worker, each in a new Python process; import-torch is torch alone
    run-file-...    `stream-i3d run --source FILE`, up to the first recognised window; the file is played at its own
                    rate, so the 16 frames of that window take 0.6 s. "-first" without caches of earlier starts,
                    "-torch" with --backend torch; else the backend `auto` with caches of earlier starts
    run-4-files-... the same with four cameras, up to the first window of any
    recognize       `stream-i3d recognize FILE` of two seconds, up to the first line it writes

    median_ms       of the total; of this, engine_ms until the network is loaded, then warm_up_ms until ready,
                    then window_ms until the first prediction
    cpu_ms          processor time of all its processes until they end
    ratio           import-torch's median to this one's
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from _bench import report
from _full_checkpoint import full_checkpoint
from _scene_video import write_scene_video

BASE = "import-torch"
MARKS = {"engine": " engine: ", "ready": " publishing on "}
"""Log messages of the service at each point."""


@dataclass(frozen=True, slots=True)
class Case:
    """A command, and whether it may use caches of earlier starts."""

    arguments: tuple[str, ...]
    kept: bool = True


@dataclass(slots=True)
class Start:
    """Seconds from the start of the command to each point, and processor time."""

    reached: dict[str, float] = field(default_factory=dict)
    cpu: float = 0.0


def cases_of(folder: Path, full: str) -> dict[str, Case]:
    """Return the cases by name."""
    video, short = folder / "video.mp4", folder / "short.mp4"
    write_scene_video(video, 3, (640, 480), 30, 30)
    write_scene_video(short, 3, (640, 480), 30, 2)
    run = ("-m", "stream_i3d", "run", "--publish", f"ipc://{folder}/pub", "--jsonl", "-", "--source", str(video))
    imports = {
        BASE: "import torch",
        "import-service": "import stream_i3d.service.run",
        "import-worker": "import stream_i3d.inference.worker.process, openvino",
        "import-worker-torch": "import stream_i3d.inference.worker.process, stream_i3d.inference.torch_engine",
    }
    cases = {name: Case(("-c", f"{code}; print(flush=True)")) for name, code in imports.items()}
    for network, given in {"motion": (), "i3d": ("--checkpoint", full)}.items():
        cases[f"run-file-{network}-first"] = Case((*run, *given), kept=False)
        cases[f"run-file-{network}"] = Case((*run, *given))
        cases[f"run-file-{network}-torch"] = Case((*run, *given, "--backend", "torch"))
    cases["run-4-files-motion"] = Case((*run, *("--source", str(video)) * 3))
    return cases | {"recognize": Case(("-m", "stream_i3d", "recognize", str(short)))}


def start(case: Case, home: Path) -> Start:
    """Run a case until its first prediction, and end it."""
    found, before = Start(), resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *case.arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "STREAM_I3D_HOME": str(home)},
        text=True,
    )
    said: list[str] = []
    reader = threading.Thread(target=_read_log, args=(process, began, found, said))
    reader.start()
    assert process.stdout is not None
    for line in process.stdout:
        if _is_result(line):
            found.reached["end"] = time.monotonic() - began
            break
    process.terminate()
    process.stdout.read()
    process.wait()
    reader.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found.cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    if "end" not in found.reached:
        raise SystemExit(f"{' '.join(case.arguments)} ended without a prediction:\n{''.join(said)}")
    return found


def _read_log(process: subprocess.Popen[str], began: float, found: Start, said: list[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        said.append(line)
        for mark, text in MARKS.items():
            if text in line:
                found.reached.setdefault(mark, time.monotonic() - began)


def _is_result(line: str) -> bool:
    """Return whether a line is a recognised window or the end of an import."""
    message = json.loads(line) if line.strip() else None
    return message is None or (message["schema"].startswith("stream-i3d/prediction/") and message["state"] != "warming")


def row_of(name: str, starts: Sequence[Start], base: float) -> dict[str, Any]:
    """Return the row of a case."""

    def median_ms(first: str, last: str) -> float | None:
        spans = [one.reached[last] - one.reached.get(first, 0.0) for one in starts if last in one.reached]
        return round(1e3 * statistics.median(spans), 1) if spans else None

    whole = median_ms("", "end")
    assert whole is not None
    row: dict[str, Any] = {"case": name, "median_ms": whole, "ratio": round(1e3 * base / whole, 3)}
    if any("ready" in one.reached for one in starts):
        row |= {
            "engine_ms": median_ms("", "engine"),
            "warm_up_ms": median_ms("engine", "ready"),
            "window_ms": median_ms("ready", "end"),
        }
    return row | {"cpu_ms": round(1e3 * statistics.median(one.cpu for one in starts), 1)}


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Times that each case is started.")
@click.option("--case", "only", multiple=True, help="Leave out the others, but for import-torch; repeatable.")
def main(rounds: int, only: tuple[str, ...]) -> None:
    """Measure the time to the first prediction."""
    with tempfile.TemporaryDirectory(prefix="stream-i3d-bench-") as name:
        folder = Path(name)
        every = cases_of(folder, full_checkpoint(folder))
        if unknown := set(only) - set(every):
            raise click.UsageError(f"no case {', '.join(unknown)}; there are {', '.join(every)}")
        cases = {case: every[case] for case in every if not only or case in (BASE, *only)}
        starts: dict[str, list[Start]] = {case: [] for case in cases}
        for number in range(rounds + 1):
            for case_name, case in cases.items():
                home = folder / ("kept" if case.kept else f"first-{number}-{case_name}")
                one = start(case, home)
                if number:  # the first round fills caches
                    starts[case_name].append(one)
        base = statistics.median(one.reached["end"] for one in starts[BASE])
        report("start", [row_of(case, found, base) for case, found in starts.items()])


if __name__ == "__main__":
    main()
