"""`stream-i3d doctor`: checks this machine, or whether a configuration can run on it, and says what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from stream_i3d.cli.config_files import ConfigFile
from stream_i3d.cli.output import say, say_json


@click.command()
@click.option(
    "--config",
    "config_file",
    type=ConfigFile("run"),
    help="Check this configuration: a file, or a name of `config list`.",
)
@click.option("--cameras", is_flag=True, help="With --config: open every camera, up to 5 s each.")
@click.option("--running", is_flag=True, help="With --config: the service runs now, so its addresses are in use.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON list.")
def doctor(config_file: Path | None, cameras: bool, running: bool, as_json: bool) -> None:
    """Check versions, GPU, codecs, cameras and system libraries; with --config, all that a deployment needs.

    Exit code 1 where something needed is missing (fail), 2 where the configuration cannot be read.

    \b
    stream-i3d doctor
    stream-i3d doctor --config /etc/stream-i3d/config.yaml --cameras
    """
    import msgspec

    from stream_i3d.errors import ConfigError
    from stream_i3d.service.doctor.finding import Finding, failed

    if config_file is None and (cameras or running):
        raise ConfigError("--cameras and --running are for a configuration: give --config FILE with them")
    findings: list[Finding] = []
    if config_file is None:
        from stream_i3d.service.doctor.machine import examine_machine

        looked_at = iter(examine_machine())
    else:
        from stream_i3d.config import load_config
        from stream_i3d.service.doctor.deployment import examine_deployment

        looked_at = examine_deployment(load_config(config_file, {}), config_file, cameras, running)
    for finding in looked_at:
        findings.append(finding)
        if not as_json:
            say(f"{finding.state:<8} {finding.what:<19} {finding.found}")
            if finding.remedy:
                say(f"{'':<28} -> {finding.remedy}")
    if as_json:
        say_json(msgspec.json.encode(findings))
    sys.exit(1 if failed(findings) else 0)
