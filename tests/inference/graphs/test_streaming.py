"""OpenVINO carried along streams: the same function as torch's carried network, and one line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.config import ModelConfig, WindowConfig
from stream_i3d.errors import CheckpointError, ConfigError, DeviceError, LabelsError
from stream_i3d.inference.backends import load_model
from stream_i3d.inference.engine import LoadedModel, State, warm_up
from stream_i3d.inference.graphs.cache import kept_graph
from stream_i3d.inference.graphs.conversion import make_program, write_graph
from stream_i3d.inference.graphs.file import IR, encode_head, graph_metadata
from stream_i3d.inference.setup import settle_model
from stream_i3d.inference.torch_engine import cpu_has_bf16
from stream_i3d.models.backbone import head_arrays
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.i3d import I3D
from stream_i3d.models.streaming_plan import WARM_UP_STEPS
from stream_i3d.scenes import LABELS
from tests.conftest import TINY
from tests.fresh_process import printed_by
from tests.inference.streams import carried, random_frames, step, whole_clip
from tests.models.conftest import ruled

pytest.importorskip("openvino", reason="the extra openvino is not installed")

STREAMING = WindowConfig(mode="streaming")
Rows = NDArray[np.float32]
needs_bf16 = pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU has no bf16 in hardware")


def load(path: Path, **model: object) -> LoadedModel:
    given = {"precision": "fp32", "threads": 1, "device": "cpu", **model}
    config = ModelConfig(checkpoint=str(path), **given)  # type: ignore[arg-type]
    return load_model(settle_model(config, STREAMING), "streaming")


def saved(folder: Path, width: float, classes: int = 10) -> Path:
    path = folder / "ruled.safetensors"
    spec = structs.replace(TINY, width=width, num_classes=classes, labels=None)
    save_checkpoint(path, ruled(I3D(classes, width=width)), spec)
    return path


@pytest.mark.parametrize("width", [1 / 64, 1 / 4])
def test_it_is_the_whole_clip_network_one_frame_on(tmp_path: Path, width: float) -> None:
    path, frames = saved(tmp_path, width), random_frames(12)
    model = load(path, backend="openvino")
    ours, theirs = carried(model, frames)[:, WARM_UP_STEPS:], whole_clip(path, frames)
    theirs = theirs[:, : ours.shape[1]]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * theirs.std())
    assert np.ptp(theirs, axis=1).max() > 1e-3


@pytest.mark.slow
def test_it_is_the_whole_clip_network_at_full_width(tmp_path: Path) -> None:
    path, frames = saved(tmp_path, 1.0, 400), random_frames(10)
    ours, theirs = carried(load(path), frames)[:, WARM_UP_STEPS:], whole_clip(path, frames)
    theirs = theirs[:, : ours.shape[1]]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * theirs.std())


@needs_bf16
def test_in_bf16_it_is_close(tiny_checkpoint: Path) -> None:
    frames = random_frames(10)
    model = load(tiny_checkpoint, precision="auto")
    rough, exact = carried(model, frames)[:, WARM_UP_STEPS:], carried(load(tiny_checkpoint), frames)[:, WARM_UP_STEPS:]
    assert model.engine.description.endswith(", cpu, bf16, streaming")
    assert 1e-4 * np.ptp(exact) < np.abs(rough - exact).max() < 0.05 * np.ptp(exact)


def test_each_camera_has_a_stream_of_its_own_that_begins_and_ends_at_any_time(tiny_checkpoint: Path) -> None:
    model = load(tiny_checkpoint)
    cameras = [random_frames(9, seed) for seed in (1, 2, 3)]
    alone = [carried(load(tiny_checkpoint, backend="torch"), frames) for frames in cameras]
    states: list[State] = [None] * 3
    found: list[list[Rows]] = [[], [], []]
    for turn in range(12):
        order = [number for number in ((2, 0, 1) if turn % 2 else (1, 2, 0)) if number <= turn < 9 + number]
        chunks = [cameras[number][8 * (turn - number) :][:8] for number in order]
        if not chunks:
            continue
        logits, after = step(model, chunks, [states[number] for number in order])
        for row, number in enumerate(order):
            states[number] = after[row]
            found[number].append(logits[row])
    for ours, theirs in zip(found, alone, strict=True):
        assert len(ours) == 9
        np.testing.assert_allclose(
            np.stack(ours, axis=1)[:, WARM_UP_STEPS:], theirs[:, WARM_UP_STEPS:], rtol=0, atol=1e-5
        )
    again = carried(model, cameras[0])  # a stream that begins anew knows nothing of those before
    # The head rounds a batch of cameras in another order.
    np.testing.assert_allclose(again, np.stack(found[0], axis=1), rtol=0, atol=1e-6)


def test_a_chunk_may_be_overwritten_and_features_are_kept(tiny_checkpoint: Path) -> None:
    engine, chunk = load(tiny_checkpoint).engine, random_frames(1)
    batch = engine.prepare([chunk])
    chunk[:] = 0
    first, states = engine.run(batch, [None])
    kept = first["rgb"].copy()
    engine.run(engine.prepare([chunk]), states)
    np.testing.assert_array_equal(first["rgb"], kept)
    np.testing.assert_array_equal(first["rgb"], engine.run(batch, [None])[0]["rgb"])


def test_warming_up_leaves_no_trace(tiny_checkpoint: Path) -> None:
    frames, warm = random_frames(3), load(tiny_checkpoint)
    warm_up(warm.engine, [1, 2])
    np.testing.assert_array_equal(carried(warm, frames), carried(load(tiny_checkpoint), frames))


def test_a_kept_network_is_carried_without_torch(tiny_checkpoint: Path) -> None:
    load(tiny_checkpoint)  # converts it
    code = (
        "import sys, numpy as np\n"
        "from stream_i3d.config import ModelConfig, WindowConfig\n"
        "from stream_i3d.inference.backends import load_model\n"
        "from stream_i3d.inference.engine import warm_up\n"
        "from stream_i3d.inference.setup import settle_model\n"
        "window = WindowConfig(mode='streaming')\n"
        "config = ModelConfig(checkpoint=sys.argv[1], backend='openvino', threads=1)\n"
        "model = load_model(settle_model(config, window), 'streaming')\n"
        "warm_up(model.engine, [1])\n"
        "print(model.head.temperature, 'torch' in sys.modules, model.engine.description.startswith('OpenVINO'))\n"
    )
    assert printed_by(code, tiny_checkpoint) == f"{TINY.temperature} False True\n"


def test_both_modes_of_one_checkpoint_are_kept_apart(tiny_checkpoint: Path) -> None:
    for mode in ("window", "streaming", "window"):
        window = WindowConfig(mode=mode)  # type: ignore[arg-type]
        config = ModelConfig(checkpoint=str(tiny_checkpoint), backend="openvino", precision="fp32", threads=1)
        engine = load_model(settle_model(config, window), window.mode).engine
        assert engine.description.endswith("streaming") == (mode == "streaming")
        warm_up(engine, [1])


# --- exported files, and what is wrong with them


@pytest.fixture(scope="module")
def exported(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network's step as OpenVINO IR, as it is kept."""
    path = tmp_path_factory.mktemp("exported") / "tiny.xml"
    with kept_graph(settle_model(ModelConfig(checkpoint=str(tiny_checkpoint)), STREAMING), IR, "streaming") as kept:
        for suffix in (".xml", ".bin"):
            path.with_suffix(suffix).write_bytes(kept.with_suffix(suffix).read_bytes())
    return path


