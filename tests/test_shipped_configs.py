from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from stream_i3d.errors import ConfigError
from stream_i3d.shipped_configs import find_config, shipped_configs, summary

ROOT = Path(__file__).parents[1]


def test_the_configurations_of_the_source_tree_are_found_by_name() -> None:
    assert {"webcam", "rtsp", "headless"} <= shipped_configs("run").keys()
    assert {"finetune", "head-only", "finetune-kinetics-rgb"} <= shipped_configs("train").keys()
    assert find_config("train", "finetune") == ROOT / "configs" / "train" / "finetune.yaml"


def test_a_file_goes_before_a_name_and_a_folder_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("webcam").mkdir()
    assert find_config("run", "webcam") == ROOT / "configs" / "webcam.yaml"
    Path("webcam").rmdir()
    Path("webcam").write_text("{}")
    assert find_config("run", "webcam") == Path("webcam")


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        find_config("train", "configs/train/fintune.yaml")
    message = str(caught.value)
    assert "(did you mean 'finetune'?)" in message
    assert "head-only" in message and "webcam" not in message
    assert "\n" not in message


@pytest.mark.parametrize("kind", ["run", "train"])
def test_each_says_in_a_few_words_what_it_is_for(kind: str) -> None:
    for path in shipped_configs(kind).values():  # type: ignore[arg-type]
        assert 10 < len(summary(path)) < 120, path


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_installed_package_finds_them_from_an_empty_folder(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    subprocess.run([*build, "-w", str(tmp_path), str(ROOT)], check=True, timeout=500, cwd=tmp_path)
    [wheel] = tmp_path.glob("*.whl")
    target, empty = tmp_path / "target", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    # -S and the other packages by path: the source tree is not importable, as where only the wheel is installed.
    packages = [path for path in sys.path if path.endswith("site-packages")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), *packages])}

    def installed(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-S", "-m", "stream_i3d", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=200, cwd=empty, env=environment, check=False
        )

    listed = installed("config", "list")
    assert listed.returncode == 0, listed.stderr
    assert {"webcam", "head-only"} <= {line.split()[0] for line in listed.stdout.splitlines()}
    checked = installed("config", "check", "webcam")
    assert checked.returncode == 0, checked.stderr
    assert str(target / "stream_i3d" / "configs" / "webcam.yaml") in checked.stdout
    train = installed("train", "head-only", "data.train=nowhere", "model.weights=motion")
    assert train.returncode == 2
    assert "nowhere" in train.stderr
    assert list(empty.iterdir()) == []
