from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from stream_i3d.cli.app import app
from stream_i3d.errors import ConfigError
from tests.inference.two_stream import save_stream

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs `extract` in this process, with tiny weights, into tmp_path/out."""
    rgb = save_stream(tmp_path / "rgb.safetensors", 3, seed=1)
    flow = save_stream(tmp_path / "flow.safetensors", 2, seed=2)

    def extract(*arguments: object) -> Result:
        weights = ["--checkpoint", rgb, "--flow-checkpoint", flow, "--output", tmp_path / "out", "--stack-size", 16]
        return CliRunner().invoke(app, ["extract", *map(str, [*weights, *arguments])])

    return extract


def test_a_broken_video_is_told_and_the_others_go_on(
    run: Run, make_video: Callable[[float, float], Path], tmp_path: Path
) -> None:
    broken, video = tmp_path / "broken.mp4", make_video(25, 2)
    broken.write_bytes(b"no video")
    result = run(broken, tmp_path / "none.mp4", video, "--step-size", 16)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("error: ") and "broken" in lines[0]
    assert lines[1].startswith("error: ") and "none" in lines[1]
    assert lines[2] == f"{video}: 3 stacks"
    assert np.load(tmp_path / "out" / f"{video.stem}_flow.npy").shape == (3, 128)


def test_what_is_there_is_skipped_unless_forced(
    run: Run, make_video: Callable[[float, float], Path], tmp_path: Path
) -> None:
    video = make_video(25, 2)
    first = run(video, "--streams", "flow")
    assert (first.exit_code, first.stderr) == (0, f"{video}: 1 stack\n")
    kept = tmp_path / "out" / f"{video.stem}_flow.npy"
    kept.write_bytes(b"mine")
    again = run(video, "--streams", "flow")
    assert again.exit_code == 0
    assert again.stderr == f"{video}: skipped, its files are there (--force extracts again)\n"
    assert kept.read_bytes() == b"mine"
    assert run(video, "--streams", "flow", "--force").exit_code == 0
    assert np.load(kept).shape == (1, 128)


def test_a_short_video_is_told(run: Run, make_video: Callable[[float, float], Path]) -> None:
    video = make_video(25, 2)
    result = run(video, "--stack-size", 64, "--streams", "flow")
    assert result.stderr == f"{video}: 0 stacks (shorter than one stack of 64 frames at 25 fps)\n"
    assert result.exit_code == 2  # no video gave a stack


def test_flow_without_its_weights_is_told() -> None:
    result = CliRunner().invoke(app, ["extract", "a.mp4", "--output", "out", "--checkpoint", "motion"])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith("model: two-stream-i3d needs the weights of two networks")


def test_videos_of_one_stem_are_refused_before_anything_is_done(run: Run, tmp_path: Path) -> None:
    result = run("a/x.mp4", "b/x.mp4")
    assert isinstance(result.exception, ConfigError)
    assert not (tmp_path / "out").exists()
