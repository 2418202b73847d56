"""Keys of services and clients: key files, the list of allowed clients, and CURVE on connecting sockets.

The format is that of zmq.auth's certificates, which other programs with ZeroMQ read too: NAME.key holds a public key,
NAME.key_secret both; keys are 40 characters of Z85. Nothing here logs a secret key.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shlex
import struct
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zmq
import zmq.auth
from zmq.utils import z85

from stream_i3d.config import SecurityConfig
from stream_i3d.errors import ConfigError, TransportError

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_MAX_BYTES = 64 * 1024  # a key file has some 300


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What a key file holds, in Z85; `secret` is None in a public one."""

    public: bytes
    secret: bytes | None = field(repr=False)


def default_folder() -> Path:
    """Return where keys are made unless another folder is given."""
    import platformdirs  # here, because only this line needs it

    return platformdirs.user_config_path("stream-i3d", appauthor=False) / "keys"


def fingerprint(public: bytes) -> str:
    """Return the name of a public key (Z85) in logs: the first 16 hexadecimal digits of its SHA-256.

    The key itself may contain ':' and '@', so that it looks like user:password@host, which `redact` hides.
    """
    return hashlib.sha256(public).hexdigest()[:16]


def require_curve() -> None:
    """Raise TransportError where ZeroMQ was built without CURVE."""
    if not zmq.has("curve"):
        raise TransportError(
            "this ZeroMQ was built without CURVE, so there can be no keys: install pyzmq's own wheel (pip install "
            "--force-reinstall --only-binary pyzmq pyzmq)"
        )


def write_new_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a pair of keys; return the paths of NAME.key_secret (only its owner can read it) and NAME.key.

    Raises:
        ConfigError: `name` is no file name, one of the files is there already, or they cannot be written.
        TransportError: ZeroMQ has no CURVE.
    """
    require_curve()
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name[:80]!r} is no name for keys: give 1 to 64 letters, digits, '_', '.' or '-'")
    secret, public = folder / f"{name}.key_secret", folder / f"{name}.key"
    try:
        for path in (secret, public):
            if path.exists():
                raise ConfigError(f"{path} exists, and keys are never overwritten; give another name, or remove it")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as made:  # mode 0700: pyzmq writes files that others can read
            zmq.auth.create_certificates(made, name)
            for path, mode in ((secret, 0o600), (public, 0o644)):
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
                with os.fdopen(descriptor, "wb") as file:
                    file.write((Path(made) / path.name).read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot write keys into {folder}: {error.strerror}; give another --folder") from None
    return secret, public


def read_key_file(path: Path) -> KeyFile:
    """Read and check a key file of either kind.

    Raises:
        ConfigError: It cannot be read, holds no whole keys, or holds a secret that others can read.
    """
    try:
        mode, size = path.stat().st_mode, path.stat().st_size
        if size > _MAX_BYTES or not (path.is_file() or path.is_dir()):  # a pipe would hold us up, a device never end
            raise ValueError
        public, secret = zmq.auth.load_certificate(path)
    except OSError as error:
        raise ConfigError(
            f"cannot read the key {path}: {error.strerror}; `stream-i3d keys new NAME` makes keys"
        ) from None
    except (ValueError, IndexError):  # the latter for a line "public-key" without "="
        raise ConfigError(
            f"{path} is no key file: it has no line 'public-key = ...'; `stream-i3d keys new NAME` makes keys"
        ) from None
    if not _is_key(public) or not (secret is None or _is_key(secret)):
        raise ConfigError(f"{path} is damaged: a key is 40 characters of Z85; copy the file again, or make new keys")
    if secret is None:
        return KeyFile(public, None)
    if os.name == "posix" and mode & 0o077:
        raise ConfigError(
            f"the secret key {path} can be read by others (mode {mode & 0o777:03o}): chmod 600 {shlex.quote(str(path))}"
        )
    require_curve()
    if zmq.curve_public(secret) != public:
        raise ConfigError(f"{path} is damaged: its public key does not belong to its secret one; make new keys")
    return KeyFile(public, secret)


def read_secret_key(path: Path) -> tuple[bytes, bytes]:
    """Return the public and the secret key of a NAME.key_secret; ConfigError where it is none."""
    keys = read_key_file(path)
    if keys.secret is None:
        raise ConfigError(f"{path} holds only a public key; here the secret one is needed, NAME.key_secret")
    return keys.public, keys.secret


def read_public_key(path: Path) -> bytes:
    """Return the key of a NAME.key; ConfigError where it is none, or holds a secret key."""
    keys = read_key_file(path)
    if keys.secret is not None:
        raise ConfigError(f"{path} holds a secret key, which should never be given away; here give NAME.key")
    return keys.public


class AllowList:
    """Public keys of allowed clients, of files and of all *.key in folders; read again when these have changed."""

    def __init__(self, places: Sequence[Path]) -> None:
        """Raises ConfigError where a place cannot be read, or a key in it."""
        self.places = tuple(places)
        self._seen: dict[Path, tuple[int, int]] = {}
        for place in self.places:
            try:
                self._seen |= _look(place)
            except OSError as error:
                raise ConfigError(
                    f"no client keys at {place}: {error.strerror}; give a folder of public keys (NAME.key), or such "
                    "files, with --clients"
                ) from None
        self._keys = frozenset(read_public_key(path) for path in self._seen)

    def __contains__(self, key: bytes) -> bool:
        """Return whether a key (Z85) is allowed now; a file that cannot be read any more allows none."""
        try:
            self._read_again()
        except OSError as error:  # the files cannot be read now; their keys may still be valid
            log.warning("cannot look for changed keys: %s; those that were known are let in", error.strerror)
        return key in self._keys

    def _read_again(self) -> None:
        """Read the keys again where files have changed. OSError where this process cannot open more files now."""
        seen: dict[Path, tuple[int, int]] = {}
        for place in self.places:
            try:
                seen |= _look(place)
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    raise
        if seen != self._seen:
            os.close(os.open(os.devnull, os.O_RDONLY))  # else each file would seem to hold no key
            self._seen, self._keys = seen, frozenset(_readable(seen))

    def __len__(self) -> int:
        return len(self._keys)


def _look(place: Path) -> dict[Path, tuple[int, int]]:
    """Return the key files at a place with time and size, by which a change is noticed."""
    files = [path for path in place.iterdir() if path.suffix == ".key"] if place.is_dir() else [place]
    stats = {path: path.stat() for path in files}
    return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in stats.items()}


def _readable(paths: Iterable[Path]) -> list[bytes]:
    """Return the keys of files; a file without a key is left out with a warning."""
    keys = []
    for path in paths:
        try:
            keys.append(read_public_key(path))
        except ConfigError as error:
            log.warning("%s; this client is not let in", error)
    return keys


def _is_key(text: bytes) -> bool:
    """Return whether `text` is Z85 of 32 bytes."""
    try:
        return len(z85.decode(text)) == 32
    except (KeyError, ValueError, struct.error):
        return False


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """Keys of a client, in Z85: its own pair, and the public key of the only service that it accepts."""

    secret: bytes = field(repr=False)
    public: bytes
    server: bytes


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """Keys of a service: its own pair in Z85, and the allowed clients."""

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


def set_client_keys(socket: zmq.Socket[bytes], keys: ClientKeys) -> None:
    """Set the keys of a socket that is not connected yet; it then accepts only the service with that key."""
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
    socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server)
