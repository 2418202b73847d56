from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stream_i3d.config import ModelConfig, WindowConfig
from stream_i3d.errors import CheckpointError, ConfigError
from stream_i3d.inference.setup import settle_model
from stream_i3d.models import zoo
from stream_i3d.models.labels import load_labels
from stream_i3d.models.registry import ARCHITECTURES
from stream_i3d.models.spec import known_spec, resolve_checkpoint
from stream_i3d.models.zoo import PUBLISHED, Integrity, check_integrity, downloaded_weights, find_published, identify

NAME = "i3d-rgb-kinetics400"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STREAM_I3D_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def put(name: str) -> Path:
    """Put a file into the cache like the downloader."""
    path = PUBLISHED[name].path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")
    return path


# The table


def test_the_published_names_and_integrity_values() -> None:
    assert {name: (row.file, row.integrity.value) for name, row in PUBLISHED.items()} == {
        "i3d-rgb-kinetics400": ("rgb_imagenet.pt", "73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a"),
        "i3d-rgb-scratch-kinetics400": (
            "i3d-rgb-scratch-kinetics400.safetensors",
            "90620438ea5fa50df95ef0bf92d849d4dd03a2a23d8b655d648a782716f296fb",
        ),
        "i3d-flow-kinetics400": ("flow_imagenet.pt", "ef0e7c282a102f76b14b52643574b80acba4e475"),
        "i3d-rgb-charades": ("rgb_charades.pt", "ae56da9f0d1cdefd9643d1ca6c1b5b944f9e7467"),
        "i3d-flow-charades": ("flow_charades.pt", "e609545f2ae2d992ca715b819ed6b53b8f5c8b95"),
        "i3d-r50-kinetics400": (
            "i3d_r50_256p_32x2x1_100e_kinetics400_rgb_20200801-7d9f44de.pth",
            "7d9f44de",
        ),
        "i3d-r50-dense-kinetics400": (
            "i3d_r50_dense_256p_32x2x1_100e_kinetics400_rgb_20200725-24eb54cc.pth",
            "24eb54cc",
        ),
        "i3d-r50-nl-dot-product-kinetics400": (
            "i3d_nl_dot_product_r50_32x2x1_100e_kinetics400_rgb_20200814-7c30d5bb.pth",
            "7c30d5bb",
        ),
        "i3d-r50-nl-embedded-gaussian-kinetics400": (
            "i3d_nl_embedded_gaussian_r50_32x2x1_100e_kinetics400_rgb_20200813-6e6aef1b.pth",
            "6e6aef1b",
        ),
        "i3d-r50-nl-gaussian-kinetics400": (
            "i3d_nl_gaussian_r50_32x2x1_100e_kinetics400_rgb_20200815-17f84aa2.pth",
            "17f84aa2",
        ),
    }


@pytest.mark.parametrize("row", PUBLISHED.values(), ids=lambda row: row.name)
def test_every_row_fits_the_registry_and_the_labels(row: zoo.PublishedWeights) -> None:
    assert row.architecture in ARCHITECTURES
    assert row.in_channels == (2 if "flow" in row.name else 3)
    if row.labels is not None:
        assert len(load_labels(row.labels)) == row.num_classes
    assert (row.result is None) == ("charades" in row.name)
    kinds = {"piergiaj": "git-sha1", "mmaction2": "sha256", "flax": "data-sha256"}
    assert row.integrity.kind == kinds[row.layout]
    assert (row.package is None) == bool(row.folder_url)
    assert {"source", "licence"} <= row.provenance.keys()


def test_the_published_accuracies() -> None:
    results = {name: row.result for name, row in PUBLISHED.items()}
    assert {name: (result.top1, result.top5) for name, result in results.items() if result is not None} == {
        "i3d-rgb-kinetics400": (71.1, 89.3),
        "i3d-rgb-scratch-kinetics400": (68.4, 88.0),
        "i3d-flow-kinetics400": (63.4, 84.9),
        "i3d-r50-kinetics400": (73.27, 90.92),
        "i3d-r50-dense-kinetics400": (73.48, 91.00),
        "i3d-r50-nl-dot-product-kinetics400": (73.92, 91.59),
        "i3d-r50-nl-embedded-gaussian-kinetics400": (74.71, 91.81),
        "i3d-r50-nl-gaussian-kinetics400": (73.37, 91.26),
    }


def test_where_mmaction2_publishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAM_I3D_WEIGHTS_URL", raising=False)
    folder = "https://download.openmmlab.com/mmaction/recognition/i3d"
    assert PUBLISHED["i3d-r50-nl-gaussian-kinetics400"].url == (
        f"{folder}/i3d_nl_gaussian_r50_32x2x1_100e_kinetics400_rgb"
        "/i3d_nl_gaussian_r50_32x2x1_100e_kinetics400_rgb_20200815-17f84aa2.pth"
    )


