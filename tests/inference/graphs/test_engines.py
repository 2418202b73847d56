"""OpenVINO and ONNX Runtime behind the engine: the same function as the network, and one line for what is wrong."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from stream_i3d.config import ModelConfig, WindowConfig
from stream_i3d.errors import CheckpointError, ConfigError, DeviceError, LabelsError
from stream_i3d.inference.backends import load_model
from stream_i3d.inference.engine import LoadedModel, warm_up
from stream_i3d.inference.graphs.engine import check_signature
from stream_i3d.inference.graphs.openvino_engine import choose_cpu_precision
from stream_i3d.inference.setup import settle_model
from stream_i3d.inference.torch_engine import cpu_has_bf16
from stream_i3d.models.checkpoint import save_checkpoint
from stream_i3d.models.i3d import I3D
from stream_i3d.models.registry import build_model
from stream_i3d.scenes import LABELS
from tests.conftest import TINY
from tests.inference.exported import clips_of, export_to, logits_of, plain_logits

NEEDS = {"openvino": ("openvino",), "onnxruntime": ("onnxruntime", "onnx", "onnxscript")}
MISSING = {
    backend: missing
    for backend, packages in NEEDS.items()
    if (missing := [name for name in packages if importlib.util.find_spec(name) is None])
}
SUFFIX = {"openvino": ".xml", "onnxruntime": ".onnx"}
needs_bf16 = pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU has no bf16 in hardware")


def needs(backend: str) -> None:
    if backend in MISSING:
        pytest.skip(f"the extra {backend} is not installed: {', '.join(MISSING[backend])} missing")


@pytest.fixture(scope="session")
def exported(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function: backend -> the tiny network as a file that it reads."""
    folder = tmp_path_factory.mktemp("exported")

    def export(backend: str) -> Path:
        needs(backend)
        path = folder / f"tiny{SUFFIX[backend]}"
        return path if path.exists() else export_to(tiny_checkpoint, path)

    return export


@pytest.fixture(params=["openvino", "onnxruntime"])
def backend(request: pytest.FixtureRequest) -> str:
    needs(request.param)
    return str(request.param)


def load(path: Path, **model: object) -> LoadedModel:
    config = ModelConfig(checkpoint=str(path), **{"precision": "fp32", "threads": 1, **model})  # type: ignore[arg-type]
    return load_model(settle_model(config, WindowConfig()))


def test_a_graph_gives_what_the_network_gives_for_any_number_of_clips(
    exported: Callable[[str], Path], tiny_checkpoint: Path, backend: str
) -> None:
    model = load(exported(backend))
    kept = []
    for count in (1, 3, 2, 1):
        clips = clips_of(count, seed=count)
        wanted = plain_logits(tiny_checkpoint, clips)
        batch = model.engine.prepare(clips)
        for clip in clips:
            clip[:] = 0  # its memory may be overwritten now
        kept.append((model.engine.run(batch, [None] * count)[0], wanted))
    for features, wanted in kept:
        assert features["rgb"].dtype == np.float32
        logits = model.head(features).logits
        assert (logits.dtype, logits.shape) == (np.float32, wanted.shape)
        np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5)
        assert np.ptp(wanted) > 0.01  # or the comparison would say nothing


@needs_bf16
def test_openvino_in_bf16_is_close_to_the_network(exported: Callable[[str], Path], tiny_checkpoint: Path) -> None:
    model, clips = load(exported("openvino"), precision="auto"), clips_of(2)
    logits, wanted = logits_of(model, clips), plain_logits(tiny_checkpoint, clips)
    assert model.engine.description.endswith(", cpu, bf16")
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=0.05 * float(np.ptp(wanted)))
    assert np.abs(logits - wanted).max() > 1e-4 * float(np.ptp(wanted))  # bf16 it was


def test_an_exported_file_brings_its_labels_and_its_temperature(
    exported: Callable[[str], Path], backend: str, tmp_path: Path
) -> None:
    model = load(exported(backend))
    assert model.labels == tuple(LABELS)
    assert model.head.temperature == TINY.temperature
    setup = settle_model(ModelConfig(checkpoint=str(exported(backend))), WindowConfig())
    assert setup.preprocessing == TINY.preprocessing
    own = tmp_path / "own.txt"
    own.write_text("".join(f"action {number}\n" for number in range(10)))
    assert load(exported(backend), labels=str(own)).labels[3] == "action 3"
    with pytest.raises(LabelsError):
        load(exported(backend), labels="kinetics400")


