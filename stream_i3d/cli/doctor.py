"""`stream-i3d doctor`: what this machine has, and what to do about what it lacks."""

from __future__ import annotations

import sys

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def doctor(as_json: bool) -> None:
    """Look at versions, GPU, codecs, cameras and system parts; exit code 1 where something needed is missing."""
    import msgspec

    from stream_i3d.service.doctor import examine

    findings = examine()
    if as_json:
        click.echo(msgspec.json.encode(findings).decode())
    else:
        for finding in findings:
            click.echo(f"{finding.state:<8} {finding.what:<19} {finding.found}")
            if finding.remedy:
                click.echo(f"{'':<28} -> {finding.remedy}")
    sys.exit(1 if any(finding.state == "missing" for finding in findings) else 0)
