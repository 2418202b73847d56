"""The group of all commands. Each is imported when it is called."""

from __future__ import annotations

import importlib

import click

from stream_i3d import __version__

_COMMANDS = {
    "run": "stream_i3d.cli.run:run",
    "watch": "stream_i3d.cli.watch:watch",
    "ctl": "stream_i3d.cli.ctl:ctl",
    "gui": "stream_i3d.cli.gui:gui",
    "keys": "stream_i3d.cli.keys:keys",
    "events": "stream_i3d.cli.events:events",
    "recognize": "stream_i3d.cli.recognize:recognize",
    "extract": "stream_i3d.cli.extract:extract",
    "collect": "stream_i3d.cli.collect:collect",
    "train": "stream_i3d.cli.train:train",
    "evaluate": "stream_i3d.cli.evaluate:evaluate",
    "export": "stream_i3d.cli.export:export",
    "demo": "stream_i3d.cli.demo:demo",
    "models": "stream_i3d.cli.models:models",
    "weights": "stream_i3d.cli.weights:weights",
    "config": "stream_i3d.cli.config:config",
    "doctor": "stream_i3d.cli.doctor:doctor",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from stream_i3d.errors import did_you_mean

        if args and not args[0].startswith("-") and args[0] not in _COMMANDS:
            hint = did_you_mean(args[0], _COMMANDS)
            raise click.UsageError(f"no command {args[0]!r}{hint}; allowed are {', '.join(_COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.group(cls=_LazyGroup, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stream-i3d")
def app() -> None:
    """Realtime action recognition for webcams, RTSP cameras and video files."""
