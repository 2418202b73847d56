"""The command line, in this process: what needs no process of its own to be shown."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from stream_i3d import __version__
from stream_i3d.cli import main
from stream_i3d.cli.app import _COMMANDS
from stream_i3d.models.checkpoint import load_checkpoint
from tests.video_files import corners, write_film

Video = Callable[[float, float], Path]
FAST = ("--device", "cpu", "--precision", "fp32", "--threads", "1")


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Done]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs `stream-i3d ARGS` here, and catches what C code prints too."""

    def run(*arguments: object) -> Done:
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        assert isinstance(caught.value.code, int)
        return Done(caught.value.code, captured.out, captured.err)

    return run


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what a command sets for its whole process: logging, threads, the environment."""
    logger, threads = logging.getLogger("stream_i3d"), torch.get_num_threads()
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    for name in ("OPENCV_FFMPEG_LOGLEVEL", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, os.environ.get(name, "-8" if "LOGLEVEL" in name else "PASSIVE"))
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)
    torch.set_num_threads(threads)


@pytest.fixture
def foreign(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """The tiny network as another program would save it: tensors only."""
    network, _ = load_checkpoint(tiny_checkpoint)
    path = tmp_path / "foreign.pt"
    torch.save(network.state_dict(), path)
    return path


def assert_one_line(done: Done, *words: str) -> None:
    """The error is one line of ours, with exit code 2, and says `words`."""
    assert done.code == 2, done
    assert done.out == ""
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(
    "command", [(), *((name,) for name in _COMMANDS), ("config", "show"), ("config", "check"), ("keys", "new")]
)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(run: Run, command: tuple[str, ...], flag: str) -> None:
    done = run(*command, flag)
    assert done.code == 0
    assert done.out.startswith(" ".join(["Usage: stream-i3d", *command]))
    assert done.err == ""


def test_without_a_command_the_help_is_shown(run: Run) -> None:
    done = run()
    assert done.code == 2
    assert all(name in done.out for name in _COMMANDS)


def test_the_version_is_told(run: Run) -> None:
    done = run("--version")
    assert (done.code, done.out.strip()) == (0, f"stream-i3d, version {__version__}")


@pytest.mark.parametrize(("given", "hint"), [("recognise", "recognize"), ("doktor", "doctor"), ("wach", "watch")])
def test_an_unknown_command_is_told_with_the_likeliest(run: Run, given: str, hint: str) -> None:
    assert_one_line(run(given), f"no command '{given}' (did you mean '{hint}'?)", "allowed are run, watch,")


def test_an_unknown_command_like_none_is_told_with_all(run: Run) -> None:
    done = run("xyzzy")
    assert_one_line(done, "no command 'xyzzy'; allowed are run,")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run",), "no camera: give --source"),
        (("run", "--source", "rstp://camera/"), "unknown kind (did you mean 'rtsp'?)"),
        (("run", "--source", ""), "give a webcam index"),
        (("run", "--source", "synthetic://?sead=1"), "unknown option 'sead' (did you mean 'seed'?)"),
        (("run", "--source", "0", "--stride", "0"), "window.stride: expected int >= 1, got 0"),
        (("run", "--source", "0", "--stride", "two"), "two"),
        (("run", "--source", "0", "--clip-len", "5"), "window.clip_len: expected int >= 8, got 5"),
        (("run", "--source", "0", "--sample-fps", "0"), "window.sample_fps: expected float >= 1"),
        (("run", "--source", "0", "--precision", "fp8"), "expected one of auto, fp32, bf16, fp16"),
        (("run", "--source", "0", "--smoothing", "median"), "expected one of ema, mean, vote, none"),
        (("run", "--source", "0", "--min-confidence", "1.5"), "idle.min_confidence: expected float <= 1"),
        (("run", "--source", "0", "--top-k", "0"), "publish.top_k: expected int >= 1, got 0"),
        (("run", "--source", "0", "--publish", "tcp://0.0.0.0:5556"), "refusing to bind tcp://0.0.0.0:5556"),
        (("run", "--source", "0", "--publish", "5556"), "allowed is tcp://HOST:PORT"),
        (("run", "--source", "0", "--key", "me.key_secret"), "security: key and clients belong together"),
        (("run", "--source", "0", "--clients", "clients"), "security: key and clients belong together"),
        (("run", "--source", "0", "--key", "none", "--clients", "."), "cannot read the key none: No such file"),
        (("watch", "--key", "me.key_secret"), "--key and --server-key belong together"),
        (("watch", "--server-key", "a.key", "--key", "none"), "cannot read the key none: No such file"),
        (("gui", "--server-key", "service.key"), "--key and --server-key belong together"),
        (("keys",), ""),
        (("keys", "new"), "NAME"),
        (("keys", "new", "a/b"), "'a/b' is no name for keys"),
        (("keys", "show", "none.key"), "cannot read the key none.key: No such file"),
        (("run", "--source", "0", "--duration", "0"), "duration"),
        (("run", "--source", "0", "--duration", "nan"), "nan is no number of seconds"),
        (("run", "--source", "clip-\udcff.mp4"), "the source is no text (UTF-8)"),
        (("watch", "--camera", "door\udcff"), "no text (UTF-8)"),
        (("run", "--source", "0", "--strid", "4"), "--strid"),
        (("run", "--source", "0", "--config", "missing.yaml"), "cannot read the configuration missing.yaml"),
        (("run", "--source", "0", "--checkpoint", "missing.pt"), "checkpoint 'missing.pt' does not exist"),
        (("watch", "--connect", "nowhere"), "address 'nowhere': allowed is tcp://HOST:PORT"),
        (("watch", "--kind", "predictions"), "predictions"),
        (("watch", "--count", "0"), "count"),
        (("demo", "--duration", "1"), "duration"),
        (("demo", "--seed", "-1"), "seed"),
        (("recognize",), "VIDEO"),
        (("recognize", "missing.mp4"), "no such file: missing.mp4"),
        (("recognize", "x" * 300), "no such file: xxx"),
        (("recognize", "0"), "0 never ends: give recognize a video file"),
        (("recognize", "rtsp://admin:s3cret@camera/"), "rtsp://***@camera/ never ends"),
        (("recognize", "synthetic://"), "synthetic:// never ends"),
        (("doctor", "--cameras"), "give --config FILE"),
        (("doctor", "--running"), "give --config FILE"),
        (("config",), ""),
        (("config", "check"), "FILE"),
        (("config", "check", "missing.yaml"), "cannot read the configuration missing.yaml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(run: Run, arguments: tuple[str, ...], words: str) -> None:
    done = run(*arguments)
    if arguments in (("config",), ("keys",)):
        assert done.code == 2
        assert "Usage" in done.out
        return
    assert_one_line(done, words)
    assert "s3cret" not in done.err


def test_a_password_in_a_mistake_is_not_shown(run: Run) -> None:
    for source in ("rstp://admin:s3cret@camera/", "rtsp://admin:s3cret@[camera/", "rtsp://admin:s3cret@camera:99999/"):
        done = run("recognize", source)
        assert_one_line(done)
        assert "s3cret" not in done.err


def test_labels_of_another_length_are_told(run: Run, tiny_checkpoint: Path) -> None:
    done = run("run", "--source", "0", "--checkpoint", tiny_checkpoint, "--labels", "kinetics400")
    assert_one_line(done, "400 labels do not fit a network of 10 classes")


def test_an_unknown_label_list_is_told(run: Run, tiny_checkpoint: Path) -> None:
    done = run("run", "--source", "0", "--checkpoint", tiny_checkpoint, "--labels", "kinetics40")
    assert_one_line(done, "(did you mean 'kinetics400'?)")


def test_a_model_of_another_name_than_the_checkpoint_is_told(run: Run, tiny_checkpoint: Path) -> None:
    done = run("run", "--source", "0", "--checkpoint", tiny_checkpoint, "--model", "s3d")
    assert_one_line(done, "checkpoint tiny.safetensors is of architecture 'i3d'; use --model i3d")


def test_a_checkpoint_cut_short_is_told(run: Run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(tiny_checkpoint.read_bytes()[:100])
    assert_one_line(run("run", "--source", "0", "--checkpoint", cut), "not a whole safetensors file")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--device", "cuda:9"), "device 'cuda:9': this machine has cpu"),
        (("--device", "cpu", "--precision", "fp16"), "precision 'fp16': cpu has"),
        (("--model", "i3x"), "no architecture 'i3x' (did you mean 'i3d'?)"),
        (("--labels", "hmdb51"), "51 labels do not fit a network of 10 classes"),
    ],
)
def test_what_shows_when_the_model_is_loaded_is_one_line_too(
    run: Run, make_video: Video, foreign: Path, flags: tuple[str, ...], words: str
) -> None:
    assert_one_line(run("recognize", make_video(25.0, 2.0), "--checkpoint", foreign, *flags), words)


@pytest.mark.parametrize("name", ["noise.pt", "noise.safetensors"])
def test_a_checkpoint_of_random_bytes_is_one_line(run: Run, make_video: Video, tmp_path: Path, name: str) -> None:
    noise = tmp_path / name
    noise.write_bytes(np.random.default_rng(0).bytes(5000))
    assert_one_line(run("recognize", make_video(25.0, 2.0), "--checkpoint", noise, *FAST), name)


def test_a_checkpoint_of_another_network_is_one_line(run: Run, make_video: Video, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    torch.save({"fc.weight": torch.zeros(4, 4)}, other)
    assert_one_line(
        run("recognize", make_video(25.0, 2.0), "--checkpoint", other, *FAST),
        "'fc.weight'",
        "`stream-i3d models` lists",
    )


def test_a_checkpoint_of_another_shape_is_one_line(
    run: Run, make_video: Video, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    network, _ = load_checkpoint(tiny_checkpoint)
    state = network.state_dict()
    state["Conv3d_2b_1x1.conv3d.weight"] = torch.zeros(3, 8, 1, 1, 1)
    path = tmp_path / "other.pt"
    torch.save(state, path)
    done = run("recognize", make_video(25.0, 2.0), "--checkpoint", path, *FAST)
    assert_one_line(done, "Conv3d_2b_1x1.conv3d.weight has the shape (3, 8, 1, 1, 1)")


def test_config_show_prints_every_setting_with_flags_over_the_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("window: {stride: 16, clip_len: 32}\ncameras: [{source: '0', name: door}]\n")
    done = run("config", "show", "--config", file, "--stride", "4", "--device", "cpu")
    shown = yaml.safe_load(done.out)
    assert done.code == 0
    assert shown["window"]["stride"] == 4
    assert shown["window"]["clip_len"] == 32
    assert shown["model"]["device"] == "cpu"
    assert shown["cameras"] == [{"source": "0", "name": "door", "paused": False, "view": None}]
    assert shown["publish"]["address"] == "tcp://127.0.0.1:5556"
    assert set(shown) == {
        "cameras", "model", "window", "smoothing", "idle", "events", "publish", "capture", "preview", "control",
        "security", "logging", "monitoring", "sinks",
    }  # fmt: skip


def test_what_config_show_prints_is_a_configuration_again(run: Run, tmp_path: Path) -> None:
    first = run("config", "show", "--source", "0", "--stride", "4").out
    file = tmp_path / "shown.yaml"
    file.write_text(first)
    assert run("config", "show", "--config", file).out == first


def test_config_show_hides_passwords_from_wherever_they_come(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMERA_PASSWORD", "s3cret")
    file = tmp_path / "a.yaml"
    file.write_text("cameras: [{source: 'rtsp://admin:${CAMERA_PASSWORD}@camera/live'}]\n")
    done = run("config", "show", "--config", file)
    assert yaml.safe_load(done.out)["cameras"][0]["source"] == "rtsp://***@camera/live"
    done = run("config", "show", "--source", "rtsp://admin:s3cret@camera/live?token=t0ken")
    assert "s3cret" not in done.out
    assert "t0ken" not in done.out


def test_config_show_tells_of_a_variable_that_is_not_set(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    file = tmp_path / "a.yaml"
    file.write_text("cameras: [{source: 'rtsp://${NO_SUCH_VARIABLE}@camera/'}]\n")
    assert_one_line(run("config", "show", "--config", file), "cameras[0].source", "has no NO_SUCH_VARIABLE")


def checked(run: Run, folder: Path, text: str) -> Done:
    file = folder / "a.yaml"
    file.write_text(text)
    return run("config", "check", file)


def test_config_check_names_the_cameras_and_the_model(run: Run, tmp_path: Path, tiny_checkpoint: Path) -> None:
    done = checked(
        run,
        tmp_path,
        f"cameras: [{{source: '0', name: door}}, {{source: 'rtsp://a:s3cret@hall/'}}]\n"
        f"model: {{checkpoint: '{tiny_checkpoint}'}}\n",
    )
    assert done.code == 0
    assert done.out == f"{tmp_path}/a.yaml: ok: door (webcam), hall (url); i3d with tiny.safetensors\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("windwo: {stride: 4}", "unknown key 'windwo' (did you mean 'window'?)"),
        ("window: {strid: 4}", "unknown key 'window.strid' (did you mean 'stride'?)"),
        ("cameras: [{source: '0', nmae: door}]", "unknown key 'cameras[0].nmae' (did you mean 'name'?)"),
        ("window: {stride: 0}", "window.stride: expected int >= 1, got 0"),
        ("window: {stride: four}", "window.stride: expected int, got"),
        ("window: [", "is not valid YAML"),
        ("- 1", "holds a list"),
        ("cameras: []", "no camera: give --source"),
        ("cameras: [{source: '0', name: a}, {source: '1', name: a}]", "the name 'a' is given twice"),
        ("cameras: [{source: '0', name: 'a b'}]", "cameras[0].name"),
        ("cameras: [{source: '0'}]\npublish: {address: 'tcp://0.0.0.0:1'}", "refusing to bind"),
        ("cameras: [{source: '0'}]\nmodel: {checkpoint: missing.pt}", "checkpoint 'missing.pt' does not exist"),
        ("events: {on_threshold: 0.3, off_threshold: 0.5}", "off_threshold 0.5 must not be above on_threshold 0.3"),
    ],
)
def test_config_check_tells_what_is_wrong_in_one_line(run: Run, tmp_path: Path, text: str, words: str) -> None:
    assert_one_line(checked(run, tmp_path, text), words)


def test_recognize_writes_every_window_and_then_the_segments(
    run: Run, make_video: Video, tiny_checkpoint: Path
) -> None:
    video = make_video(25.0, 2.0)
    done = run("recognize", video, "--checkpoint", tiny_checkpoint, "--min-confidence", 0, "--min-motion", 0, *FAST)
    assert done.code == 0
    assert done.err == ""
    kinds = [message["schema"].split("/")[1] for message in done.messages]
    assert kinds == ["prediction"] * 6 + ["segment"] * (len(kinds) - 6)
    assert len(kinds) > 6
    assert {message["video"] for message in done.messages} == {str(video)}
    assert [message["seq"] for message in done.messages[:6]] == [7, 15, 23, 31, 39, 47]
    assert done.messages[-1]["end_time"] == pytest.approx(47 / 25, abs=1e-3)


def test_recognize_leaves_out_the_windows_where_only_segments_are_wanted(
    run: Run, make_video: Video, tiny_checkpoint: Path
) -> None:
    done = run(
        "recognize", make_video(25.0, 2.0), "--checkpoint", tiny_checkpoint, "--segments-only",
        "--min-confidence", 0, "--min-motion", 0, *FAST,
    )  # fmt: skip
    assert {message["schema"] for message in done.messages} == {"stream-i3d/segment/1"}


def test_recognize_takes_its_settings_from_flags(run: Run, make_video: Video, tiny_checkpoint: Path) -> None:
    done = run(
        "recognize", make_video(25.0, 2.0), "--checkpoint", tiny_checkpoint, "--stride", 16, "--top-k", 2, *FAST,
    )  # fmt: skip
    judged = [one for one in done.messages if one["schema"] == "stream-i3d/prediction/1" and one["state"] != "warming"]
    assert [one["seq"] for one in judged] == [15, 31, 47]
    assert {len(one["top_k"]) for one in judged} == {2}


def test_one_bad_video_does_not_lose_the_good_ones_and_is_one_line(
    cli: Callable[..., subprocess.CompletedProcess[str]], make_video: Video, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("not a video")
    first, last = make_video(25.0, 2.0), make_video(10.0, 2.0)
    # A process of its own: FFmpeg is told only once in a process to keep its words to itself.
    done = cli("recognize", first, bad, last, "--checkpoint", tiny_checkpoint, *FAST)
    assert done.returncode == 2
    assert {json.loads(line)["video"] for line in done.stdout.splitlines()} == {str(first), str(last)}
    assert done.stderr == f"error: {bad} is not a video that FFmpeg can read: it holds text; give the video itself\n"


def test_recognize_writes_to_a_file_where_one_is_given(
    run: Run, make_video: Video, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text("from before\n")
    done = run("recognize", make_video(25.0, 2.0), "--checkpoint", tiny_checkpoint, "--output", output, *FAST)
    assert (done.code, done.out) == (0, "")
    lines = output.read_text().splitlines()
    assert [json.loads(line)["seq"] for line in lines[:6]] == [7, 15, 23, 31, 39, 47]


def test_an_output_in_a_folder_that_is_not_there_is_told(
    run: Run, make_video: Video, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    output = tmp_path / "missing" / "out.jsonl"
    done = run("recognize", make_video(25.0, 2.0), "--checkpoint", tiny_checkpoint, "--output", output, *FAST)
    assert_one_line(done, f"cannot write {output}", "give a file in a folder that exists")


def test_a_synthetic_scene_can_be_recognised(run: Run, tiny_checkpoint: Path) -> None:
    done = run("recognize", "synthetic://?fps=25&duration=1", "--checkpoint", tiny_checkpoint, *FAST)
    assert done.code == 0
    predictions = [message for message in done.messages if message["schema"] == "stream-i3d/prediction/1"]
    assert [message["seq"] for message in predictions] == [7, 15, 23]


def test_watch_ends_after_its_duration_with_nothing_to_say(run: Run, tmp_path: Path) -> None:
    done = run("watch", "--connect", f"ipc://{tmp_path}/nobody", "--duration", 0.01)
    assert done == Done(0, "", "")


def test_doctor_lists_what_is_here_and_exits_0_where_nothing_needed_is_missing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stream_i3d.service.doctor import machine
    from stream_i3d.service.doctor.finding import Finding

    findings = [
        Finding(what="torch", state="ok", found="2.10"),
        Finding(what="GPU", state="absent", found="none", remedy="not needed"),
    ]
    monkeypatch.setattr(machine, "examine_machine", lambda: findings)
    done = run("doctor")
    assert done.code == 0
    assert done.out.splitlines()[0].split() == ["ok", "torch", "2.10"]
    assert done.out.splitlines()[2].strip() == "-> not needed"
    findings.append(Finding(what="pyzmq", state="fail", found="not installed", remedy="pip install pyzmq"))
    done = run("doctor", "--json")
    assert done.code == 1
    assert [(one["what"], one["state"]) for one in json.loads(done.out)] == [
        ("torch", "ok"), ("GPU", "absent"), ("pyzmq", "fail"),
    ]  # fmt: skip


def test_an_interrupt_is_exit_code_130_and_no_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from stream_i3d.service.doctor import machine

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(machine, "examine_machine", interrupt)
    done = run("doctor")
    assert (done.code, done.out) == (130, "")
    assert "Traceback" not in done.err


# --- recognize: what gives no prediction


def test_a_folder_stands_for_its_videos_and_what_is_none_is_named(
    run: Run, make_video: Video, tiny_checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "clips"
    film = make_video(25.0, 1.0).read_bytes()
    for name in ("b.mp4", "a/2.MTS", "a/1"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(film)
    (folder / "notes.txt").write_text("mine\n")
    (folder / "noise").write_bytes(b"\x00\xff" * 500)
    done = run("recognize", folder, "--checkpoint", tiny_checkpoint, *FAST)
    assert done.code == 0
    videos = [folder / "a/1", folder / "a/2.MTS", folder / "b.mp4"]
    assert list(dict.fromkeys(message["video"] for message in done.messages)) == [str(video) for video in videos]
    assert [record.getMessage() for record in caplog.records] == [
        f"{folder}: 1 file left out as no videos by name or kind: notes.txt"
    ]
    assert done.err.startswith(f"left out: {folder / 'noise'} is not a video that FFmpeg can read")


def test_a_folder_without_a_video_is_one_line(run: Run, tmp_path: Path) -> None:
    assert_one_line(run("recognize", tmp_path), f"no video in the folder {tmp_path}; give video files")


def test_a_video_shorter_than_a_window_is_told_and_another_one_saves_the_run(
    run: Run, make_video: Video, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    short = write_film(tmp_path / "short.mp4")
    line = (
        f"error: {short} lasts 0.40 s (10 pictures); nothing is recognised in less than 0.64 s (16 frames at 25 a "
        "second)\n"
    )
    done = run("recognize", short, "--checkpoint", tiny_checkpoint, *FAST)
    assert (done.code, done.err) == (2, line)
    done = run("recognize", short, make_video(25.0, 1.0), "--checkpoint", tiny_checkpoint, *FAST)
    assert (done.code, done.err) == (0, line)


def test_too_few_pictures_a_second_are_told_and_change_the_exit_code(
    run: Run, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    slow = write_film(tmp_path / "slow.mp4", [corners()] * 8, [index / 2 for index in range(8)], last_s=0.5)
    done = run("recognize", slow, "--checkpoint", tiny_checkpoint, *FAST)
    assert done.code == 2
    assert done.err == (
        f"error: {slow} has 2 pictures a second, fewer than 2 in a window of 0.64 s, so what is recognised in it means "
        "little; give at least 3.1 a second\n"
    )
    judged = [one for one in done.messages if one["schema"] == "stream-i3d/prediction/1" and one["state"] != "warming"]
    assert [one["seq"] for one in judged] == list(range(15, 100, 8))


def test_a_single_picture_is_told(run: Run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "photo.jpg"), corners())
    done = run("recognize", tmp_path / "photo.jpg", "--checkpoint", tiny_checkpoint, *FAST)
    assert_one_line(done, "photo.jpg is a single picture; give a video")


def test_a_video_is_not_overwritten_by_its_own_results(run: Run, make_video: Video, tmp_path: Path) -> None:
    video, link = tmp_path / "film.mp4", tmp_path / "link.jsonl"
    video.write_bytes(make_video(25.0, 2.0).read_bytes())
    link.symlink_to(video)
    before = video.read_bytes()
    assert_one_line(run("recognize", video, "--output", link, *FAST), "is one of the videos")
    assert_one_line(run("recognize", tmp_path, "--output", video, *FAST), "is one of the videos")
    assert video.read_bytes() == before


def test_a_name_that_is_not_utf8_does_not_lose_the_other_videos_of_a_folder(
    cli: Callable[..., subprocess.CompletedProcess[str]], make_video: Video, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    film = make_video(25.0, 2.0).read_bytes()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.mp4")).write_bytes(film)
    (tmp_path / "b.mp4").write_bytes(film)
    done = cli("recognize", tmp_path, "--checkpoint", tiny_checkpoint, *FAST)
    assert "a\\udcff.mp4': its name is not UTF-8; rename it" in done.stderr
    assert "error" not in done.stderr
    assert str(tmp_path / "b.mp4") in done.stdout


def test_a_pipe_is_called_a_pipe(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "film.mp4")
    assert_one_line(run("recognize", tmp_path / "film.mp4", *FAST), "a pipe (FIFO)")


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_closed_standard_stream_is_no_failure(
    closed: int, make_video: Video, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    line = f'"$@" {closed}>&-'
    command = [sys.executable, "-m", "stream_i3d", "recognize", str(make_video(25.0, 2.0))]
    command += ["--checkpoint", str(tiny_checkpoint), *FAST, *(() if closed == 1 else ("--output", str(output)))]
    done = subprocess.run(["sh", "-c", line, "sh", *command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert closed == 1 or output.read_text().startswith("{")
