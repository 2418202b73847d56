"""What a run does before it starts anything; whole runs are in tests/test_end_to_end.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from stream_i3d.config import Config, ControlConfig, ModelConfig, SecurityConfig
from stream_i3d.errors import CheckpointError, ConfigError
from stream_i3d.service.run import run_service
from tests.keys import Ring


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring.make(tmp_path / "keys")


def config_of(security: SecurityConfig) -> Config:
    """A configuration that fails at its model, after its keys were read and its control channel was bound."""
    return Config(
        model=ModelConfig(checkpoint="/none.safetensors"),
        control=ControlConfig(address="tcp://0.0.0.0:*", stay=True),
        security=security,
    )


def test_with_keys_the_control_channel_may_be_off_this_machine(ring: Ring, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        run_service(config_of(ring.security))
    assert caplog.messages == []
    with pytest.raises(ConfigError, match=r"refusing to bind tcp://0\.0\.0\.0:\* without keys"):
        run_service(config_of(SecurityConfig()))


def test_a_service_that_nobody_has_a_key_for_says_so(ring: Ring, caplog: pytest.LogCaptureFixture) -> None:
    (ring.clients / "friend.key").unlink()
    with pytest.raises(CheckpointError):
        run_service(config_of(ring.security))
    assert caplog.messages == [f"no client has a key in {ring.clients}, so nobody can connect yet"]


def test_keys_that_cannot_be_used_are_told_before_anything_starts(ring: Ring) -> None:
    public = structs.replace(ring.security, key=str(ring.folder / "service.key"))
    with pytest.raises(ConfigError, match="holds only a public key"):
        run_service(config_of(public))
