"""The ZeroMQ sink, with keys; without them it is the Publisher of tests/transport/test_sockets.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream_i3d.errors import TransportError
from stream_i3d.publish.zmq_pub import ZmqSink
from stream_i3d.transport.sockets import Subscriber
from tests.keys import Ring
from tests.samples import status


def test_a_sink_with_keys_is_heard_by_its_clients_only(tmp_path: Path) -> None:
    ring = Ring.make(tmp_path)
    sink = ZmqSink("tcp://127.0.0.1:*", ring.security)
    try:
        with Subscriber(sink.address, keys=ring.client()) as known, Subscriber(sink.address) as stranger:
            with pytest.raises(TransportError, match="lets in clients with keys only"):
                stranger.receive(10.0)
            for _ in range(500):
                sink.write(status())
                if known.receive(0.02) is not None:
                    break
            else:
                raise AssertionError("nothing was heard")
            assert stranger._socket.poll(0) == 0
    finally:
        sink.close()
