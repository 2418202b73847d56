from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from stream_i3d.errors import CheckpointError, ConfigError
from stream_i3d.models.i3d import I3D
from stream_i3d.models.inception import InceptionTrunk, InceptionV1
from stream_i3d.models.inception_table import END_POINTS
from stream_i3d.models.inflate import inflate, inflate_inception, inflate_resnet50, inflate_weight
from stream_i3d.models.resnet_i3d import ResNetI3D
from tests.golden_rule import fill_by_rule


def picture(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def still(image: Tensor, frames: int) -> Tensor:
    """(B, C, H, W) -> (B, C, frames, H, W), a boring video."""
    return image[:, :, None].expand(-1, -1, frames, -1, -1)


def assert_same_inside(video: Tensor, image: Tensor, border: int) -> None:
    """Check that a 3D map (B, C, T, H, W) equals the 2D one except at the first and last `border` steps."""
    inside = video[:, :, border : video.shape[2] - border]
    assert inside.shape[2] >= 2, "too short a clip to test with"
    assert image.std() > 0
    assert (inside - image[:, :, None]).abs().max() < 1e-4 * image.abs().max()


# Single layers


@pytest.mark.parametrize("time", [1, 2, 3, 5, 7])
def test_filters_sum_to_themselves_over_time(time: int) -> None:
    weight = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    inflated = inflate_weight(weight, time)
    assert inflated.shape == (4, 3, time, 5, 5)
    torch.testing.assert_close(inflated.sum(dim=2), weight)
    for step in range(time):
        torch.testing.assert_close(inflated[:, :, step], weight / time)


def ruled(module: nn.Module, gain: float = 2**0.5) -> nn.Module:
    module.load_state_dict(fill_by_rule(module.state_dict(), 7, gain))
    return module.eval()


@pytest.mark.parametrize("time", [1, 3, 5])
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), bias=False),
        nn.Conv2d(4, 8, 3, dilation=2, groups=2),
        nn.Conv2d(4, 6, 3, padding="same", padding_mode="replicate"),
        nn.Conv2d(4, 6, 3, padding="valid"),
        nn.Conv2d(4, 6, 1),
        nn.BatchNorm2d(4, eps=0.1),
        nn.BatchNorm2d(4, affine=False),
        nn.MaxPool2d(3, 2, padding=1),
        nn.MaxPool2d((2, 3), ceil_mode=True),
        nn.AvgPool2d(3, stride=1),
        nn.AvgPool2d((2, 4), divisor_override=3),
    ],
    ids=str,
)
def test_a_layer_answers_a_still_video_as_its_picture(layer: nn.Module, time: int) -> None:
    ruled(layer)
    inflated = inflate(layer, time)
    assert not inflated.training
    assert type(layer).__name__.replace("2d", "3d") in [kind.__name__ for kind in type(inflated).__mro__]
    image = picture(2, 4, 9, 12)
    with torch.inference_mode():
        assert_same_inside(inflated(still(image, 20)), layer(image), border=time // 2)


def test_a_whole_number_keeps_the_frames_of_a_convolution() -> None:
    clip = picture(1, 4, 8, 9, 9)
    for time in (1, 3, 5):
        assert inflate(nn.Conv2d(4, 6, 3, padding=1), time)(clip).shape[2] == 8
        assert inflate(nn.Conv2d(4, 6, 3, stride=2), time, stride=1)(clip).shape[2] == 8
    assert inflate(nn.Conv2d(4, 6, 3, stride=2), 3)(clip).shape[2] == 4


def test_adaptive_pools_take_all_of_time() -> None:
    image = picture(2, 4, 9, 12)
    for pool in (nn.AdaptiveAvgPool2d((2, None)), nn.AdaptiveMaxPool2d(3)):
        torch.testing.assert_close(inflate(pool)(still(image, 5))[:, :, 0], pool(image))


def test_layers_keep_their_type_their_mode_and_whether_they_learn() -> None:
    conv = nn.Conv2d(2, 3, 3).to(torch.float64)
    conv.weight.requires_grad_(False)
    inflated = inflate(conv)
    assert isinstance(inflated, nn.Conv3d)
    assert inflated.kernel_size == (3, 3, 3)
    assert inflated.weight.dtype == torch.float64
    assert not inflated.weight.requires_grad
    assert inflated.bias is not None and inflated.bias.requires_grad
    assert inflated.training
    assert inflated.bias.data_ptr() != conv.bias.data_ptr()
    for kept in (nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(), nn.Identity()):
        assert type(inflate(kept)) is type(kept)
    assert isinstance(inflate(nn.Dropout2d(0.3)), nn.Dropout3d)


# Whole networks


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.norm(self.conv(x)))


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 5, 2, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))
        shared = Block(8)
        self.body = nn.ModuleList([Block(8), nn.Sequential(nn.Conv2d(8, 8, 1), nn.GroupNorm(2, 8)), shared, shared])
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.body:
            x = block(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


@pytest.mark.parametrize(
    ("time", "stride", "frames", "border"),
    [
        (None, None, 48, 4),
        (3, 1, 24, 6),
        (1, None, 8, 0),
        ({"stem.0": 5, "stem.2": 1, "body.0.conv": 3, "body.1.0": 3, "body.2.conv": 3}, None, 48, 5),
    ],
    ids=str,
)
def test_a_nested_network_answers_a_still_video_as_its_picture(
    time: Mapping[str, int] | int | None, stride: int | None, frames: int, border: int
) -> None:
    toy = Toy()
    toy.body[1][1] = nn.Identity()  # a group's statistics take in the borders too, so it is tested by itself
    ruled(toy)
    before = {key: tensor.clone() for key, tensor in toy.state_dict().items()}
    inflated = inflate(toy, time, stride=stride)
    image = picture(2, 3, 24, 24)
    with torch.inference_mode():
        expected = toy.features(image)
        assert_same_inside(inflated.features(still(image, frames)), expected, border)
        assert inflated(still(image, frames)).shape == (2, 5)
        if time == 1:
            torch.testing.assert_close(inflated(still(image, frames)), toy(image))
    assert all(torch.equal(tensor, before[key]) for key, tensor in toy.state_dict().items())
    assert inflated.body[2] is inflated.body[3]
    assert inflated.state_dict().keys() == toy.state_dict().keys()


def test_a_network_that_was_inflated_learns() -> None:
    inflated = inflate(Toy())
    inflated(picture(2, 3, 8, 24, 24)).sum().backward()
    assert all(parameter.grad is not None for parameter in inflated.parameters())


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3, 1, 1))


