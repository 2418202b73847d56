"""All sinks of a whole service in real processes, seen by independent clients; its publisher is killed on the way."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import av
import pytest
import yaml

from tests.broker import Broker, Listener, requires_broker
from tests.test_end_to_end import ROOT, SCENE, Cli, running
from tests.waiting import wait_until
from tests.web_server import WebServer

LONG_S = 90.0


def config_of(folder: Path, broker: Broker, hook: WebServer) -> Path:
    """The configuration of the events that come soon, with every sink."""
    data = yaml.safe_load((ROOT / "tests" / "eager-events.yaml").read_text())
    # So that labels change often, and with them actions.
    data["smoothing"], data["window"] = {"method": "none"}, {"stride": 4}
    data["sinks"] = [
        {"type": "store", "path": str(folder / "events.db")},
        {"type": "mqtt", "host": "127.0.0.1", "port": broker.port, "predictions": True},
        {"type": "webhook", "url": hook.url, "secret": "hush"},
        {"type": "recorder", "folder": str(folder / "clips"), "before_s": 1, "after_s": 0.5, "min_free_mb": 0},
        {"type": "jsonl", "path": str(folder / "events.jsonl"), "what": ["events"]},
    ]
    path = folder / "service.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@requires_broker
@pytest.mark.system
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_events_reach_every_sink_once_also_when_the_publisher_is_killed(
    tmp_path: Path, tiny_checkpoint: Path, cli: Cli
) -> None:
    with Broker(tmp_path / "broker") as broker, WebServer() as hook, Listener(broker) as listener:
        config = config_of(tmp_path, broker, hook)
        source = f"{SCENE}&duration=600"
        with running("--config", config, "--source", source, "--checkpoint", tiny_checkpoint) as service:
            assert listener.wait_for("stream-i3d/availability", timeout_s=LONG_S)[0] == "online"
            camera = service.predictions(3)[0].camera
            listener.wait_for(f"stream-i3d/{camera}/prediction", timeout_s=LONG_S)
            listener.wait_for(f"homeassistant/binary_sensor/stream-i3d/{camera}_connected/config", timeout_s=LONG_S)
            listener.wait_for(f"stream-i3d/{camera}/event", 1, LONG_S)
            os.kill(service.children()["publisher"].pid, signal.SIGKILL)
            wait_until(lambda: "offline" in listener.of("stream-i3d/availability"), LONG_S)
            heard = len(listener.of(f"stream-i3d/{camera}/event"))
            listener.wait_for(f"stream-i3d/{camera}/event", heard + 2, LONG_S)
            wait_until(lambda: list((tmp_path / "clips").glob("*.mp4")), LONG_S)
            shown = cli("events", "list", "--store", tmp_path / "events.db", "--json")  # while the service runs
            assert shown.returncode == 0 and json.loads(shown.stdout.splitlines()[0])["camera"] == camera
            service.process.terminate()
            assert service.process.wait(30) == 0
            heard_events = listener.of(f"stream-i3d/{camera}/event")
        posted = [json.loads(request.body) for request in hook.requests]
    with closing(sqlite3.connect(tmp_path / "events.db")) as connection:
        stored = connection.execute("SELECT id, event FROM events ORDER BY position").fetchall()
        assert connection.execute("SELECT COUNT(*) FROM running").fetchone()[0] == 0
        clips = connection.execute("SELECT DISTINCT clip FROM events WHERE clip IS NOT NULL").fetchall()
    assert len(stored) == len(set(stored))
    for told in (posted, [json.loads(one) for one in heard_events]):
        once = list(dict.fromkeys((one["id"], one["event"]) for one in told))
        assert once == stored[: len(once)] and len(once) >= len(stored) - 2  # the last ones may wait for the next start
    for (clip,) in clips:
        with av.open(str(tmp_path / "clips" / clip)) as container:
            assert container.streams.video[0].codec_context.name == "h264"
            assert sum(1 for _ in container.decode(video=0)) > 5
    assert clips
