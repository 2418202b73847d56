"""The files of scripts/deploy hold together: what systemd and Docker would say of them, as far as can be told here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream_i3d.config import load_config

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "scripts/deploy"
UNIT = DEPLOY / "stream-i3d.service"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines put together."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in text.splitlines() if line.strip()]


def of(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


# --- systemd


@needs_systemd
def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/stream-i3d/bin/stream-i3d", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_the_unit_leaves_little_exposed() -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd cannot look at files")
    assert done.returncode == 0, done.stdout[-300:]


def test_the_unit_says_what_the_service_keeps_to() -> None:
    text = UNIT.read_text()
    for line in ("Type=notify", "RestartPreventExitStatus=2", "KillMode=mixed", "OOMPolicy=continue", "UMask=0077"):
        assert f"\n{line}\n" in text


# --- Docker


def test_what_is_copied_into_the_image_exists_and_is_sent_to_the_daemon() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {path for rest in of("COPY") if "--from" not in rest for path in rest.split()[:-1]}
    assert copied == sent
    assert all((ROOT / path).exists() for path in copied)


def test_everything_but_what_is_named_stays_out_of_the_image() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert "**/*.key_secret" in lines


def test_the_image_runs_as_nobody_in_particular_and_says_how_it_fares() -> None:
    last = [name for name, _ in instructions()]
    assert last.index("USER") > last.index("COPY")
    [user] = of("USER")
    assert all(int(number) > 999 for number in user.split(":"))
    assert len(of("HEALTHCHECK")) == len(of("ENTRYPOINT")) == len(of("VOLUME")) == 1
    assert of("STOPSIGNAL") == ["SIGTERM"]


def test_the_image_is_built_with_the_pinned_versions_and_without_secrets() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert "-c constraints.txt" in text
    assert not re.search(r"(?i)^(ARG|ENV).*(password|token|secret)", text, re.MULTILINE)
    stages = {match[1] for rest in of("FROM") if (match := re.search(r"AS (\S+)", rest))}
    assert {"base-cpu", "base-cuda", "build"} <= stages


def test_compose_mounts_what_exists_and_hands_out_no_more_than_is_needed() -> None:
    compose: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    service = compose["services"]["stream-i3d"]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    for volume in service["volumes"]:
        source = volume.split(":")[0]
        assert source in compose["volumes"] or (DEPLOY / source).exists()
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert not service.get("privileged")


@pytest.mark.parametrize(
    "path", [DEPLOY / "container.yaml", ROOT / "configs/deployment.yaml"], ids=lambda path: path.name
)
def test_the_configurations_can_be_read(path: Path) -> None:
    config = load_config(path, {}, {"CAMERA_URL": "0", "MQTT_PASSWORD": "x"})
    assert config.control.stay


def test_docker_itself_finds_no_fault_with_compose() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("needs docker compose")
    command = [docker, "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    environ = {**os.environ, "CAMERA_URL": "0", "MQTT_PASSWORD": "x"}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert (done.returncode, done.stderr) == (0, "")
