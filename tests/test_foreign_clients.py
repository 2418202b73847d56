"""The service as programs that are not ours see it: mosquitto_sub, promtool, curl. (Node.js: keys, end to end.)"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest
import yaml
from _faults.broker import USER, HeardBroker
from _faults.rig import until
from _faults.service import Service

from tests import broker
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[1]

WAIT_S = 60.0
PROGRAMS = ("promtool", "curl")


def why_not() -> str | None:
    """Say which program is missing."""
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"no {', '.join(lacking)}; run scripts/system-deps test" if lacking else broker.why_not()


# In CI nothing may be skipped for want of a package: there a missing program fails the tests.
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.environ.get("CI") != "true" and why_not() is not None, reason=str(why_not())),
]


@dataclass(frozen=True)
class Served:
    """A service with a synthetic camera, a broker and who listens there, and where health and metrics are."""

    service: Service
    broker: HeardBroker
    monitor: str

    def heard(self, ending: str) -> list[str]:
        """Return the payloads that mosquitto_sub printed of topics with an ending."""
        return [one.payload for one in self.broker.messages() if one.topic.endswith(ending)]


@pytest.fixture(scope="module")
def served(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("foreign")
    monitor = f"127.0.0.1:{free_port()}"
    with ExitStack() as stack:
        heard_broker = stack.enter_context(HeardBroker(folder, folder, "the broker's password"))
        login = {"username": USER, "password": "the broker's password"}
        settings = {
            **yaml.safe_load((ROOT / "tests" / "eager-events.yaml").read_text()),
            "cameras": [{"name": "door", "source": "synthetic://?seed=2&fps=30&size=160x120"}],
            "model": {"checkpoint": str(tiny_checkpoint)},
            "sinks": [{"type": "mqtt", "host": "127.0.0.1", "port": heard_broker.port, **login}],
            "monitoring": {"address": monitor},
        }
        service = stack.enter_context(Service("foreign", folder, folder, settings))
        service.steady()
        yield Served(service, heard_broker, f"http://{monitor}")


def curl(address: str) -> tuple[int, str]:
    """Return the status and the body of an answer."""
    command = ["curl", "--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}", address]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def comes(wanted: Callable[[], object]) -> bool:
    """Wait until something holds; Unmet where it does not."""
    return until(lambda: bool(wanted()), WAIT_S, "a message by MQTT") >= 0


def test_mosquitto_sub_gets_availability_states_and_events(served: Served) -> None:
    assert comes(lambda: "online" in served.heard("/availability"))
    assert comes(lambda: any(json.loads(one)["state"] == "live" for one in served.heard("/door/state")))
    assert comes(lambda: served.heard("/door/event"))
    schema = json.loads((ROOT / "docs" / "schemas" / "event.json").read_text())
    for event in served.heard("/door/event"):
        jsonschema.validate(json.loads(event), schema)


def test_promtool_accepts_the_metrics(served: Served) -> None:
    status, body = curl(f"{served.monitor}/metrics")
    assert status == 200 and 'camera="door"' in body
    done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("route", ["healthz", "readyz", "status"])
def test_curl_gets_health_and_status(route: str, served: Served) -> None:
    status, body = curl(f"{served.monitor}/{route}")
    assert status == 200
    assert isinstance(json.loads(body), dict)


def test_a_broker_says_offline_for_a_service_that_was_killed(served: Served) -> None:
    """The last one: it ends the service."""
    assert comes(lambda: served.heard("/availability")[-1:] == ["online"])
    served.service.supervisor.kill()
    served.service.reap()
    assert comes(lambda: served.heard("/availability")[-1:] == ["offline"])
