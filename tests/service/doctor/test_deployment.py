"""What `doctor --config` says of configurations that can run, and of those that cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stream_i3d.config import Config, convert, load_config
from stream_i3d.service.doctor.deployment import examine_deployment
from stream_i3d.service.doctor.finding import Finding, failed
from stream_i3d.transport.keys import write_new_keys

GOOD = {"cameras": [{"source": "synthetic://?seed=1", "name": "door"}], "publish": {"address": "tcp://127.0.0.1:*"}}


def looked_at(config: Config, path: Path | None = None, **more: bool) -> dict[str, Finding]:
    findings = list(examine_deployment(config, path, **more))
    for finding in findings:
        assert finding.state == "ok" or finding.remedy
        assert "geheim" not in finding.found + finding.remedy
    return {finding.what: finding for finding in findings}


def with_model(checkpoint: Path, **more: object) -> Config:
    model = {"checkpoint": str(checkpoint), "backend": "torch", "precision": "fp32"}
    return convert({**GOOD, "model": model, **more})


def test_a_configuration_that_can_run_is_all_ok(tiny_checkpoint: Path) -> None:
    found = looked_at(with_model(tiny_checkpoint), cameras=True)
    assert not failed(list(found.values()))
    assert {"cameras", "checkpoint", "keys", "publish.address", "control.address", "cache", "open files"} <= {*found}
    assert found["cameras"].found == "1: door"
    assert "tiny.safetensors: torch" in found["checkpoint"].found
    assert found["camera door"].found.endswith("a picture of 320 x 240")


def test_each_thing_that_is_wrong_is_told_and_the_others_are_looked_at_nevertheless(tmp_path: Path) -> None:
    config = convert(
        {
            "cameras": [{"source": "0", "name": "a"}, {"source": "1", "name": "a"}],
            "model": {"checkpoint": str(tmp_path / "none.pt")},
            "publish": {"address": "tcp://*:5556", "jsonl": str(tmp_path / "none" / "lines")},
            "security": {"key": str(tmp_path / "none.key_secret"), "clients": str(tmp_path)},
        }
    )
    found = looked_at(config, cameras=True)
    failures = {what for what, finding in found.items() if finding.state == "fail"}
    assert failures == {"cameras", "checkpoint", "keys", "publish.jsonl"}


def test_a_camera_that_is_down_is_told_without_its_password(tiny_checkpoint: Path) -> None:
    source = "rtsp://viewer:geheim@127.0.0.1:1/stream"
    config = with_model(tiny_checkpoint, cameras=[{"source": source, "name": "gate"}])
    assert "camera gate" not in looked_at(config)
    assert looked_at(config, cameras=True)["camera gate"].state == "fail"


def test_keys_are_looked_at_and_the_ports_are_named(tmp_path: Path, tiny_checkpoint: Path) -> None:
    secret, _ = write_new_keys(tmp_path, "service")
    clients = tmp_path / "clients"
    clients.mkdir()
    security = {"key": str(secret), "clients": str(clients)}
    config = with_model(tiny_checkpoint, security=security)
    assert looked_at(config)["keys"].state == "warn"
    write_new_keys(tmp_path, "me")[1].rename(clients / "me.key")
    found = looked_at(config)
    assert (found["keys"].state, found["keys"].found) == ("ok", "the service's, and 1 clients'")
    assert found["previews"].state == "ok"


def test_monitoring_is_looked_at(tiny_checkpoint: Path) -> None:
    assert looked_at(with_model(tiny_checkpoint))["monitoring"].found.startswith("off")
    bare = with_model(tiny_checkpoint, monitoring={"address": "*:8556"})
    assert (looked_at(bare)["monitoring"].state, "token" in looked_at(bare)["monitoring"].found) == ("fail", True)
    good = with_model(tiny_checkpoint, monitoring={"address": "127.0.0.1:0", "token": "geheim-geheim-geheim"})
    assert looked_at(good)["monitoring"].found.endswith("(with a token) can be bound")


def test_an_address_that_is_taken_is_told(tiny_checkpoint: Path) -> None:
    from stream_i3d.transport.sockets import Publisher

    with Publisher("tcp://127.0.0.1:*") as taken:
        config = with_model(tiny_checkpoint, publish={"address": taken.address}, control={"address": "off"})
        found = looked_at(config)
        assert found["publish.address"].state == "fail"
        assert "control.address" not in found
        assert looked_at(config, running=True)["publish.address"].state == "ok"


@pytest.mark.skipif(os.name != "posix", reason="modes are for POSIX")
def test_passwords_in_a_file_that_others_can_read_are_told_and_names_of_variables_are_none(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    path = tmp_path / "config.yaml"
    for text, mode, state in (
        ("cameras: [{source: 'rtsp://viewer:geheim@camera/1'}]", 0o644, "warn"),
        ("cameras: [{source: 'rtsp://viewer:geheim@camera/1'}]", 0o600, "ok"),
        ("cameras: [{source: 'rtsp://viewer:${PASSWORD}@camera/1'}]", 0o644, "ok"),
        ("cameras: [{source: '${CAMERA_URL}'}]", 0o644, "ok"),
    ):
        path.write_text(text)
        path.chmod(mode)
        config = load_config(
            path, {"model.checkpoint": str(tiny_checkpoint)}, {"PASSWORD": "geheim", "CAMERA_URL": "0"}
        )
        found = next(iter(examine_deployment(config, path)))
        assert (found.what, found.state) == ("configuration", state), text
