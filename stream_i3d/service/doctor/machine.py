"""Looks at a machine: what is here, what is missing, and what to do about each: `stream-i3d doctor` without a file."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable

from stream_i3d import __version__
from stream_i3d.errors import CheckpointError, StreamI3DError
from stream_i3d.inference.backends import BACKENDS, Backend
from stream_i3d.models.spec import CARRIED_CHECKPOINT, read_spec
from stream_i3d.service.doctor import host
from stream_i3d.service.doctor.engine import check_findings
from stream_i3d.service.doctor.finding import Finding

_PACKAGES = (
    "torch", "opencv-python", "numpy", "pyzmq", "msgspec", "safetensors", "pyyaml", "click", "rich", "filelock",
    "platformdirs", "psutil", "prometheus-client",
)  # fmt: skip


def examine_machine() -> list[Finding]:
    """Look at everything; takes a few seconds, since it imports torch and OpenCV."""
    checks: list[Callable[[], list[Finding]]] = [
        _python, _packages, _processor, _gpu, _backends, _codecs, _cameras, _carried_model, _engine, _window, _host,
        _system_parts,
    ]  # fmt: skip
    return [finding for check in checks for finding in check()]


def _python() -> list[Finding]:
    found = f"stream-i3d {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return [Finding(what="version", state="ok", found=found)]


def _packages() -> list[Finding]:
    findings = []
    for name in _PACKAGES:
        try:
            findings.append(Finding(what=name, state="ok", found=importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            remedy = f"pip install {name}"
            findings.append(Finding(what=name, state="fail", found="not installed", remedy=remedy))
    return findings


def _processor() -> list[Finding]:
    import torch

    from stream_i3d.inference.torch_engine import cpu_has_bf16

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    bf16 = "bf16 in hardware" if cpu_has_bf16() else "no bf16 in hardware, runs fp32"
    return [
        Finding(what="CPU", state="ok", found=f"{cores} cores, {bf16}, torch uses {torch.get_num_threads()} threads")
    ]


def _gpu() -> list[Finding]:
    import torch

    from stream_i3d.inference.torch_engine import choose_device

    if choose_device("auto").type == "cuda":
        return [Finding(what="GPU", state="ok", found=torch.cuda.get_device_name(0))]
    built = (
        "torch is built without CUDA"
        if torch.version.cuda is None
        else f"torch has CUDA {torch.version.cuda}, no device"
    )
    remedy = "not needed; for one, install its driver and a CUDA build of torch (pytorch.org)"
    return [Finding(what="GPU", state="absent", found=built, remedy=remedy)]


def _backends() -> list[Finding]:
    return [_backend(backend) for backend in BACKENDS.values()]


def _backend(backend: Backend) -> Finding:
    what = f"backend {backend.name}"
    if not backend.installed:
        remedy = f"not needed; {backend.command}"
        return Finding(what=what, state="absent", found=f"not installed ({backend.what})", remedy=remedy)
    return Finding(what=what, state="ok", found=f"{_version(backend.packages[0])}{backend.what}")


def _version(package: str) -> str:
    """Return a package's version and a comma; nothing where it is installed by another name."""
    try:
        return f"{importlib.metadata.version(package)}, "
    except importlib.metadata.PackageNotFoundError:
        return ""


def _codecs() -> list[Finding]:
    from stream_i3d.capture.video import has_ffmpeg

    if has_ffmpeg():
        return [Finding(what="FFmpeg in OpenCV", state="ok", found="files, RTSP, RTMP, HTTP")]
    remedy = "pip install --force-reinstall opencv-python (another build of cv2 is in its place)"
    return [Finding(what="FFmpeg in OpenCV", state="fail", found="not built in", remedy=remedy)]


def _cameras() -> list[Finding]:
    from stream_i3d.capture.video import list_webcams

    if not sys.platform.startswith("linux"):
        return [Finding(what="webcams", state="ok", found="not listed on this system; try --source 0")]
    webcams = list_webcams()
    if not webcams:
        remedy = "plug one in, or use --source with an RTSP URL, a file or synthetic://"
        return [Finding(what="webcams", state="absent", found="none in /dev", remedy=remedy)]
    closed = [path for path in webcams if not os.access(path, os.R_OK | os.W_OK)]
    if closed:
        remedy = "sudo usermod -aG video $USER, then log in again"
        return [Finding(what="webcams", state="fail", found=f"no access to {', '.join(closed)}", remedy=remedy)]
    return [Finding(what="webcams", state="ok", found=", ".join(webcams))]


def _carried_model() -> list[Finding]:
    try:
        spec = read_spec(CARRIED_CHECKPOINT)
    except CheckpointError as error:
        remedy = "reinstall stream-i3d"
        return [Finding(what="carried model", state="fail", found=str(error), remedy=remedy)]
    labels = ", ".join(spec.labels or ()) if spec is not None else "unknown"
    return [Finding(what="carried model", state="ok", found=f"{CARRIED_CHECKPOINT}: {labels}")]


def _engine() -> list[Finding]:
    """Load the carried model as `run` does, which compares the engine with float32."""
    from stream_i3d.config import ModelConfig, WindowConfig
    from stream_i3d.inference.backends import load_model
    from stream_i3d.inference.setup import settle_model

    try:
        return list(check_findings(load_model(settle_model(ModelConfig(), WindowConfig()))))
    except StreamI3DError as error:
        remedy = "give another --backend, or report it"
        return [Finding(what="engine self-check", state="fail", found=str(error), remedy=remedy)]


def _window() -> list[Finding]:
    try:
        found = importlib.metadata.version("pyqt6")
    except importlib.metadata.PackageNotFoundError:
        remedy = "not needed without a screen; pip install 'stream-i3d[gui]'"
        return [Finding(what="PyQt6", state="absent", found="not installed (the window)", remedy=remedy)]
    return [Finding(what="PyQt6", state="ok", found=found)]


def _host() -> list[Finding]:
    return [host.open_files(), host.clock()]


def _system_parts() -> list[Finding]:
    findings = []
    parts = {
        "ffmpeg": "tests make videos with it",
        "Xvfb": "tests of the window",
        "node": "test of the Node.js subscriber",
    }
    for program, use in parts.items():
        where = shutil.which(program)
        if where:
            findings.append(Finding(what=program, state="ok", found=where))
        else:
            remedy = f"not needed to run ({use}); scripts/system-deps installs it"
            findings.append(Finding(what=program, state="absent", found="not installed", remedy=remedy))
    return findings