class PaddedConv(nn.Conv2d):
    """A subclass with another forward than the 3D layer."""


@pytest.mark.parametrize(
    "layer",
    [nn.ConvTranspose2d(3, 3, 2), nn.ZeroPad2d(1), nn.Conv1d(3, 3, 1), Scale(), PaddedConv(3, 3, 1), InceptionTrunk()],
    ids=lambda layer: type(layer).__name__,
)
def test_what_cannot_be_inflated_is_refused(layer: nn.Module) -> None:
    with pytest.raises(ConfigError, match=rf"'1' is a {type(layer).__name__}, which cannot be inflated"):
        inflate(nn.Sequential(nn.ReLU(), layer))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time": 0}, "time=0.*at least 1"),
        ({"time": {"conv": 0}}, "at least 1"),
        ({"stride": 0}, "stride=0.*at least 1"),
        ({"time": {"cnv": 3}}, r"'cnv', which is no convolution or pool here \(did you mean 'conv'\?\)"),
        ({"time": {"norm": 3}}, "'norm', which is no convolution"),
    ],
)
def test_times_that_mean_nothing_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        inflate(Block(2), **arguments)


# Inception-v1 to I3D


@pytest.mark.parametrize("size", [(32, 32), (33, 47)], ids=str)
def test_i3d_answers_a_still_video_as_inception_its_picture(size: tuple[int, int]) -> None:
    flat = InceptionV1(num_classes=5, width=1 / 16)
    ruled(flat)
    inflated = I3D(num_classes=5, width=1 / 16).eval()
    inflated.load_state_dict(inflate_inception(flat.state_dict()))
    image = picture(1, 3, *size)
    frames = 160
    with torch.inference_mode():
        expected = flat.end_points(image)
        outputs = inflated.end_points(still(image, frames))
    for name in END_POINTS:
        stride = frames // outputs[name].shape[2]
        border = -(-50 // stride)  # half of the receptive field of 99 frames
        assert_same_inside(outputs[name], expected[name], border)
    for name in ("MaxPool3d_2a_3x3", "MaxPool3d_3a_3x3"):  # the first two pools do not pool time
        assert outputs[name].shape[2] == frames // 2
    borders = outputs["Mixed_5c"][:, :, 0] - expected["Mixed_5c"]
    assert borders.abs().max() > 1e-2 * expected["Mixed_5c"].abs().max()
    with torch.inference_mode():
        torch.testing.assert_close(
            inflated.temporal_logits(still(image, frames))[:, :, 9], flat(image), rtol=1e-3, atol=1e-3
        )


def test_i3d_filters_sum_to_inceptions_over_time() -> None:
    flat = InceptionV1(num_classes=5, width=1 / 16).state_dict()
    inflated = inflate_inception(flat)
    for key, tensor in flat.items():
        new = inflated[key.replace("conv2d", "conv3d")]
        if tensor.ndim == 4:
            assert new.shape[2] == new.shape[3]
            torch.testing.assert_close(new.sum(dim=2), tensor)
        else:
            assert torch.equal(new, tensor)
            assert new.data_ptr() != tensor.data_ptr()


def test_an_inception_module_becomes_an_i3d() -> None:
    flat = InceptionV1(num_classes=5, in_channels=2, dropout_keep_prob=0.8, width=1 / 16)
    inflated = inflate(nn.Sequential(flat))[0]
    assert isinstance(inflated, I3D)
    assert inflated.training
    assert (inflated.num_classes, inflated.in_channels, inflated.width) == (5, 2, 1 / 16)
    assert inflated.dropout.p == pytest.approx(0.2)
    expected = inflate_inception(flat.state_dict())
    assert all(torch.equal(tensor, expected[key]) for key, tensor in inflated.state_dict().items())
    with pytest.raises(ConfigError, match="leave time and stride out"):
        inflate(flat, 3)


def test_a_missing_inception_head_and_missing_counters_are_allowed() -> None:
    state = {
        key: tensor
        for key, tensor in InceptionV1(num_classes=5, width=1 / 16).state_dict().items()
        if not key.startswith("logits.") and not key.endswith("num_batches_tracked")
    }
    inflated = inflate_inception(state)
    wanted = I3D(width=1 / 16).state_dict()
    assert wanted.keys() - inflated.keys() == {"logits.conv3d.weight", "logits.conv3d.bias"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Mixed_3b.b0.conv2d.weight": None}, r"has no 'Mixed_3b\.b0\.conv2d\.weight'"),
        ({"fc.weight": torch.zeros(1)}, r"has 'fc\.weight', which does not belong"),
        ({"Mixed_3b.b0.conv2d.weight": torch.zeros(3)}, r"of shape \(3,\)"),
    ],
)
def test_another_networks_tensors_are_refused(change: dict[str, Tensor | None], message: str) -> None:
    state = {**InceptionV1(num_classes=5, width=1 / 64).state_dict(), **change}
    with pytest.raises(CheckpointError, match=message) as caught:
        inflate_inception({key: tensor for key, tensor in state.items() if tensor is not None})
    assert "InceptionV1" in str(caught.value)
    assert "\n" not in str(caught.value)


