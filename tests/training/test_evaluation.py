from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import structs
from torch import Tensor

from stream_i3d.errors import CheckpointError, ConfigError, DeviceError
from stream_i3d.models.checkpoint import load_checkpoint, save_checkpoint
from stream_i3d.models.registry import build_model
from stream_i3d.models.spec import ModelSpec
from stream_i3d.preprocess import Preprocessing
from stream_i3d.recognition.head import softmax
from stream_i3d.scenes import LABELS
from stream_i3d.training.config import TrainConfig
from stream_i3d.training.evaluation import Network, evaluate, load_network, score_videos, videos_for, with_clips
from stream_i3d.training.loading import Sample, SampleKey
from stream_i3d.training.metrics import measure
from tests.inference.two_stream import save_stream
from tests.training.clips import write_video
from tests.training.toy import ToyDataset, toy_config

SETTINGS: dict[str, dict[str, Any]] = {
    "clip": {"test_clips": 2, "test_crops": 1},
    "run": {"precision": "fp32"},
}


def config_of(**sections: dict[str, Any]) -> TrainConfig:
    return toy_config(**{**SETTINGS, **{name: {**SETTINGS.get(name, {}), **own} for name, own in sections.items()}})


class Toy(ToyDataset):
    """A toy data set with names; item `bad` is unreadable and replaced by item 0."""

    def __init__(self, items: int = 6, clips: int = 2, bad: int | None = None, streams: tuple[str, ...] = ("rgb",)):
        super().__init__(items, streams, clips)
        self.names = tuple(f"{index}.mp4" for index in range(items))
        self.skipped = (("lost.mp4", "no video"),)
        self._bad = bad

    def __getitem__(self, key: SampleKey) -> Sample:
        return super().__getitem__(SampleKey(0, 0) if key.index == self._bad else key)


class FakeNetwork:
    """Gives the brightness of a clip's first pixels in the first and the second channel as logits."""

    device = torch.device("cpu")
    precision = "fp32"
    labels = ToyDataset.labels
    streams = ("rgb",)
    description = "fake"
    name = "fake.safetensors"

    def __init__(self, temperature: float = 1.0) -> None:
        self.preprocessing = Preprocessing(clip_len=8, short_side=32, crop_size=32)
        self.spec = ModelSpec(num_classes=2, labels=self.labels, temperature=temperature)
        self.calls: list[int] = []

    def logits(self, clips: Mapping[str, Tensor]) -> Tensor:
        assert clips["rgb"].ndim == 5
        assert clips["rgb"].dtype == torch.uint8
        self.calls.append(len(clips["rgb"]))
        return clips["rgb"][:, 0, 0, :4, :2].float().mean(dim=1) / 20


def logits_by_hand(dataset: Toy) -> Tensor:
    """(videos, clips, classes), one video after another."""
    network = FakeNetwork()
    return torch.stack(
        [network.logits({"rgb": dataset[SampleKey(0, index)]["clips"]["rgb"]}) for index in range(len(dataset))]
    )


@pytest.mark.parametrize("average", ["prob", "score"])
def test_a_videos_clips_are_averaged_as_configured(average: Any) -> None:
    dataset, network = Toy(clips=4), FakeNetwork(temperature=2.0)
    scored = score_videos(network, dataset, config_of(), average)  # type: ignore[arg-type]
    logits = logits_by_hand(dataset)
    wanted = (logits / 2).softmax(dim=2).mean(dim=1) if average == "prob" else logits.mean(dim=1)
    torch.testing.assert_close(scored.scores, wanted)
    torch.testing.assert_close(scored.single, logits[:, 2])
    assert scored.indices == tuple(range(6))
    assert scored.targets.tolist() == [0, 1, 0, 1, 0, 1]


