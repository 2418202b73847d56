"""`stream-i3d keys new|show`: key files of services and their clients."""

from __future__ import annotations

from pathlib import Path

import click

from stream_i3d.cli.output import say


@click.group()
def keys() -> None:
    """Make and show keys, by which a service knows its clients (docs/security.md)."""


@keys.command()
@click.argument("name")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Folder to write to (default: stream-i3d/keys in your settings)."
)
def new(name: str, folder: Path | None) -> None:
    """Make a pair of keys: NAME.key_secret, which you keep, and NAME.key, which the other side gets."""
    from stream_i3d.transport.keys import default_folder, write_new_keys

    secret, public = write_new_keys(default_folder() if folder is None else folder.expanduser(), name)
    say(f"{secret}  secret: keep it here, and to yourself")
    say(f"{public}  public: give it to the other side")


@keys.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--fingerprint", "as_fingerprint", is_flag=True, help="Print its fingerprint, as in a service's log.")
def show(file: Path, *, as_fingerprint: bool) -> None:
    """Print the public key of a key file of either kind (Z85)."""
    from stream_i3d.transport.keys import fingerprint, read_key_file

    public = read_key_file(file.expanduser()).public
    say(fingerprint(public) if as_fingerprint else public.decode("ascii"))