def test_the_table_needs_no_torch() -> None:
    code = (
        "import sys, stream_i3d.models.download; print(sorted({'torch', 'safetensors', 'rich'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# Integrity


def test_a_git_blobs_hash_is_that_of_git(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"hello\n")  # `git hash-object` and `sha256sum` say:
    assert Integrity("git-sha1", "0" * 40).measure(file) == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert Integrity("sha256", "0" * 8).measure(file) == "5891b5b5"


def test_integrity_is_checked_and_files_are_identified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.weights_server import publish

    file = tmp_path / "any name"
    file.write_bytes(b"hello\n")
    assert identify(file) is None
    with pytest.raises(CheckpointError, match=r"not the published i3d-rgb-kinetics400: its git-sha1 is ce01.*--force"):
        check_integrity(find_published(NAME), file)
    with pytest.raises(CheckpointError, match="cannot be read"):
        check_integrity(find_published(NAME), tmp_path / "nowhere")
    publish(monkeypatch, b"hello\n", NAME)
    publish(monkeypatch, b"other", "i3d-r50-kinetics400", kind="sha256")
    check_integrity(find_published(NAME), file)
    assert identify(file) == find_published(NAME)
    file.write_bytes(b"other")
    assert identify(file) == find_published("i3d-r50-kinetics400")


# The cache, and names as checkpoints


def test_the_cache_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert zoo.weights_folder() == home / "weights"
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("STREAM_I3D_HOME", "~/weights of mine")
    assert zoo.home_folder() == Path("/somewhere/weights of mine")
    monkeypatch.setenv("STREAM_I3D_HOME", "~nobody-of-this-name/x")
    with pytest.raises(ConfigError, match="give a folder"):
        zoo.home_folder()


@pytest.mark.parametrize("given", [None, ""])
def test_the_default_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("STREAM_I3D_HOME", raising=False)
    if given is not None:
        monkeypatch.setenv("STREAM_I3D_HOME", given)
    if sys.platform.startswith("linux"):
        assert zoo.home_folder() == tmp_path / "stream-i3d"
    assert zoo.home_folder().name == "stream-i3d"


def test_a_name_that_is_not_downloaded_is_an_error_with_the_command(home: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        resolve_checkpoint(NAME)
    assert f"run `stream-i3d weights download {NAME}`" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not home.exists()


def test_a_name_stands_for_its_file(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = put(NAME)
    assert resolve_checkpoint(NAME) == path
    monkeypatch.chdir(tmp_path)
    Path(NAME).write_bytes(b"a file of that name")
    assert resolve_checkpoint(NAME) == path
    assert resolve_checkpoint(f"./{NAME}") == Path(NAME)


def test_a_near_miss(home: Path) -> None:
    with pytest.raises(CheckpointError, match=r"did you mean 'i3d-rgb-kinetics400'.*weights list"):
        resolve_checkpoint("i3d-rgb-kinetics-400")


def test_downloaded_weights(home: Path) -> None:
    assert downloaded_weights("i3d") == []
    put(NAME)
    put("i3d-r50-dense-kinetics400")
    assert downloaded_weights("i3d") == [NAME]
    assert downloaded_weights("i3d-r50") == ["i3d-r50-dense-kinetics400"]
    assert downloaded_weights("i3d-flow") == downloaded_weights("no such architecture") == []


def test_what_is_published_settles_the_frames_before_the_weights_are_read(home: Path) -> None:
    put("i3d-r50-nl-gaussian-kinetics400")
    config = ModelConfig(name="i3d-r50-nl-gaussian", checkpoint="i3d-r50-nl-gaussian-kinetics400")
    setup = settle_model(config, WindowConfig())
    assert setup.spec == known_spec("i3d-r50-nl-gaussian-kinetics400")
    assert setup.spec is not None
    assert setup.spec.labels == load_labels("kinetics400")
    assert (setup.preprocessing.clip_len, setup.preprocessing.frame_interval) == (32, 2)
    assert setup.preprocessing.mean == (123.675, 116.28, 103.53)
    with pytest.raises(ConfigError, match="use --model i3d-r50-nl-gaussian"):
        settle_model(ModelConfig(checkpoint="i3d-r50-nl-gaussian-kinetics400"), WindowConfig())


def test_the_spec_of_flow_and_charades(home: Path) -> None:
    put("i3d-flow-charades")
    spec = known_spec("i3d-flow-charades")
    assert spec is not None
    assert (spec.architecture, spec.in_channels, spec.num_classes, spec.labels) == ("i3d-flow", 2, 157, None)
    json.dumps(spec.provenance)
