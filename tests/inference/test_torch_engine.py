from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import structs
from numpy.typing import NDArray

from stream_i3d.config import ModelConfig, Precision, WindowConfig
from stream_i3d.errors import CheckpointError, ConfigError, DeviceError, LabelsError
from stream_i3d.inference import torch_engine
from stream_i3d.inference.backends import load_model
from stream_i3d.inference.engine import Batch, LoadedModel, State, warm_up
from stream_i3d.inference.setup import ModelSetup, settle_model
from stream_i3d.inference.torch_engine import (
    TorchEngine,
    choose_device,
    choose_precision,
    cpu_has_bf16,
    head_of,
    set_threads,
)
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.registry import build_model
from stream_i3d.models.resnet_i3d import ResNetI3D
from stream_i3d.models.spec import ModelSpec
from stream_i3d.preprocess import Preprocessing
from stream_i3d.recognition.head import Features, PublishedHead
from stream_i3d.scenes import LABELS
from tests.inference.exported import logits_of

CPU = torch.device("cpu")
Clips = list[NDArray[np.uint8]]
needs_bf16 = pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU has no bf16 in hardware")


def setup_of(checkpoint: Path, **model: object) -> ModelSetup:
    given = {"backend": "torch", "precision": "fp32", **model}
    config = ModelConfig(checkpoint=str(checkpoint), device="cpu", **given)  # type: ignore[arg-type]
    return settle_model(config, WindowConfig())


def random_clips(count: int, seed: int = 0) -> Clips:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, (16, 32, 32, 3), np.uint8) for _ in range(count)]


def plain_logits(checkpoint: Path, clips: Clips) -> NDArray[np.float32]:
    """The published recipe, written out once more: pixels to [-1, 1], channels first, the network as it is."""
    network, _ = load_checkpoint(checkpoint)
    pixels = np.stack(clips).astype(np.float32).transpose(0, 4, 1, 2, 3)
    with torch.no_grad():
        return network(torch.from_numpy((pixels - 127.5) / 127.5)).numpy()


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_auto_is_the_cpu() -> None:
    assert choose_device("auto") == CPU
    assert choose_device("cpu") == CPU


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["cuda:9", "cuda", "cuda:0", "gpu", "", "cpu:1"])
def test_a_device_this_machine_lacks_is_told_with_those_it_has(name: str) -> None:
    with pytest.raises(DeviceError, match=rf"^device '{name}': this machine has cpu; use one of them, or auto$"):
        choose_device(name)


@pytest.mark.usefixtures("two_gpus")
def test_with_gpus_auto_and_cuda_are_the_first() -> None:
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda:0")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert choose_device("cpu") == CPU
    with pytest.raises(DeviceError, match="this machine has cpu, cuda:0, cuda:1;"):
        choose_device("cuda:9")


@pytest.mark.parametrize(("bf16", "best", "allowed"), [(True, "bf16", "bf16, fp32"), (False, "fp32", "fp32")])
def test_a_cpu_runs_bf16_only_where_it_has_it_in_hardware(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, best: str, allowed: str
) -> None:
    monkeypatch.setattr(torch_engine, "cpu_has_bf16", lambda: bf16)
    assert choose_precision("auto", CPU) == best
    assert choose_precision("fp32", CPU) == "fp32"
    with pytest.raises(DeviceError, match=f"^precision 'fp16': cpu has {allowed}; use one of them, or auto$"):
        choose_precision("fp16", CPU)


def test_bf16_on_a_cpu_that_would_emulate_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_engine, "cpu_has_bf16", lambda: False)
    with pytest.raises(DeviceError, match="precision 'bf16': cpu has fp32"):
        choose_precision("bf16", CPU)


@pytest.mark.parametrize(("bf16", "best", "all_of_them"), [(True, "bf16", 3), (False, "fp16", 2)])
def test_a_gpu_prefers_bf16_and_falls_back_to_fp16(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, best: str, all_of_them: int
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    gpu = torch.device("cuda:0")
    assert choose_precision("auto", gpu) == best
    every: list[Precision] = ["bf16", "fp16", "fp32"]
    assert [choose_precision(precision, gpu) for precision in every[-all_of_them:]] == every[-all_of_them:]


def test_in_fp32_the_engine_is_the_plain_network(tiny_checkpoint: Path) -> None:
    clips = random_clips(2)
    logits = logits_of(load_model(setup_of(tiny_checkpoint)), clips)
    assert (logits.dtype, logits.shape) == (np.float32, (2, 10))
    np.testing.assert_allclose(logits, plain_logits(tiny_checkpoint, clips), rtol=0, atol=1e-6)
    assert np.ptp(logits) > 0.01  # or the comparison would say nothing


@needs_bf16
def test_in_bf16_the_engine_is_close_to_the_plain_network(tiny_checkpoint: Path) -> None:
    clips = random_clips(2)
    logits = logits_of(load_model(setup_of(tiny_checkpoint, precision="bf16")), clips)
    plain = plain_logits(tiny_checkpoint, clips)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, plain, rtol=0, atol=0.05 * float(np.ptp(plain)))
    assert np.abs(logits - plain).max() > 1e-4 * float(np.ptp(plain))  # bf16 it was


