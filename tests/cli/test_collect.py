"""`stream-i3d collect` as a user calls it, on generated videos and scenes."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

from stream_i3d.capture.collect import CollectJob
from stream_i3d.capture.collect_schedule import CollectPlan, Cue
from stream_i3d.cli import main
from stream_i3d.cli.collect import _Prompter
from stream_i3d.shipped_configs import find_config

Run = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs `collect ARGS` here: its exit code, and the lines it says (all on standard error)."""
    for name in ("OPENCV_FFMPEG_LOGLEVEL", "OPENCV_LOG_LEVEL"):
        monkeypatch.setenv(name, os.environ.get(name, "-8" if "FFMPEG" in name else "SILENT"))

    def collect(*arguments: object) -> tuple[int, list[str]]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(["collect", *map(str, arguments)])
        captured = capfd.readouterr()
        assert captured.out == ""
        return int(str(caught.value.code)), captured.err.splitlines()

    return collect


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine seconds at 15 pictures a second, 96 x 64, ever brighter: 25 levels a second."""
    path = tmp_path_factory.mktemp("video") / "brighter.mp4"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 15, (96, 64))
    assert writer.isOpened()
    for index in range(9 * 15):
        writer.write(np.full((64, 96, 3), round(index / 15 * 25) + 20, np.uint8))
    writer.release()
    return path


def look(path: Path) -> tuple[float, float, int, list[float]]:
    """Return frames per second, seconds by the time stamps, pictures, and their mean levels of green."""
    capture, levels, last_ms = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), [], 0.0
    fps = capture.get(cv2.CAP_PROP_FPS)
    while True:
        good, picture = capture.read()
        if not good:
            return fps, last_ms / 1000 + 1 / fps, len(levels), levels
        last_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
        levels.append(float(np.mean(picture[..., 1])))


def left_in(output: Path) -> list[Path]:
    return sorted(path for path in output.rglob("*") if path.is_file())


def test_a_file_becomes_labelled_clips_of_the_length_asked_for(run: Run, video: Path, tmp_path: Path) -> None:
    sizes = ("--clips", 3, "--seconds", 1.6, "--countdown", 1, "--pause", 0.5)
    code, lines = run("--source", video, "--label", "wave", "--output", tmp_path, *sizes, "--fast")
    clips = left_in(tmp_path)
    assert (code, len(clips)) == (0, 3)
    for clip, begins_s in zip(clips, (1.0, 4.1, 7.2), strict=True):
        fps, seconds, pictures, levels = look(clip)
        assert (fps, seconds, pictures) == (25, pytest.approx(1.6), 40)
        assert levels[0] == pytest.approx(20 + 25 * begins_s, abs=5)
        assert levels[-1] - levels[0] == pytest.approx(40, abs=5)
    assert lines[:4] == [
        f"{video}: 96x64, nominally 15 fps",
        "1/3: 'wave' in 1",
        "1/3: do 'wave' now, for 1.6 s",
        f"1/3: kept {clips[0]}",
    ]
    assert lines[-2] == f"3 clips kept in {tmp_path / 'wave'}"


def test_a_scene_is_cut_into_clips_of_the_size_and_rate_asked_for(run: Run, tmp_path: Path) -> None:
    source = "synthetic://?size=160x120&fps=30"
    sizes = ("--clips", 1, "--seconds", 4, "--split", 2, "--countdown", 0, "--size", "80x80", "--fps", 12.5)
    code, lines = run("--source", source, "--label", "nothing", "--output", tmp_path, *sizes, "--fast")
    assert (code, lines[-2]) == (0, f"2 clips kept in {tmp_path / 'nothing'}")
    for clip in left_in(tmp_path):
        assert look(clip)[:3] == (12.5, pytest.approx(2), 25)
        assert cv2.VideoCapture(str(clip)).get(cv2.CAP_PROP_FRAME_WIDTH) == 80


def test_a_name_before_the_source_is_split_from_it_as_by_run(run: Run, video: Path, tmp_path: Path) -> None:
    sizes = ("--clips", 1, "--seconds", 1, "--countdown", 0, "--fast")
    code, lines = run("--source", f"door={video}", "--label", "wave", "--output", tmp_path, *sizes)
    assert (code, lines[0]) == (0, f"{video}: 96x64, nominally 15 fps")
    assert lines[-1].startswith(f"next: stream-i3d collect --source {video} ")
    assert len(left_in(tmp_path)) == 1


def test_a_name_that_cannot_be_one_is_one_line(cli: Callable[..., Any], tmp_path: Path) -> None:
    done = cli("collect", "--source", "my door=0", "--label", "wave", "--output", tmp_path)
    assert done.returncode == 2
    assert "a camera's name has 1 to 64 letters" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_countdown_is_said_second_by_second(run: Run, video: Path, tmp_path: Path) -> None:
    sizes = ("--clips", 1, "--countdown", 2.5, "--fast")
    _, lines = run("--source", video, "--label", "wave", "--output", tmp_path, *sizes)
    assert lines[1:5] == [
        "1/1: 'wave' in 3",
        "1/1: 'wave' in 2",
        "1/1: 'wave' in 1",
        "1/1: do 'wave' now, for 3 s",
    ]


def test_a_terminal_gets_a_bell_and_a_bar_in_place_of_lines(tmp_path: Path) -> None:
    screen = io.StringIO()
    progress = Progress(console=Console(file=screen, force_terminal=True, width=100), auto_refresh=False)
    prompter = _Prompter(CollectJob("0", "wave", tmp_path, CollectPlan(takes=2)), progress)
    with progress:
        for cue in (Cue("countdown", 1, 0.4), Cue("recording", 1, 1.5, 1), Cue("recording", 1, 0.6, 1)):
            prompter.cue(cue)
            progress.refresh()
    shown = screen.getvalue()
    assert shown.count("\a") == 1
    assert "1/2: 'wave' in 1" in shown and "now, for 3 s" in shown
    assert shown.index("50%") < shown.index("80%")
    screen.truncate(0)
    prompter.kept(tmp_path / "[wave].mp4")
    assert screen.getvalue().strip("\0") == f"1/2: kept {tmp_path / '[wave].mp4'}\n"


def test_a_clip_that_is_taken_again_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prompter = _Prompter(CollectJob("0", "wave", tmp_path, CollectPlan(takes=2)), Progress(disable=True))
    prompter.cue(Cue("countdown", 2, 3.0, gap_s=1.54))
    assert capfd.readouterr().out.splitlines() == [
        "2/2: nothing came for 1.5 s; this clip is taken again",
        "2/2: 'wave' in 3",
    ]


def test_a_second_call_adds_to_the_first(run: Run, video: Path, tmp_path: Path) -> None:
    arguments = ("--source", video, "--label", "wave", "--output", tmp_path, "--clips", 1, "--fast", "--countdown", 0)
    run(*arguments)
    (first,) = left_in(tmp_path)
    before = first.read_bytes()
    assert run(*arguments)[0] == 0
    assert len(left_in(tmp_path)) == 2
    assert first.read_bytes() == before


def test_the_next_command_is_another_class_then_the_training(run: Run, video: Path, tmp_path: Path) -> None:
    arguments = ("--source", video, "--output", tmp_path, "--clips", 1, "--fast", "--countdown", 0)
    _, lines = run(*arguments, "--label", "wave")
    assert lines[-1].startswith(f"next: stream-i3d collect --source {video} --label nothing --clips 1 --seconds 60")
    assert lines[-1].endswith(f"--output {tmp_path}")
    _, lines = run(*arguments, "--label", "nothing")
    assert lines[-1] == f"next: stream-i3d train finetune data.train={tmp_path}"
    assert find_config("train", lines[-1].split()[3]).is_file()


def test_a_file_that_ends_early_keeps_what_it_gave(run: Run, video: Path, tmp_path: Path) -> None:
    code, lines = run("--source", video, "--label", "wave", "--output", tmp_path, "--fast")
    assert (code, lines[-2]) == (0, f"the file ended: 1 clip kept in {tmp_path / 'wave'}")
    assert len(left_in(tmp_path)) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--source", "/dev/no-camera", "--label", "wave"), "/dev/no-camera"),
        (("--source", "rtsp://127.0.0.1:1/cam", "--label", "wave"), "127.0.0.1:1: connection refused"),
        (("--source", "0", "--label", "../wave"), "label '../wave': it names a folder"),
        (("--source", "synthetic://", "--label", "wave", "--seconds", "nan"), "--seconds nan"),
        (("--source", "synthetic://", "--label", "wave", "--size", "big"), "--size big"),
        (("--source", "synthetic://", "--label", "wave", "--split", "9"), "--split 9"),
        (("--source", "synthetic://"), "--label"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], told: str, run: Run, tmp_path: Path
) -> None:
    code, lines = run(*arguments, "--output", tmp_path / "data")
    assert (code, len(lines)) == (2, 1), lines
    assert lines[0].startswith("error: ") and told in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_video_is_one_line(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    done = cli("collect", "--source", tmp_path / "clip.mp4", "--label", "wave", "--output", tmp_path / "data")
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (2, 1), lines
    assert "is not a video that FFmpeg can read" in lines[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_and_keeps_the_whole_clips(number: int, tmp_path: Path) -> None:
    sizes = ("--seconds", "0.4", "--countdown", "0", "--pause", "0.2", "--source", "synthetic://?size=64x64")
    command = [sys.executable, "-m", "stream_i3d", "collect", "--label", "wave", "--output", str(tmp_path), *sizes]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.startswith("2/20: do 'wave' now"):
                process.send_signal(number)
                break
        lines = process.communicate(timeout=30)[1].splitlines()
    finally:
        process.kill()
    assert process.returncode == 0
    clips = left_in(tmp_path)
    assert lines[-2] == f"stopped: {len(clips)} clip{'s' * (len(clips) > 1)} kept in {tmp_path / 'wave'}"
    assert 1 <= len(clips) < 20
    assert all(look(clip)[2] == 10 for clip in clips)