# ResNet-50 to ResNet-50 I3D


class FlatBottleneck(nn.Module):
    def __init__(self, channels: int, planes: int, stride: int, project: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, planes * 4, 1, bias=False), nn.BatchNorm2d(planes * 4)
        self.downsample = (
            nn.Sequential(nn.Conv2d(channels, planes * 4, 1, stride, bias=False), nn.BatchNorm2d(planes * 4))
            if project
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.downsample(x))


class FlatResNet50(nn.Module):
    """ResNet-50 with torchvision's names, written from the paper's table."""

    def __init__(self, width: float, num_classes: int = 5) -> None:
        super().__init__()
        channels = int(64 * width)
        self.conv1, self.bn1 = nn.Conv2d(3, channels, 7, 2, padding=3, bias=False), nn.BatchNorm2d(channels)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        for index, (blocks, planes) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True)):
            layers = []
            for block in range(blocks):
                stride = 2 if index > 0 and block == 0 else 1
                layers.append(FlatBottleneck(channels, int(planes * width), stride, project=block == 0))
                channels = int(planes * width) * 4
            self.add_module(f"layer{index + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(channels, num_classes)

    def features(self, x: Tensor) -> dict[str, Tensor]:
        outputs = {"conv1": F.relu(self.bn1(self.conv1(x)))}
        outputs["maxpool"] = x = self.maxpool(outputs["conv1"])
        for name in ("layer1", "layer2", "layer3", "layer4"):
            outputs[name] = x = getattr(self, name)(x)
        return outputs

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(x)["layer4"].mean(dim=(2, 3)))
        return logits