def test_an_exported_step_is_carried_as_its_checkpoint_is(exported: Path, tiny_checkpoint: Path) -> None:
    frames, model = random_frames(8), load(exported)
    assert (model.labels, model.head.temperature) == (tuple(LABELS), TINY.temperature)
    np.testing.assert_array_equal(carried(model, frames), carried(load(tiny_checkpoint), frames))


def test_labels_of_another_length_are_told(exported: Path) -> None:
    with pytest.raises(LabelsError):
        load(exported, labels="kinetics400")


def test_a_graph_of_windows_that_says_it_is_a_step_is_told(tiny_checkpoint: Path, tmp_path: Path) -> None:
    model, spec = load_checkpoint(tiny_checkpoint)
    path = tmp_path / "false.xml"
    metadata = graph_metadata(structs.replace(spec, mode="streaming"), encode_head(*head_arrays(model)))
    write_graph(make_program(model, spec.preprocessing), metadata, path)
    with pytest.raises(CheckpointError, match=r"false.xml' is no graph from 8 frames of 32 x 32 .*: export it again$"):
        load(path)


def test_a_step_of_another_size_than_it_says_is_told(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.xml"
    path.write_bytes(exported.read_bytes().replace(b"crop_size&quot;:32", b"crop_size&quot;:40"))
    path.with_suffix(".bin").write_bytes(exported.with_suffix(".bin").read_bytes())
    with pytest.raises(CheckpointError, match=r"other.xml' is no graph from 8 frames of 40 x 40"):
        load(path)


def test_a_step_without_its_weights_is_told(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "alone.xml"
    path.write_bytes(exported.read_bytes())
    with pytest.raises(CheckpointError, match=r"alone.xml' cannot be run by OpenVINO \(.*\): export it again$"):
        load(path)


def test_a_precision_that_the_cpu_lacks_is_told(tiny_checkpoint: Path) -> None:
    with pytest.raises(DeviceError, match=r"^precision 'fp16': cpu has .*fp32"):
        load(tiny_checkpoint, precision="fp16", backend="openvino")


def test_a_foreign_file_of_flow_is_told_once_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save(ruled(I3D(3, in_channels=2, width=1 / 64)).state_dict(), path)
    with pytest.raises(ConfigError, match=r"other\.pt is i3d of 2 channels: give an i3d checkpoint, or"):
        load(path, backend="openvino")


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt"])
def test_a_backend_that_carries_nothing_is_told(tiny_checkpoint: Path, backend: str) -> None:
    with pytest.raises(ConfigError, match=rf"backend '{backend}' does not run streaming mode: give one of torch, open"):
        load(tiny_checkpoint, backend=backend)
