from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import structs

from stream_i3d.config import ModelConfig, WindowConfig
from stream_i3d.errors import CheckpointError
from stream_i3d.inference.backends import load_model
from stream_i3d.inference.engine import State
from stream_i3d.inference.graphs.engine import Clips
from stream_i3d.inference.graphs.file import CHECK_KEY, graph_metadata, read_metadata
from stream_i3d.inference.graphs.inception import inception_head, read_inception
from stream_i3d.inference.selfcheck import numpy_inception, reference
from stream_i3d.inference.selfcheck.reference import (
    MAX_CLASSES,
    CheckedNetwork,
    Values,
    as_array,
    check_clips,
    decode_values,
    make_values,
    model_values,
    reference_values,
    thinned,
)
from stream_i3d.inference.setup import settle_model
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.i3d import I3D
from stream_i3d.recognition.head import Features
from tests.conftest import TINY


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STREAM_I3D_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def worked_out(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which networks' values were worked out, by mode."""
    real, modes = reference._work_out, []
    monkeypatch.setattr(reference, "_work_out", lambda network: (modes.append(network.mode), real(network))[1])
    return modes


def network_of(path: Path, **more: object) -> CheckedNetwork:
    given = {"path": str(path), "spec": TINY, "name": "i3d", "preprocessing": TINY.preprocessing, **more}
    return CheckedNetwork(**given)  # type: ignore[arg-type]


def test_they_are_worked_out_once_for_a_file_and_what_it_is_given(tiny_checkpoint: Path, worked_out: list[str]) -> None:
    first = reference_values(network_of(tiny_checkpoint))
    assert reference_values(network_of(tiny_checkpoint)) == first
    assert len(worked_out) == 1
    model, _ = load_checkpoint(tiny_checkpoint)
    np.testing.assert_allclose(as_array(first), model_values(model, TINY.preprocessing, 3, "window"), atol=1e-5)
    assert np.ptp(as_array(first)) > 1e-3
    shorter = structs.replace(TINY.preprocessing, clip_len=8)
    assert reference_values(network_of(tiny_checkpoint, preprocessing=shorter)) != first
    reference_values(network_of(tiny_checkpoint, mode="streaming"))
    assert worked_out == ["window", "window", "streaming"]


def test_another_file_of_the_same_name_has_values_of_its_own(tmp_path: Path, worked_out: list[str]) -> None:
    path, found = tmp_path / "own.safetensors", []
    for seed in (1, 2):
        torch.manual_seed(seed)
        save_checkpoint(path, I3D(10, width=TINY.width).eval(), TINY)
        found.append(reference_values(network_of(path)))
    assert found[0] != found[1]
    assert len(worked_out) == 2


@pytest.mark.parametrize("text", [b"", b"{", b'{"version":1,"rows":[[1,2],[3]]}', b'{"version":99,"rows":[[1.0]]}'])
def test_a_kept_file_that_is_damaged_is_made_again(
    text: bytes, tiny_checkpoint: Path, home: Path, worked_out: list[str]
) -> None:
    first = reference_values(network_of(tiny_checkpoint))
    [kept] = (home / "references").glob("*.json")
    kept.write_bytes(text)
    assert reference_values(network_of(tiny_checkpoint)) == first
    assert len(worked_out) == 2


def test_where_nothing_can_be_kept_they_are_worked_out_each_time(
    tiny_checkpoint: Path, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home.mkdir()
    (home / "references").write_text("a file")
    with caplog.at_level(logging.WARNING):
        reference_values(network_of(tiny_checkpoint))
    assert "cannot keep reference values" in caplog.text


def test_a_network_whose_own_output_is_not_finite_is_refused(tmp_path: Path) -> None:
    model = I3D(10, width=TINY.width).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1e30)
    path = tmp_path / "huge.safetensors"
    save_checkpoint(path, model, TINY)
    with pytest.raises(CheckpointError, match=r"huge.safetensors gives an output that is not finite, in float32 too"):
        reference_values(network_of(path))


@pytest.mark.parametrize(("frames", "size"), [(8, 32), (9, 64), (16, 40), (24, 256)])
def test_numpy_gives_what_torch_does(frames: int, size: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = structs.replace(TINY.preprocessing, clip_len=frames, crop_size=size, short_side=size)
    spec = structs.replace(TINY, width=1 / 32, preprocessing=made)
    model, path = I3D(10, width=1 / 32).eval(), tmp_path / "own.safetensors"
    save_checkpoint(path, model, spec)
    tensors = read_inception(path, spec)
    assert tensors is not None
    clips = check_clips(made, 3, "window")
    found = numpy_inception.window_logits(tensors, clips, made)
    wanted = model_values(model, made, 3, "window")
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 + 1e-4 * float(np.ptp(wanted)))


def test_of_very_many_classes_some_are_kept() -> None:
    rows = np.arange(20_000, dtype=np.float32).reshape(2, -1)
    values = make_values(rows)
    assert len(values.rows[0]) <= MAX_CLASSES
    np.testing.assert_array_equal(as_array(values), thinned(rows))
    assert decode_values(None) is None
    assert decode_values("[]") is None
    assert isinstance(decode_values(b'{"version":1,"rows":[[1.0]]}'), Values)


def test_an_engine_that_gives_nonsense_here_gives_way_to_torch(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    from stream_i3d.inference.graphs.openvino_engine import OpenVinoEngine

    real = OpenVinoEngine.run

    def nonsense(self: OpenVinoEngine, batch: Clips, states: Sequence[State]) -> tuple[Features, list[State]]:
        features, after = real(self, batch, states)
        return {"rgb": features["rgb"] * np.float32("nan")}, after

    monkeypatch.setattr(OpenVinoEngine, "run", nonsense)
    config = ModelConfig(checkpoint=str(tiny_checkpoint), backend="openvino", precision="fp32", threads=1)
    with caplog.at_level(logging.INFO, "stream_i3d"):
        engine = load_model(settle_model(config, WindowConfig())).engine
    assert engine.description.startswith("torch")
    warnings = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert warnings == [
        "the engine of choice fails its self-check (openvino fp32 on cpu: its output is not finite): using torch fp32 "
        "on cpu instead"
    ]
    assert caplog.messages[-1] == f"engine: {engine.description} (torch: passes the self-check)"


def test_an_exported_file_carries_its_values(tiny_checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    import msgspec

    from stream_i3d.inference.graphs.inception import inception_graph
    from stream_i3d.inference.graphs.openvino_engine import write_ir

    tensors = read_inception(tiny_checkpoint, TINY)
    assert tensors is not None
    model, _ = load_checkpoint(tiny_checkpoint)
    values = model_values(model, TINY.preprocessing, 3, "window")
    path = tmp_path / "own.xml"
    config = ModelConfig(checkpoint=str(path), precision="fp32", threads=1)
    for rows, passes in ((values, True), (values[:, ::-1], False), (None, True)):
        check = None if rows is None else msgspec.json.encode(make_values(rows)).decode()
        write_ir(inception_graph(tensors, TINY), graph_metadata(TINY, inception_head(tensors), check), path)
        assert read_metadata(path, CHECK_KEY) == check
        if not passes:
            with pytest.raises(CheckpointError, match=r"^no engine runs own.xml as float32 does"):
                load_model(settle_model(config, WindowConfig()))
            continue
        loaded = load_model(settle_model(config, WindowConfig()))
        assert loaded.check is not None
        assert loaded.check.facts.compared == (rows is not None)
    half = load_model(settle_model(structs.replace(config, precision="auto"), WindowConfig()))
    assert half.check is not None
    in_half = half.engine.facts.precision != "fp32"  # then the file's own float32 is what it is compared with
    assert half.check.facts.compared == in_half