@pytest.mark.parametrize(("variant", "frames"), [("plain", 192), ("heavy", 80)])
def test_resnet_i3d_answers_a_still_video_as_resnet_its_picture(variant: Any, frames: int) -> None:
    flat = FlatResNet50(width=1 / 16)
    ruled(flat, gain=0.5)
    inflated = ResNetI3D(num_classes=5, variant=variant, width=1 / 16).eval()
    inflated.load_state_dict(inflate_resnet50(flat.state_dict(), variant=variant))
    image = picture(1, 3, 33, 40)
    with torch.inference_mode():
        expected = flat.features(image)
        outputs = inflated.end_points(still(image, frames))
        for name, features in expected.items():
            stride = frames // outputs[name].shape[2]
            border = -(-65 // stride) if variant == "plain" else 19  # half of the receptive fields of 129 and 73 frames
            assert_same_inside(outputs[name], features, border)
        last = outputs["layer4"]
        middle = last[:, :, last.shape[2] // 2].mean(dim=(2, 3))
        torch.testing.assert_close(inflated.cls_head(middle), flat(image), rtol=1e-3, atol=1e-4)
    assert (last[:, :, 0] - expected["layer4"]).abs().max() > 1e-3 * expected["layer4"].abs().max()


def test_resnet_filters_sum_to_the_flat_ones_over_time() -> None:
    flat = FlatResNet50(width=1 / 16).state_dict()
    inflated = inflate_resnet50(flat)
    assert inflated["backbone.conv1.conv.weight"].shape[2] == 5
    torch.testing.assert_close(inflated["backbone.conv1.conv.weight"].sum(dim=2), flat["conv1.weight"])
    for block, time in ((0, 3), (1, 1), (2, 3), (3, 1)):
        new = inflated[f"backbone.layer2.{block}.conv1.conv.weight"]
        assert new.shape[2] == time
        torch.testing.assert_close(new.sum(dim=2), flat[f"layer2.{block}.conv1.weight"])
    projection = inflated["backbone.layer3.0.downsample.conv.weight"]
    torch.testing.assert_close(projection[:, :, 0], flat["layer3.0.downsample.0.weight"])
    assert torch.equal(inflated["cls_head.fc_cls.bias"], flat["fc.bias"])


def test_non_local_networks_take_an_inflated_trunk_and_answer_as_the_plain_one() -> None:
    state = inflate_resnet50(FlatResNet50(width=1 / 16).state_dict())
    plain = ResNetI3D(num_classes=5, width=1 / 16).eval()
    plain.load_state_dict(state)
    other = ResNetI3D(num_classes=5, non_local="dot_product", width=1 / 16).eval()
    missing, unexpected = other.load_state_dict(state, strict=False)
    assert not unexpected
    assert all("non_local_block" in key for key in missing)
    clip = picture(1, 3, 8, 64, 64)
    torch.testing.assert_close(other(clip), plain(clip))  # fresh non-local blocks are the identity


@pytest.mark.parametrize(
    ("change", "message"),
    [({"layer1.0.bn2.bias": None}, r"has no 'layer1\.0\.bn2\.bias'"), ({"aux": torch.zeros(1)}, "has 'aux', which")],
)
def test_another_resnets_tensors_are_refused(change: dict[str, Tensor | None], message: str) -> None:
    state = {**FlatResNet50(width=1 / 16).state_dict(), **change}
    with pytest.raises(CheckpointError, match=message):
        inflate_resnet50({key: tensor for key, tensor in state.items() if tensor is not None})
