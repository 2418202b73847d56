"""What is kept of converted networks; converting itself is played by a function here."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from stream_i3d.config import ModelConfig, WindowConfig
from stream_i3d.errors import CheckpointError
from stream_i3d.inference.graphs import cache as graph_cache
from stream_i3d.inference.graphs.cache import KEPT, compiled_folder, graphs_folder, kept_graph
from stream_i3d.inference.graphs.file import IR, ONNX
from stream_i3d.inference.setup import ModelSetup, settle_model
from stream_i3d.models.checkpoint import update_spec
from tests.conftest import TINY

pytest.importorskip("openvino", reason="the extra openvino is not installed")
pytest.importorskip("onnxscript", reason="the extra onnxruntime is not installed")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STREAM_I3D_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were converted, in order."""
    files: list[str] = []

    def convert(setup: ModelSetup, path: Path, mode: str) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"clips of {setup.preprocessing.clip_len}")
        files.append(path.name)

    monkeypatch.setattr(graph_cache, "_convert", convert)
    return files


def setup_of(path: Path, **window: int) -> ModelSetup:
    return settle_model(ModelConfig(checkpoint=str(path)), WindowConfig(**window))


def use(setup: ModelSetup, suffix: str = IR) -> str:
    with kept_graph(setup, suffix) as path:
        return path.read_text()


def test_a_network_is_converted_once(tiny_checkpoint: Path, made: list[str]) -> None:
    for _ in range(3):
        assert use(setup_of(tiny_checkpoint)) == "clips of 16"
    assert made == ["model.xml"]


@pytest.mark.parametrize(
    "change",
    [
        lambda path: setup_of(path, clip_len=24),
        lambda path: (update_spec(path, structs.replace(TINY, temperature=2.0)), setup_of(path))[1],
        lambda path: structs.replace(setup_of(path), preprocessing=structs.replace(TINY.preprocessing, mean=(1, 2, 3))),
    ],
    ids=["clips of another length", "another file of that name", "another normalisation"],
)
def test_all_that_the_graph_depends_on_counts(
    tiny_checkpoint: Path, tmp_path: Path, made: list[str], change: Callable[[Path], ModelSetup]
) -> None:
    path = tmp_path / "own.safetensors"
    path.write_bytes(tiny_checkpoint.read_bytes())
    use(setup_of(path))
    use(change(path))
    use(setup_of(path), ONNX)
    with kept_graph(setup_of(path), IR, "streaming"):
        assert made == ["model.xml", "model.xml", "model.onnx", "model.xml"]


def test_another_version_of_a_library_converts_anew(
    tiny_checkpoint: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(setup_of(tiny_checkpoint))
    monkeypatch.setattr(graph_cache.importlib.metadata, "version", lambda name: "99")
    use(setup_of(tiny_checkpoint))
    assert len(made) == 2


def test_a_conversion_that_fails_leaves_nothing(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, made: list[str]
) -> None:
    def fail(setup: ModelSetup, path: Path, mode: str) -> None:
        path.parent.mkdir()
        path.write_text("half of it")
        raise CheckpointError("no such network")

    with monkeypatch.context() as patch:
        patch.setattr(graph_cache, "_convert", fail)
        with pytest.raises(CheckpointError, match="no such network"):
            use(setup_of(tiny_checkpoint))
    assert not any(path.is_dir() for path in graphs_folder().iterdir())
    assert use(setup_of(tiny_checkpoint)) == "clips of 16"


def test_the_least_recently_used_are_removed(tiny_checkpoint: Path, made: list[str]) -> None:
    known: set[Path] = set()
    for second, length in enumerate(range(16, 16 + KEPT)):
        use(setup_of(tiny_checkpoint, clip_len=length))
        (made_now,) = {path for path in graphs_folder().iterdir() if path.is_dir()} - known
        known.add(made_now)
        os.utime(made_now, (1e9 + second, 1e9 + second))
    assert len(known) == KEPT
    use(setup_of(tiny_checkpoint))  # the oldest, and in use again
    use(setup_of(tiny_checkpoint, clip_len=16 + KEPT))  # one too many
    del made[:]
    use(setup_of(tiny_checkpoint))
    assert made == []
    use(setup_of(tiny_checkpoint, clip_len=17))  # which was the oldest then
    assert made == ["model.xml"]
    assert sum(path.is_dir() for path in graphs_folder().iterdir()) == KEPT


def test_without_a_cache_it_is_converted_for_the_moment(
    tiny_checkpoint: Path, made: list[str], home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING), kept_graph(setup_of(tiny_checkpoint), IR) as path:
        assert path.read_text() == "clips of 16"
    assert not path.exists()
    assert "cannot keep the converted network" in caplog.text
    assert compiled_folder(tiny_checkpoint) is None


def test_what_is_compiled_lies_with_a_converted_network_or_in_a_place_of_its_own(
    tiny_checkpoint: Path, made: list[str], tmp_path: Path
) -> None:
    with kept_graph(setup_of(tiny_checkpoint), IR) as path:
        assert compiled_folder(path) == path.parent / "compiled"
    own = tmp_path / "exported.xml"
    own.write_text("an export")
    folder = compiled_folder(own)
    assert folder is not None
    assert folder.is_dir()
    assert folder.parent.parent == graphs_folder()
    own.write_text("another export of that name")
    assert compiled_folder(own) != folder