def test_a_batch_gives_what_its_clips_give_one_by_one(tiny_checkpoint: Path) -> None:
    model, clips = load_model(setup_of(tiny_checkpoint)), random_clips(3)
    together = logits_of(model, clips)
    alone = np.concatenate([logits_of(model, [clip]) for clip in clips])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)
    assert np.abs(np.diff(together, axis=0)).max() > 1e-4  # the clips differ


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=needs_bf16)])
@pytest.mark.parametrize("count", [1, 2])
def test_a_clip_may_be_overwritten_once_it_is_prepared(tiny_checkpoint: Path, count: int, precision: str) -> None:
    model, clips = load_model(setup_of(tiny_checkpoint, precision=precision)), random_clips(count)
    before = logits_of(model, clips)
    batch = model.engine.prepare(clips)
    for clip in clips:
        clip[:] = 0
    features, _ = model.engine.run(batch, [None] * count)
    np.testing.assert_array_equal(model.head(features).logits, before)


def test_clips_that_are_views_with_a_gap_are_taken(tiny_checkpoint: Path) -> None:
    ring = random_clips(2)
    frames = np.concatenate(ring)  # 32 frames, every second one is a clip
    model = load_model(setup_of(tiny_checkpoint))
    spaced, copied = frames[::2], np.ascontiguousarray(frames[::2])
    np.testing.assert_array_equal(logits_of(model, [spaced]), logits_of(model, [copied]))


def test_features_outlive_the_next_batch(tiny_checkpoint: Path) -> None:
    engine = load_model(setup_of(tiny_checkpoint)).engine
    first, _ = engine.run(engine.prepare(random_clips(1, seed=1)), [None])
    kept = first["rgb"].copy()
    engine.run(engine.prepare(random_clips(1, seed=2)), [None])
    np.testing.assert_array_equal(first["rgb"], kept)


