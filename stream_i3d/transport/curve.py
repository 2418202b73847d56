"""The keys of a service and of its clients, and how a connecting socket is given them. Who is let in is gate.py's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import zmq

from stream_i3d.config import SecurityConfig
from stream_i3d.errors import ConfigError
from stream_i3d.transport.key_files import AllowList, read_public_key, read_secret_key, require_curve


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a client needs, in Z85: its own pair, and the public key of the only service that it will talk to."""

    secret: bytes = field(repr=False)
    public: bytes
    server: bytes


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """What a service needs: its own pair in Z85, and whose clients it lets in."""

    secret: bytes = field(repr=False)
    public: bytes
    clients: AllowList

    def own_client(self) -> ClientKeys:
        """Return the keys with which one process of the service is a client of another one."""
        return ClientKeys(secret=self.secret, public=self.public, server=self.public)


def load_client_keys(key: Path | None, server_key: Path | None) -> ClientKeys | None:
    """Read a client's keys; None where there are none.

    Args:
        key: Its own secret key file.
        server_key: The service's public key file.

    Raises:
        ConfigError: One is given without the other, or a file is not what it should be.
        TransportError: ZeroMQ has no CURVE.
    """
    if key is None and server_key is None:
        return None
    if key is None or server_key is None:
        raise ConfigError(
            "--key and --server-key belong together: your own secret key (NAME.key_secret) and the service's public "
            "one (SERVICE.key)"
        )
    require_curve()
    public, secret = read_secret_key(key.expanduser())
    return ClientKeys(secret=secret, public=public, server=read_public_key(server_key.expanduser()))


def load_server_keys(config: SecurityConfig) -> ServerKeys | None:
    """Read a service's keys; None where it has none.

    Raises:
        ConfigError: A file is not what it should be.
        TransportError: ZeroMQ has no CURVE.
    """
    if config.key is None:
        return None
    require_curve()
    public, secret = read_secret_key(Path(config.key).expanduser())
    clients = AllowList([Path(place).expanduser() for place in config.client_places])
    return ServerKeys(secret=secret, public=public, clients=clients)


def identify(socket: zmq.Socket[bytes], keys: ClientKeys) -> None:
    """Have `socket`, which is not connected yet, show its key and talk to nobody but the service."""
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
    socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server)
