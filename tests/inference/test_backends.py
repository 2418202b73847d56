from __future__ import annotations

import logging
import platform
from pathlib import Path

import pytest
import torch
from msgspec import structs

from stream_i3d.config import ModelConfig, WindowConfig
from stream_i3d.errors import ConfigError, DeviceError
from stream_i3d.inference import backends, torch_engine
from stream_i3d.inference.backends import BACKENDS, Backend, choose_backend, load_model
from stream_i3d.inference.setup import ModelSetup, StreamWeights
from stream_i3d.models.spec import ModelSpec
from stream_i3d.preprocess import Preprocessing


def setup_of(path: str = "weights.pt", architecture: str = "i3d", **model: object) -> ModelSetup:
    config = ModelConfig(checkpoint=path, name=architecture, **model)  # type: ignore[arg-type]
    spec = ModelSpec(num_classes=10, architecture=architecture)
    return ModelSetup(path=path, spec=spec, config=config, preprocessing=Preprocessing(), labels=None)


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(Backend, "installed", property(lambda self: self.name in ("torch", *names)))


@pytest.fixture(autouse=True)
def an_x86_machine_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(backends.ctypes.util, "find_library", lambda name: None)


def test_auto_takes_what_is_known_to_be_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "openvino", "onnxruntime")
    choice = choose_backend(setup_of())
    assert (choice.backend.name, choice.reason) == ("openvino", "faster than torch for i3d on a CPU")
    assert choose_backend(setup_of(architecture="i3d-r50", device="cpu")).backend.name == "openvino"


def test_auto_is_torch_where_nothing_else_is_known_to_be_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "openvino")
    choice = choose_backend(setup_of(architecture="c3d"))
    assert (choice.backend.name, choice.reason) == ("torch", "no other is known to run c3d faster here")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert choose_backend(setup_of()).backend.name == "torch"


def test_auto_is_torch_where_the_faster_one_is_not_installed_and_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch)
    choice = choose_backend(setup_of())
    assert choice.backend.name == "torch"
    assert choice.reason == ("openvino, which is faster here, is not installed (pip install 'stream-i3d[openvino]')")


def test_auto_is_torch_where_kernels_are_to_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "openvino")
    assert choose_backend(setup_of(compile=True)).backend.name == "torch"


def test_auto_is_torch_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "openvino")
    assert choose_backend(setup_of(device="cuda:0")).backend.name == "torch"
    monkeypatch.setattr(backends.ctypes.util, "find_library", lambda name: "libcuda.so.1")
    for device, name in (("cuda:0", "torch"), ("cpu", "openvino")):  # a driver without a GPU is no GPU
        monkeypatch.setattr(torch_engine, "choose_device", lambda asked, device=device: torch.device(device))
        assert choose_backend(setup_of()).backend.name == name


@pytest.mark.parametrize("name", ["openvino", "onnxruntime", "tensorrt"])
def test_one_that_is_asked_for_is_taken_or_told_how_to_install(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    install(monkeypatch, name)
    choice = choose_backend(setup_of(architecture="c3d", backend=name))
    assert (choice.backend.name, choice.reason) == (name, "asked for")
    install(monkeypatch)
    with pytest.raises(ConfigError, match=rf"^backend {name} is not installed: pip install 'stream-i3d\[{name}\]'$"):
        choose_backend(setup_of(backend=name))


@pytest.mark.parametrize(
    ("file", "asked", "installed", "chosen"),
    [
        ("m.xml", "auto", ["openvino", "onnxruntime"], "openvino"),
        ("m.onnx", "auto", ["openvino", "onnxruntime"], "onnxruntime"),
        ("m.onnx", "auto", ["openvino"], "openvino"),
        ("m.onnx", "openvino", ["openvino", "onnxruntime"], "openvino"),
        ("m.onnx", "tensorrt", ["onnxruntime", "tensorrt"], "tensorrt"),
    ],
)
def test_an_exported_file_is_run_by_what_reads_it(
    monkeypatch: pytest.MonkeyPatch, file: str, asked: str, installed: list[str], chosen: str
) -> None:
    install(monkeypatch, *installed)
    assert choose_backend(setup_of(file, backend=asked)).backend.name == chosen


@pytest.mark.parametrize(
    ("file", "asked", "message"),
    [
        ("m.xml", "torch", "^backend 'torch' does not run m.xml: give one of openvino, or auto$"),
        ("m.onnx", "torch", "does not run m.onnx: give one of onnxruntime, openvino, tensorrt, or auto"),
        ("m.xml", "auto", "^backend openvino is not installed: pip install"),
        ("m.onnx", "auto", "^backend onnxruntime is not installed: pip install"),
    ],
)
def test_an_exported_file_that_nothing_reads_is_told(
    monkeypatch: pytest.MonkeyPatch, file: str, asked: str, message: str
) -> None:
    install(monkeypatch)
    with pytest.raises(ConfigError, match=message):
        choose_backend(setup_of(file, backend=asked))


def test_two_streams_run_with_torch_only(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "openvino")
    both = structs.replace(setup_of(), flow=StreamWeights(path="flow.pt", spec=None))
    assert choose_backend(both).backend.name == "torch"
    asked = structs.replace(both, config=ModelConfig(backend="openvino"))
    with pytest.raises(ConfigError, match="backend 'openvino' does not run two-stream-i3d: give --backend torch"):
        choose_backend(asked)


@pytest.mark.parametrize(
    ("backend", "device", "message"),
    [
        ("openvino", "cuda:0", "^device 'cuda:0': backend openvino runs on cpu here; give that, or auto$"),
        ("onnxruntime", "gpu", "^device 'gpu': backend onnxruntime runs on cpu here"),
        ("tensorrt", "cpu", "^device 'cpu': backend tensorrt runs on cuda here"),
        ("tensorrt", "cuda:x", "^device 'cuda:x': backend tensorrt"),
    ],
)
def test_a_device_that_a_backend_does_not_run_on_is_told(
    monkeypatch: pytest.MonkeyPatch, backend: str, device: str, message: str
) -> None:
    install(monkeypatch, "openvino", "onnxruntime", "tensorrt")
    with pytest.raises(DeviceError, match=message):
        load_model(setup_of(backend=backend, device=device))


def test_an_onnx_runtime_without_tensorrt_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnxruntime is not installed")
    install(monkeypatch, "tensorrt")
    with pytest.raises(DeviceError, match=r"built without it: pip uninstall onnxruntime, then pip install 'stream-i3d"):
        load_model(setup_of(backend="tensorrt"))


def test_what_runs_and_why_is_logged(tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    from stream_i3d.inference.setup import settle_model

    setup = settle_model(ModelConfig(checkpoint=str(tiny_checkpoint), backend="torch", device="cpu"), WindowConfig())
    with caplog.at_level(logging.INFO, "stream_i3d"):
        model = load_model(setup)
    assert caplog.messages == [f"engine: {model.engine.description} (torch: asked for)"]


def test_every_backend_says_what_it_is() -> None:
    assert list(BACKENDS) == ["torch", "openvino", "onnxruntime", "tensorrt"]
    assert all(backend.what and backend.packages for backend in BACKENDS.values())
    assert BACKENDS["torch"].installed