def test_warming_up_runs_each_batch_size_at_the_networks_own_size(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load_model(setup_of(tiny_checkpoint)).engine
    shapes: list[tuple[int, ...]] = []
    real = engine.run

    def heard(batch: Batch, states: Sequence[State]) -> tuple[Features, list[State]]:
        shapes.append(tuple(batch.shape))
        return real(batch, states)

    monkeypatch.setattr(engine, "run", heard)
    warm_up(engine, [1, 3])
    assert shapes == [(1, 3, 16, 32, 32), (3, 3, 16, 32, 32)]


def test_the_engine_says_what_it_is(tiny_checkpoint: Path) -> None:
    description = load_model(setup_of(tiny_checkpoint)).engine.description
    assert description.startswith("torch 2.")
    assert description.endswith("cpu, fp32, BatchNorm folded")


def test_the_temperature_comes_with_the_checkpoint_and_leaves_the_logits_alone(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    network, spec = load_checkpoint(tiny_checkpoint)
    path = tmp_path / "calibrated.safetensors"
    save_checkpoint(path, network, structs.replace(spec, temperature=1.75))
    plain, calibrated = load_model(setup_of(tiny_checkpoint)), load_model(setup_of(path))
    assert (plain.head.temperature, calibrated.head.temperature) == (1.0, 1.75)
    clips = random_clips(1)
    np.testing.assert_array_equal(logits_of(calibrated, clips), logits_of(plain, clips))


@needs_bf16
def test_a_network_of_single_pictures_runs_in_bf16_too() -> None:
    torch.manual_seed(0)
    network = build_model("convnet-lstm", num_classes=3, width=1 / 64)
    spec = ModelSpec(
        architecture="convnet-lstm", num_classes=3, preprocessing=Preprocessing(short_side=32, crop_size=32)
    )
    head = PublishedHead({"rgb": head_of(network, spec, ("a", "b", "c"))})
    precisions: list[Precision] = ["fp32", "bf16"]
    results = [
        logits_of(LoadedModel(TorchEngine(network, spec, CPU, precision), head), random_clips(1))
        for precision in precisions
    ]
    np.testing.assert_allclose(results[1], results[0], rtol=0.05)


def test_labels_come_with_the_checkpoint(tiny_checkpoint: Path) -> None:
    assert load_model(setup_of(tiny_checkpoint)).labels == tuple(LABELS)


def test_labels_that_are_asked_for_replace_the_checkpoints(tiny_checkpoint: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("\n".join(f"action {number}" for number in range(10)))
    assert load_model(setup_of(tiny_checkpoint, labels=str(own))).labels == tuple(f"action {n}" for n in range(10))


def test_a_foreign_checkpoint_without_labels_gets_numbered_ones(tiny_checkpoint: Path, tmp_path: Path) -> None:
    foreign = foreign_checkpoint(tiny_checkpoint, tmp_path)
    setup = structs.replace(setup_of(foreign), preprocessing=setup_of(tiny_checkpoint).preprocessing)
    assert load_model(setup).labels == tuple(f"class {number}" for number in range(10))


def test_labels_of_another_length_than_a_foreign_head_are_told(tiny_checkpoint: Path, tmp_path: Path) -> None:
    foreign = foreign_checkpoint(tiny_checkpoint, tmp_path)
    with pytest.raises(LabelsError, match="400 labels do not fit a network of 10 classes"):
        load_model(setup_of(foreign, labels="kinetics400"))


def test_an_unknown_name_is_told_before_a_foreign_checkpoint_is_read(tmp_path: Path) -> None:
    random_bytes = tmp_path / "noise.pt"
    random_bytes.write_bytes(np.random.default_rng(0).bytes(1000))
    with pytest.raises(ConfigError, match=r"no architecture 'i3x' \(did you mean 'i3d'\?\): give one of i3d"):
        load_model(setup_of(random_bytes, name="i3x"))


def test_a_foreign_resnet_gets_the_preprocessing_of_its_name_and_is_not_taken_for_an_inception(tmp_path: Path) -> None:
    path = tmp_path / "epoch_100.pth"
    network = ResNetI3D(5, width=1 / 16).eval()
    torch.save({"state_dict": network.state_dict(), "meta": {}}, path)
    setup = setup_of(path, name="i3d-r50")
    assert (setup.preprocessing.clip_len, setup.preprocessing.frame_interval) == (32, 2)
    clip = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    pixels = (clip.astype(np.float32) - setup.preprocessing.mean) / setup.preprocessing.std
    with torch.no_grad():
        expected = network(torch.from_numpy(pixels.transpose(3, 0, 1, 2)[None]).float()).numpy()
    np.testing.assert_allclose(logits_of(load_model(setup), [clip]), expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(CheckpointError, match="of architecture i3d-r50 or i3d-r50-8x8, but 'i3d' was asked for"):
        load_model(setup_of(path))


def test_a_checkpoint_of_random_bytes_is_told(tmp_path: Path) -> None:
    random_bytes = tmp_path / "noise.pt"
    random_bytes.write_bytes(np.random.default_rng(0).bytes(1000))
    with pytest.raises(CheckpointError, match=r"noise\.pt' is damaged, or holds more than tensors"):
        load_model(setup_of(random_bytes))


def test_a_device_that_is_not_there_is_told_before_the_weights_are_read(tmp_path: Path) -> None:
    random_bytes = tmp_path / "noise.pt"
    random_bytes.write_bytes(b"noise")
    with pytest.raises(DeviceError, match="cuda:9"):
        load_model(settle_model(ModelConfig(checkpoint=str(random_bytes), device="cuda:9"), WindowConfig()))


def test_the_number_of_threads_is_torchs(tiny_checkpoint: Path) -> None:
    before = torch.get_num_threads()
    try:
        load_model(setup_of(tiny_checkpoint, threads=1))
        assert torch.get_num_threads() == 1
        torch.set_num_threads(2)
        load_model(setup_of(tiny_checkpoint, threads=0))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def foreign_checkpoint(tiny_checkpoint: Path, folder: Path) -> Path:
    """The tiny network as another program would save it: tensors only."""
    network, _ = load_checkpoint(tiny_checkpoint)
    path = folder / "foreign.pt"
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.parametrize(("environment", "threads"), [({}, 1), ({"OMP_NUM_THREADS": "3"}, 3)])
def test_torch_takes_the_cores_it_may_have_unless_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], threads: int
) -> None:
    monkeypatch.setattr(torch_engine, "allowed_cores", lambda: 1)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    torch.set_num_threads(3)  # as it counted them at its start
    set_threads(0)
    assert torch.get_num_threads() == threads
    set_threads(2)
    assert torch.get_num_threads() == 2


def test_torch_compiles_where_it_is_asked_to(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch, "compile", lambda network: (compiled.append(network), network)[1])
    clips = random_clips(1)
    plain = load_model(setup_of(tiny_checkpoint))
    assert not compiled
    model = load_model(setup_of(tiny_checkpoint, compile=True))
    assert len(compiled) == 1
    assert model.engine.description == f"{plain.engine.description}, compiled"
    np.testing.assert_array_equal(logits_of(model, clips), logits_of(plain, clips))
    assert not caplog.records


def test_where_nothing_is_compiled_though_it_was_asked_for_that_is_told(
    tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = ModelConfig(checkpoint=str(tiny_checkpoint), device="cpu", precision="fp32", compile=True)
    load_model(settle_model(config, WindowConfig(mode="streaming")), "streaming")
    assert ["model.compile has no effect" in record.message for record in caplog.records] == [True]
