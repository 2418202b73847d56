"""What the shell completes: values of options and arguments, by click's own mechanism (README, "Completion").

Each completer is a function as `click.option(shell_complete=...)` takes it. They must be quick and never fail: a shell
waits for them, and has no place for an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from stream_i3d.settings import settings_of

if TYPE_CHECKING:
    from msgspec import Struct

    from stream_i3d.shipped_configs import ConfigKind

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_CONTROL_WAIT_S = 1.0


def words(*values: str) -> Completer:
    """Complete one of some words."""
    return lambda ctx, param, incomplete: matching(values, incomplete)


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a file's path."""
    return [CompletionItem(incomplete, type="file")]


def folders(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a folder's path."""
    return [CompletionItem(incomplete, type="dir")]


def sources(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a camera of this machine, a scheme, or a video file."""
    devices = sorted(str(path) for path in Path("/dev").glob("video*"))
    numbers = [path.removeprefix("/dev/video") for path in devices if path.removeprefix("/dev/video").isdigit()]
    found = matching([*numbers, *devices, "rtsp://", "http://", "synthetic://"], incomplete)
    return [*found, CompletionItem(incomplete, type="file")]


def checkpoints(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the carried model, a name of published weights, or a file."""
    from stream_i3d.models.spec import CARRIED_CHECKPOINT
    from stream_i3d.models.zoo import PUBLISHED

    return [*matching([CARRIED_CHECKPOINT, *PUBLISHED], incomplete), CompletionItem(incomplete, type="file")]


def published_weights(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a name of published weights."""
    from stream_i3d.models.zoo import PUBLISHED

    return matching(PUBLISHED, incomplete)


def architectures(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of an architecture."""
    from stream_i3d.models.registry import ARCHITECTURES

    return matching(ARCHITECTURES, incomplete)


def label_lists(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a carried label list, or a file."""
    from stream_i3d.models.labels import CARRIED_LABELS

    return [*matching(CARRIED_LABELS, incomplete), CompletionItem(incomplete, type="file")]


def devices(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a device: of GPUs, those whose device files are here (asking torch takes seconds)."""
    numbers = sorted(int(path.name.removeprefix("nvidia")) for path in Path("/dev").glob("nvidia[0-9]*"))
    return matching(["auto", "cpu", "cuda", *(f"cuda:{number}" for number in numbers)], incomplete)


def configurations(kind: ConfigKind) -> Completer:
    """Complete the name of a configuration that comes with the package, or a file."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from stream_i3d.shipped_configs import shipped_configs, summary

        shipped = shipped_configs(kind).items()
        named = [CompletionItem(name, help=summary(path)) for name, path in shipped if name.startswith(incomplete)]
        return [*named, CompletionItem(incomplete, type="file")]

    return complete


def cameras(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a camera's name by asking the running service, at the address and with the keys given before."""
    from stream_i3d.cli.options import client_keys
    from stream_i3d.errors import StreamI3DError
    from stream_i3d.transport.control import CamerasReply, ListCameras
    from stream_i3d.transport.control_sockets import ControlClient

    given = ctx.params
    address = given.get("connect") or "tcp://127.0.0.1:5557"
    try:
        with ControlClient(address, client_keys(given.get("key"), given.get("server_key"))) as client:
            reply = client.request(ListCameras(), _CONTROL_WAIT_S)
    except (StreamI3DError, OSError):  # no service, or none that answers us: nothing to offer
        return []
    names = [camera.name for camera in reply.cameras] if isinstance(reply, CamerasReply) else []
    return matching(names, incomplete)


def train_settings(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a training's KEY=VALUE; as the first of them, the name of a configuration too."""
    from stream_i3d.training.config import TrainConfig

    before = tuple(ctx.params.get(param.name or "") or ())
    named = configurations("train")(ctx, param, incomplete) if not before and "=" not in incomplete else []
    return [*named, *setting_items(words_by_key(TrainConfig), before, incomplete)]


def live_settings(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete KEY=VALUE of what can be changed while a service runs."""
    from stream_i3d.config import LIVE_SETTINGS, Config

    every = words_by_key(Config)
    before = tuple(ctx.params.get(param.name or "") or ())
    return setting_items({key: every[key] for key in LIVE_SETTINGS}, before, incomplete)


def evaluation_arguments(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete CONFIG, then CHECKPOINT, then KEY=VALUE of `evaluate`."""
    from stream_i3d.training.config import TrainConfig

    before = tuple(ctx.params.get(param.name or "") or ())
    if not before:
        return configurations("train")(ctx, param, incomplete)
    if len(before) == 1:
        return checkpoints(ctx, param, incomplete)
    return setting_items(words_by_key(TrainConfig), before, incomplete)


def setting_items(known: dict[str, tuple[str, ...]], before: Sequence[str], incomplete: str) -> list[CompletionItem]:
    """Return completions of one KEY=VALUE argument.

    bash breaks words at "=": there the key and the sign stand among the arguments before, and the value stands alone.

    Args:
        known: Keys with the values they allow; none where there are too many to list.
        before: The arguments before.
        incomplete: What is to be completed.
    """
    before = before[:-1] if before[-1:] == ("=",) else before
    if before and before[-1] in known:
        return matching(known[before[-1]], incomplete)
    key, equals, value = incomplete.partition("=")
    if equals:
        return [CompletionItem(f"{key}={word}") for word in known.get(key, ()) if word.startswith(value)]
    keys = [one for one in known if one.startswith(incomplete)]
    if len(keys) == 1 and known[keys[0]]:
        return [CompletionItem(f"{keys[0]}={word}") for word in known[keys[0]]]
    return [CompletionItem(f"{one}=") for one in keys]


def words_by_key(kind: type[Struct]) -> dict[str, tuple[str, ...]]:
    """Return a settings tree's dotted keys with the words that each allows; none for numbers, texts and lists."""
    return {one.key: one.words for one in settings_of(kind)}


def matching(values: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Return those of some words that begin as given."""
    return [CompletionItem(value) for value in values if value.startswith(incomplete)]
