"""Configuration files on the command line: a path, or the name of one that comes with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from stream_i3d.cli import completion
from stream_i3d.shipped_configs import find_config

if TYPE_CHECKING:
    from stream_i3d.shipped_configs import ConfigKind


class ConfigFile(click.ParamType):  # type: ignore[type-arg]  # generic in new versions of click only
    """A YAML file by its path or its name; completes both.

    Args:
        kind: What it configures.
    """

    name = "name|file"

    def __init__(self, kind: ConfigKind) -> None:
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the file; ConfigError where there is none."""
        return find_config(self._kind, value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete a name or a path."""
        return completion.configurations(self._kind)(ctx, param, incomplete)