def test_videos_are_batched_by_how_many_clips_they_have_and_none_is_seen_twice() -> None:
    network = FakeNetwork()
    told: list[tuple[int, int]] = []
    score_videos(
        network,  # type: ignore[arg-type]
        Toy(items=6, clips=2),
        config_of(),
        "prob",
        lambda done, total: told.append((done, total)),
    )
    assert network.calls == [8, 4]
    assert told == [(4, 6), (6, 6)]


def test_an_evaluation_has_metrics_protocol_and_each_video() -> None:
    dataset, network = Toy(), FakeNetwork()
    found = evaluate(network, dataset, config_of(), data="val.csv")  # type: ignore[arg-type]
    assert found.metrics["acc@1"] == found.clip_metrics["acc@1"] == 1.0
    assert set(found.metrics) == {"acc@1", "acc@5", "mean_class_accuracy", "nll", "ece"}
    assert (found.checkpoint, found.data, found.labels) == ("fake.safetensors", "val.csv", ("first", "second"))
    assert [video.video for video in found.videos] == [f"{index}.mp4" for index in range(6)]
    assert all(video.correct and video.label == video.predicted for video in found.videos)
    assert (found.protocol.clips, found.protocol.crops, found.protocol.average) == (2, 1, "prob")
    assert found.protocol.clip == "8 frames at 25 frames/s, 32 x 32"
    torch.testing.assert_close(found.scores, logits_by_hand(dataset).softmax(dim=2).mean(dim=1))
    assert found.metrics == pytest.approx(measure(found.scores, found.targets), abs=1e-6)
    assert sum(one.count for one in found.reliability) == 6
    assert [(one.video, one.reason) for one in found.skipped] == [("lost.mp4", "no video")]


def test_only_the_named_metrics_are_computed() -> None:
    found = evaluate(FakeNetwork(), Toy(), config_of(), names=["mean_class_accuracy"])  # type: ignore[arg-type]
    assert set(found.metrics) == set(found.clip_metrics) == {"mean_class_accuracy"}


def test_averaged_scores_are_made_probabilities_at_the_temperature() -> None:
    calm = evaluate(FakeNetwork(4.0), Toy(), config_of(), average="score")  # type: ignore[arg-type]
    probabilities = (calm.scores / 4).softmax(dim=1)
    assert calm.metrics["nll"] == pytest.approx(measure(probabilities, calm.targets)["nll"], rel=1e-6)
    assert calm.temperature == 4.0


def test_a_video_that_becomes_unreadable_is_skipped_and_its_substitute_counts_once() -> None:
    found = evaluate(FakeNetwork(), Toy(bad=3), config_of(), data="val.csv")  # type: ignore[arg-type]
    assert [video.video for video in found.videos] == ["0.mp4", "1.mp4", "2.mp4", "4.mp4", "5.mp4"]
    assert [one.video for one in found.skipped] == ["lost.mp4", "3.mp4"]


# --- real networks


def saved(path: Path, name: str, labels: tuple[str, ...], preprocessing: Preprocessing, **options: Any) -> Path:
    torch.manual_seed(0)
    in_channels = 2 if name == "i3d-flow" else 3
    model = build_model(name, num_classes=len(labels), width=1 / 64, **options)
    spec = ModelSpec(
        architecture=name,
        num_classes=len(labels),
        in_channels=in_channels,
        width=1 / 64,
        labels=labels,
        preprocessing=preprocessing,
    )
    save_checkpoint(path, model.eval(), spec)
    return path


TINY = Preprocessing(clip_len=8, short_side=32, crop_size=32)


def test_the_network_is_run_as_it_is(tiny_checkpoint: Path) -> None:
    network = load_network(str(tiny_checkpoint), toy_config(run={"precision": "fp32"}, clip={"clip_len": 16}))
    clips = torch.randint(0, 256, (11, 16, 32, 32, 3), dtype=torch.uint8)
    plain, _ = load_checkpoint(tiny_checkpoint)
    with torch.no_grad():
        wanted = plain(clips.permute(0, 4, 1, 2, 3) / 127.5 - 1)
    found = network.logits({"rgb": clips})
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    assert network.labels == tuple(LABELS)
    live = network.live_model("window")
    features, _ = live.engine.run(live.engine.prepare([clip.numpy() for clip in clips]), [None] * len(clips))
    torch.testing.assert_close(torch.from_numpy(live.head(features).logits), wanted, rtol=0, atol=1e-5)


