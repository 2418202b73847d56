"""Fuzzes all readers of untrusted input, guided by coverage (atheris, libFuzzer).

`make fuzz` runs each target for some minutes in its own process, from a corpus of valid inputs; then it prints a table
and one JSON line. Findings are errors outside this package's error classes, and inputs that take more than 30 s or 2
GiB. With findings the exit code is 1, and the input is in the named folder.

    python scripts/fuzz.py --seconds 180 wire config checkpoint
    python scripts/fuzz.py --replay build/fuzz/wire/crash-0123 wire         # needs no atheris
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import importlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from _fuzz_targets import FOLDER, TARGETS, make_folder

_INSTRUMENTED = ["stream_i3d", "yaml", "zmq", "torch"]
_ONE_INPUT_S = 30
_MEMORY_MB = 2048
_MAX_INPUT_BYTES = 65_536
_SLACK_S = 120
_FOUND = ("crash-", "oom-", "leak-")
_CURRENT = "current-input"


def main() -> int:
    """Run, or run again what was found; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=list(TARGETS), help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--seconds", type=int, default=180, help="for each target (default: 180)")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="for corpora and findings")
    parser.add_argument("--replay", type=Path, help="an input to run once, in this process")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for name in arguments.targets:
        if name not in TARGETS:
            parser.error(f"no target {name!r}; there are {', '.join(TARGETS)}")
    if arguments.replay is not None:
        TARGETS[arguments.targets[0]].run(arguments.replay.read_bytes())
        return 0
    if arguments.child:
        _fuzz(arguments.targets[0], arguments.seconds, arguments.folder)
    results = [_campaign(name, arguments.seconds, arguments.folder) for name in arguments.targets]
    print(f"{'target':<12}{'executions':>12}{'per s':>8}{'corpus':>8}{'findings':>10}")
    for result in results:
        print(
            f"{result['target']:<12}{result['executions']:>12}{result['per_second']:>8}{result['corpus']:>8}"
            f"{len(result['findings']):>10}"
        )
    print(json.dumps({"fuzz": results}))
    return 1 if any(result["findings"] or not result["executions"] for result in results) else 0


def _campaign(name: str, seconds: int, folder: Path) -> dict[str, Any]:
    """Fuzz one target in a process of its own."""
    corpus = folder / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in TARGETS[name].corpus():
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)  # libFuzzer's names
    command = [sys.executable, __file__, "--child", "--seconds", str(seconds), "--folder", str(folder), name]
    before, began = _findings(folder / name), time.monotonic()
    print(f"{name}: {seconds} s ...", flush=True)
    log = folder / name / "log"
    files = make_folder()
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, FOLDER: files})
        try:
            process.wait(seconds + _SLACK_S)
        except subprocess.TimeoutExpired:
            out.write(b"did not end\n")
        finally:
            process.kill()
            process.wait()
            shutil.rmtree(files, ignore_errors=True)
    said = log.read_text(errors="replace")
    executions = max(map(int, re.findall(r"^#(\d+)\s", said, re.MULTILINE)), default=0)
    executions = max(map(int, re.findall(r"number_of_executed_units: (\d+)", said)), default=executions)
    findings = sorted(_findings(folder / name) - before)
    if process.returncode and not findings:  # it hung, or ended within a call of C
        findings = [f"{_keep_current(folder / name)} (exit code {process.returncode}, see {log})"]
    for finding in findings:
        print(f"  finding: {finding}", flush=True)
    return {
        "target": name,
        "seconds": round(time.monotonic() - began),
        "executions": executions,
        "per_second": round(executions / max(1, time.monotonic() - began)),
        "corpus": len(list(corpus.iterdir())),
        "findings": findings,
    }


def _keep_current(folder: Path) -> Path | None:
    """Keep the input that was running last as a finding; None where none was."""
    current = folder / _CURRENT
    if not current.exists():
        return None
    return current.rename(folder / f"ended-{hashlib.sha1(current.read_bytes()).hexdigest()}")


def _findings(folder: Path) -> set[str]:
    return {str(path) for path in folder.iterdir() if path.name.startswith(_FOUND)}


def _fuzz(name: str, seconds: int, folder: Path) -> None:
    """Be the process that fuzzes; ends it."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: pip install 'stream-i3d[fuzz]' (it has wheels for some Pythons only)")
    logging.disable()  # every garbled message would be told
    if name == "checkpoint":
        import torch  # whole, it would take minutes to instrument; the unpickler is the part that reads

        sys.modules.pop("torch._weights_only_unpickler")
    with atheris.instrument_imports(include=_INSTRUMENTED):
        if name == "checkpoint":
            vars(torch.serialization)["_weights_only_unpickler"] = importlib.import_module(
                "torch._weights_only_unpickler"
            )
        _warm(name)
    options = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={folder / name}/",
        f"-rss_limit_mb={_MEMORY_MB}",
        f"-max_len={_MAX_INPUT_BYTES}",
        "-print_final_stats=1",
        "-len_control=20",
    ]
    current = (folder / name / _CURRENT).open("w+b", buffering=0)

    def run(data: bytes) -> None:
        # libFuzzer's own limit of time does not end what hangs within a call of C: this does, and what it was is kept.
        faulthandler.dump_traceback_later(_ONE_INPUT_S, exit=True)
        current.seek(0)
        current.truncate()
        current.write(data)
        TARGETS[name].run(data)

    atheris.Setup([sys.argv[0], *options, str(folder / name / "corpus")], run)
    atheris.Fuzz()


def _warm(name: str) -> None:
    """Import, instrumented, what the target uses, so that no input pays for it."""
    for seed in TARGETS[name].corpus():
        TARGETS[name].run(seed)


if __name__ == "__main__":
    sys.exit(main())