def test_the_engine_says_what_it_is(exported: Callable[[str], Path], backend: str) -> None:
    name = {"openvino": "OpenVINO 2", "onnxruntime": "ONNX Runtime 1."}[backend]
    description = load(exported(backend)).engine.description
    assert description.startswith(name)
    assert description.endswith(", cpu, fp32")


def test_openvino_reads_onnx_too(exported: Callable[[str], Path], tiny_checkpoint: Path) -> None:
    needs("openvino")
    model, clips = load(exported("onnxruntime"), backend="openvino"), clips_of(2)
    assert model.engine.description.startswith("OpenVINO")
    np.testing.assert_allclose(logits_of(model, clips), plain_logits(tiny_checkpoint, clips), rtol=0, atol=1e-5)


def test_warming_up_runs_each_batch_size_at_the_networks_own_size(
    exported: Callable[[str], Path], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(exported(backend)).engine
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(engine, "run", lambda clips, states: seen.append(clips.shape))
    warm_up(engine, [1, 3])
    assert seen == [(1, 16, 32, 32, 3), (3, 16, 32, 32, 3)]


def test_a_precision_that_a_backend_lacks_is_told(exported: Callable[[str], Path], backend: str) -> None:
    with pytest.raises(DeviceError, match=r"^precision 'fp16': .* has .*fp32"):
        load(exported(backend), precision="fp16")


def test_openvino_runs_bf16_only_where_the_cpu_has_it() -> None:
    assert choose_cpu_precision("auto", True) == "bf16"
    assert choose_cpu_precision("auto", False) == "fp32"
    assert choose_cpu_precision("fp32", True) == "fp32"
    with pytest.raises(DeviceError, match=r"^precision 'bf16': cpu has fp32; use one of them, or auto$"):
        choose_cpu_precision("bf16", False)


def test_another_clip_length_than_the_exported_one_is_told(exported: Callable[[str], Path], backend: str) -> None:
    config = ModelConfig(checkpoint=str(exported(backend)))
    assert settle_model(config, WindowConfig(frame_interval=2)).preprocessing.frame_interval == 2
    with pytest.raises(ConfigError, match=r"^window.clip_len 24: tiny\..* was exported for 16 frames; leave it out"):
        settle_model(config, WindowConfig(clip_len=24))


def test_another_architecture_than_the_exported_one_is_told(exported: Callable[[str], Path], backend: str) -> None:
    with pytest.raises(ConfigError, match="is of architecture 'i3d'"):
        settle_model(ModelConfig(checkpoint=str(exported(backend)), name="c3d"), WindowConfig())


def test_a_graph_without_its_weights_is_told(exported: Callable[[str], Path], tmp_path: Path) -> None:
    whole = exported("openvino")
    alone = tmp_path / "alone.xml"
    alone.write_bytes(whole.read_bytes())
    with pytest.raises(
        CheckpointError, match=r"alone.xml' cannot be run by OpenVINO \(.*\): export it again$"
    ) as caught:
        load(alone)
    assert "\n" not in str(caught.value)
    alone.with_suffix(".bin").write_bytes(whole.with_suffix(".bin").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"alone.xml' cannot be run by OpenVINO"):
        load(alone)


def test_a_graph_that_is_damaged_where_its_spec_is_not_is_told(exported: Callable[[str], Path], tmp_path: Path) -> None:
    needs("onnxruntime")
    import onnx

    model = onnx.load(exported("onnxruntime"))
    model.graph.node[-1].op_type = "NoSuchThing"
    path = tmp_path / "damaged.onnx"
    onnx.save(model, path)
    with pytest.raises(
        CheckpointError, match=r"damaged.onnx' cannot be run by ONNX Runtime \(This is an invalid model.*NoSuch"
    ) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_graph_of_another_shape_than_it_says_is_told() -> None:
    check_signature([16, 32, 32, 3], [1, 1, 64], TINY, "tiny.xml")
    for inputs, outputs in (([16, 32, 32, 2], [1, 1, 64]), ([16, 32, 32, 3], [10]), (["T", 32, 32, 3], [1, 1, 64])):
        with pytest.raises(CheckpointError, match=r"^checkpoint 'tiny.xml' says that it turns .*: export it again$"):
            check_signature(inputs, outputs, TINY, "tiny.xml")


def test_a_graph_whose_spec_was_exchanged_is_told(
    exported: Callable[[str], Path], tmp_path: Path, backend: str
) -> None:
    source = exported(backend)
    path = tmp_path / source.name
    path.write_bytes(
        source.read_bytes()
        .replace(b'crop_size":32', b'crop_size":48')
        .replace(b"crop_size&quot;:32", b"crop_size&quot;:48")
        .replace(b'short_side":40', b'short_side":64')
        .replace(b"short_side&quot;:40", b"short_side&quot;:64")
    )
    if source.with_suffix(".bin").exists():
        path.with_suffix(".bin").write_bytes(source.with_suffix(".bin").read_bytes())
    with pytest.raises(
        CheckpointError, match=r"says that it turns \(16, 48, 48, 3\) into a map of features, but its graph"
    ):
        load(path)


def test_a_network_of_flow_is_told_where_to_go(tmp_path: Path) -> None:
    needs("openvino")
    checkpoint = tmp_path / "flow.safetensors"
    spec = structs.replace(TINY, in_channels=2)
    save_checkpoint(checkpoint, I3D(10, in_channels=2, width=TINY.width).eval(), spec)
    path = export_to(checkpoint, tmp_path / "flow.xml")
    with pytest.raises(CheckpointError, match=r"flow.xml takes 2 channels, a picture has 3: .* --flow-checkpoint"):
        load(path)


AGAIN = """
import sys
from stream_i3d.config import ModelConfig, WindowConfig
from stream_i3d.inference.backends import load_model
from stream_i3d.inference.engine import warm_up
from stream_i3d.inference.setup import settle_model

engine = load_model(settle_model(ModelConfig(checkpoint=sys.argv[1], backend="openvino"), WindowConfig())).engine
warm_up(engine, [1])
assert "torch" not in sys.modules, "torch was imported"
assert sys.modules["openvino_telemetry"] is None, "OpenVINO may send telemetry"
print(engine.description)
"""


def test_a_checkpoint_is_converted_once_and_then_runs_without_torch(tiny_checkpoint: Path) -> None:
    needs("openvino")
    clips = clips_of(2)
    model = load(tiny_checkpoint, backend="openvino")
    np.testing.assert_allclose(logits_of(model, clips), plain_logits(tiny_checkpoint, clips), rtol=0, atol=1e-5)
    again = subprocess.run(
        [sys.executable, "-c", AGAIN, str(tiny_checkpoint)], env=os.environ, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("OpenVINO")


def test_onnx_runtime_converts_a_checkpoint_too(tiny_checkpoint: Path) -> None:
    needs("onnxruntime")
    clips = clips_of(1)
    model = load(tiny_checkpoint, backend="onnxruntime")
    np.testing.assert_allclose(logits_of(model, clips), plain_logits(tiny_checkpoint, clips), rtol=0, atol=1e-5)


def test_without_the_converters_onnx_runtime_says_what_it_needs(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("onnxruntime")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnx" else found(name, *rest))
    with pytest.raises(
        ConfigError, match=r"^backend onnxruntime needs onnx to convert weights: pip install 'stream-i3d"
    ):
        load(tiny_checkpoint, backend="onnxruntime")


def test_a_network_that_cannot_be_converted_is_told(tmp_path: Path) -> None:
    needs("openvino")
    made = structs.replace(TINY.preprocessing, crop_size=32, short_side=32)
    options = {"clip_len": 16, "crop_size": 32}
    spec = structs.replace(TINY, architecture="c3d", options=options, width=1 / 64, preprocessing=made)
    checkpoint = tmp_path / "c3d.safetensors"
    save_checkpoint(checkpoint, build_model("c3d", num_classes=10, width=1 / 64, **options).eval(), spec)
    with pytest.raises(
        CheckpointError, match=r"^OpenVINO cannot convert this network \(.+\): run it with --backend torch$"
    ):
        load(checkpoint, backend="openvino", name="c3d")


def test_an_exported_network_is_no_stream_of_two(exported: Callable[[str], Path], tiny_checkpoint: Path) -> None:
    config = ModelConfig(name="two-stream", checkpoint=str(tiny_checkpoint), flow_checkpoint=str(exported("openvino")))
    with pytest.raises(
        CheckpointError, match=r"^checkpoint tiny.xml is an exported network, which runs alone: for flow"
    ):
        settle_model(config, WindowConfig())


SIGNALLED = """
import signal, sys
from pathlib import Path
from stream_i3d.inference.graphs.file import read_graph_spec
from stream_i3d.inference.graphs.openvino_engine import OpenVinoEngine, has_bf16

heard, path = [], Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
engines = [OpenVinoEngine(path, read_graph_spec(path), "fp32", 0, None) for _ in range(3)]
has_bf16()
while engines:
    del engines[0]
signal.raise_signal(signal.SIGTERM)
print(heard)
"""


def test_a_process_whose_openvino_networks_have_gone_can_still_be_signalled(
    exported: Callable[[str], Path],
) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, exported("openvino")], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[1]\n"), done.stderr