def test_where_a_map_is_larger_than_the_pool_its_edges_count_as_in_the_network(tmp_path: Path) -> None:
    large = Preprocessing(clip_len=24, short_side=288, crop_size=288)  # a map of 9 x 9 places at 3 steps
    path = saved(tmp_path / "large.safetensors", "i3d", ("a", "b"), large)
    network = load_network(str(path), config_of(clip={"clip_len": 24, "short_side": 288, "crop_size": 288}))
    clips = torch.randint(0, 256, (1, 24, 288, 288, 3), dtype=torch.uint8)
    with torch.no_grad():
        wanted = load_checkpoint(path)[0](clips.permute(0, 4, 1, 2, 3) / 127.5 - 1)
    model = network.live_model("window")
    features, _ = model.engine.run(model.engine.prepare([clips[0].numpy()]), [None])
    assert features["rgb"].shape[:3] == (1, 9, 9)
    for found in (network.logits({"rgb": clips}), torch.from_numpy(model.head(features).logits)):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


def test_settings_of_the_clip_lie_over_the_checkpoints(tiny_checkpoint: Path) -> None:
    network = load_network(str(tiny_checkpoint), toy_config(clip={"clip_len": 24, "frame_interval": 2}))
    assert (network.preprocessing.clip_len, network.preprocessing.frame_interval) == (24, 2)


@pytest.mark.parametrize("name", ["i3d-flow", "i3d"])
def test_a_flow_network_sees_codes_of_flow_whatever_rgb_is_normalised_by(tmp_path: Path, name: str) -> None:
    imagenet = structs.replace(TINY, mean=(120.0, 110.0, 100.0), std=(60.0, 57.0, 58.0))
    if name == "i3d":
        path = save_stream(tmp_path / "flow.safetensors", 2, seed=1, preprocessing=imagenet)
    else:
        path = saved(tmp_path / "flow.safetensors", "i3d-flow", ("a", "b"), imagenet)
    network = load_network(str(path), config_of())
    assert network.streams == ("flow",)
    clips = torch.randint(0, 256, (2, 8, 32, 32, 2), dtype=torch.uint8)
    with torch.no_grad():
        wanted = load_checkpoint(path)[0](clips.permute(0, 4, 1, 2, 3) / 127.5 - 1)
    torch.testing.assert_close(network.logits({"flow": clips}), wanted, rtol=0, atol=1e-5)
    with pytest.raises(ConfigError, match=r"flow\.safetensors sees flow: .* leave out --streaming"):
        network.live_model("window")


@pytest.mark.parametrize("name", ["two-stream-i3d", "two-stream", "convnet-lstm"])
def test_networks_of_other_inputs_are_run_too(tmp_path: Path, name: str) -> None:
    frames = 10 if name == "two-stream" else 8
    path = saved(tmp_path / "own.safetensors", name, ("a", "b"), structs.replace(TINY, clip_len=frames))
    network = load_network(str(path), toy_config(clip={"clip_len": frames}))
    generator = torch.Generator().manual_seed(0)
    clips = {
        stream: torch.randint(0, 256, (3, frames, 32, 32, channels), dtype=torch.uint8, generator=generator)
        for stream, channels in (("rgb", 3), ("flow", 2))
    }
    with torch.no_grad():
        inputs = [clips[stream].permute(0, 4, 1, 2, 3) / 127.5 - 1 for stream in network.streams]
        wanted = load_checkpoint(path)[0](*inputs)
    tolerance = 1e-3 if network.precision == "fp32" else 0.1
    torch.testing.assert_close(network.logits(clips), wanted, rtol=0, atol=tolerance * float(wanted.std()))


def test_a_missing_device_and_a_missing_file_are_errors(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="device 'cuda:99'"):
        load_network(str(tiny_checkpoint), toy_config(run={"device": "cuda:99"}))
    with pytest.raises(CheckpointError, match="does not exist"):
        load_network(str(tmp_path / "none.safetensors"), toy_config())


# --- real data


def scenes(tiny_checkpoint: Path, **clip: Any) -> tuple[Network, TrainConfig]:
    config = toy_config(
        data={"source": "scenes", "scenes": {"held_out": 10, "size": [64, 48]}},
        clip={"clip_len": None, "short_side": None, "crop_size": None, **clip},
        run={"precision": "fp32"},
    )
    return load_network(str(tiny_checkpoint), config), config


def test_generated_scenes_are_one_clip_each(tiny_checkpoint: Path) -> None:
    network, config = scenes(tiny_checkpoint, test_clips=10, test_crops=3)
    dataset = videos_for(network, config, None)
    found = evaluate(network, dataset, config)
    assert (found.protocol.clips, found.protocol.crops, found.data) == (1, 1, "held-out scenes")
    assert [video.label for video in found.videos] == list(LABELS)
    assert found.metrics == found.clip_metrics
    logits = network.logits({"rgb": torch.cat([dataset[SampleKey(0, index)]["clips"]["rgb"] for index in range(10)])})
    torch.testing.assert_close(found.scores, torch.from_numpy(softmax(logits.numpy())), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    for label in LABELS:
        write_video(root / label / "one.mp4", 20)
    write_video(root / "left" / "two.mp4", 30, 29.97)
    return root


def test_with_three_crops_single_clips_are_cut_as_a_live_window_is(tiny_checkpoint: Path, folder: Path) -> None:
    config = toy_config(
        clip={"clip_len": None, "short_side": None, "crop_size": None, "test_clips": 2, "test_crops": 3},
        run={"precision": "fp32"},
    )
    network = load_network(str(tiny_checkpoint), config)
    dataset = videos_for(network, config, str(folder))
    assert dataset[SampleKey(0, 0)]["clips"]["rgb"].shape == (6, 16, 40, 40, 3)
    found = evaluate(network, dataset, config, data=str(folder))
    assert found.protocol.clip == "16 frames at 25 frames/s, 40 x 40"
    assert len(found.videos) == 11
    one = with_clips(config, 1, 1)
    alone = evaluate(network, videos_for(network, one, str(folder)), one, data=str(folder))
    assert alone.protocol.clip.endswith("32 x 32")
    assert alone.metrics == found.clip_metrics
    assert alone.metrics["nll"] != found.metrics["nll"]


def test_videos_of_other_classes_than_the_networks_are_an_error(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for label in ("left", "swim"):
        write_video(tmp_path / label / "one.mp4", 20)
    config = toy_config()
    with pytest.raises(ConfigError, match="swim"):
        videos_for(load_network(str(tiny_checkpoint), config), config, str(tmp_path))


def test_a_network_without_labels_takes_those_of_the_videos_if_they_are_as_many(
    tiny_checkpoint: Path, tmp_path: Path, folder: Path
) -> None:
    model, spec = load_checkpoint(tiny_checkpoint)
    path = tmp_path / "bare.safetensors"
    save_checkpoint(path, model, structs.replace(spec, labels=None))
    config = with_clips(toy_config(clip={"clip_len": None, "short_side": None, "crop_size": None}), 1, 1)
    network = load_network(str(path), config)
    found = evaluate(network, videos_for(network, config, str(folder)), config, data=str(folder))
    assert found.labels == tuple(sorted(LABELS))
    for label in ("left", "right"):
        write_video(tmp_path / "few" / label / "one.mp4", 20)
    with pytest.raises(ConfigError, match=r"few has 2 classes, and bare\.safetensors was trained on 10"):
        videos_for(network, config, str(tmp_path / "few"))
