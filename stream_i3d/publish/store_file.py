"""The file of the event store: created, recognised by its header, opened to write or to read.

SQLite in WAL mode: one process writes while others read. What was committed outlives a killed process, and a machine
that loses power (`synchronous` is FULL: events are few). Errors of the medium are OSErrors from here on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from stream_i3d.errors import ConfigError
from stream_i3d.files import kind_of

SCHEMA_VERSION = 1

_APPLICATION = 0x53493345  # "SI3E", in the file's header: distinguishes an event store from other SQLite files
_BUSY_MS = 5000
_CACHE_KB = 256  # of SQLite's 2,000 each connection would fill its own as the store grows, for hours
_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO)

_SCHEMA = """
CREATE TABLE events (
    position INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice: sinks are marked by it
    id TEXT NOT NULL,
    event TEXT NOT NULL CHECK (event IN ('start', 'end')),
    camera TEXT NOT NULL,
    label TEXT NOT NULL,
    start_time REAL NOT NULL,
    end_time REAL,
    peak_confidence REAL NOT NULL,
    written_at REAL NOT NULL,
    clip TEXT,
    UNIQUE (id, event)
);
CREATE INDEX events_by_time ON events (start_time);
CREATE INDEX events_by_clip ON events (clip) WHERE clip IS NOT NULL;
CREATE TABLE running (  -- actions that have started and not ended; seen_at: when this was last known
    id TEXT PRIMARY KEY,
    run TEXT NOT NULL,
    seen_at REAL NOT NULL
);
CREATE TABLE sinks (name TEXT PRIMARY KEY, since INTEGER NOT NULL);  -- that deliver; from which position on
CREATE TABLE delivered (  -- how far each has come, in order, of each camera
    sink TEXT NOT NULL,
    camera TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (sink, camera)
) WITHOUT ROWID;
CREATE TABLE refused (  -- what the other side would not take, and was passed over
    sink TEXT NOT NULL,
    position INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (sink, position)
) WITHOUT ROWID;
"""


@contextlib.contextmanager
def medium_errors() -> Iterator[None]:
    """Turn what SQLite raises into OSError: a full disk, a file that cannot be read any more."""
    try:
        yield
    except sqlite3.Error as error:
        raise _as_os_error(error) from None


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open the store at `path`, making it where there is none; only its owner can read it.

    Raises:
        ConfigError: It is something else, or damaged, or no place for a file.
        OSError: It cannot be written now: the disk is full.
    """
    try:
        # SQLite gives its -wal and -shm files the mode of the file itself.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
    except OSError as error:
        if error.errno in _PASSING:
            raise
        raise ConfigError(
            f"cannot open the event store {path}: {error.strerror}; give a file in a folder of yours"
        ) from None
    with _refused(path):
        connection = _connect(path, "rwc")
        try:
            _check(connection, path, may_be_empty=True)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                connection.executescript(
                    f"BEGIN IMMEDIATE; PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {SCHEMA_VERSION};"
                    f"{_SCHEMA} COMMIT;"
                )
        except BaseException:
            connection.close()
            raise
    return connection


def claim(path: Path) -> FileLock:
    """Lock the store at `path` for this service, until the lock is released or this process has ended.

    Two services would end each other's actions and deliver every event twice. A file beside the store is locked, since
    SQLite's own locks of a file are lost when any descriptor of that file is closed.

    Raises:
        ConfigError: Another service has it.
        OSError: The file beside it cannot be written now.
    """
    lock = FileLock(f"{path}.lock", timeout=0, mode=0o600, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"another service writes to the event store {path}: end it, or give each a file of its own"
        ) from None
    return lock


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open the store at `path` only to read it, while a service writes to it or not.

    Raises:
        ConfigError: There is none, it cannot be opened, or is something else.
    """
    if kind_of(path) != "file":
        raise ConfigError(f"no event store at {path}; give the file of the service's `store` sink with --store")
    with _refused(path):
        connection = _connect(path, "ro")
        try:
            _check(connection, path, may_be_empty=False)
        except BaseException:
            connection.close()
            raise
    return connection


def connect_again(path: Path) -> sqlite3.Connection:
    """Open one more connection to a store that `open_to_write` has opened; OSError where it is gone."""
    with medium_errors():
        connection = _connect(path, "rw")
        connection.execute("PRAGMA synchronous = FULL")
    return connection


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    address = f"file:{quote(str(path.absolute()))}?mode={mode}"
    # Made in one thread and used by another, never by two: its owners see to that.
    connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
    return connection


def _check(connection: sqlite3.Connection, path: Path, may_be_empty: bool) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    empty = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0
    if empty and may_be_empty:
        return
    if application != _APPLICATION:
        raise ConfigError(f"{path} is no event store of stream-i3d; give another file, it is left as it is")
    if version != SCHEMA_VERSION:
        raise ConfigError(
            f"{path} is an event store of version {version}, and this stream-i3d knows version {SCHEMA_VERSION}; give "
            "another file, or use the stream-i3d that wrote it"
        )
    if (said := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise ConfigError(
            f"the event store {path} is damaged ({said.splitlines()[0]}); move it away, a new one is made"
        )


def _as_os_error(error: sqlite3.Error) -> OSError:
    return OSError(errno.ENOSPC if "full" in str(error) else errno.EIO, str(error))


@contextlib.contextmanager
def _refused(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and ("full" in str(error) or "I/O" in str(error)):
            raise _as_os_error(error) from None
        if isinstance(error, sqlite3.OperationalError):  # nothing is wrong with what is in it
            raise ConfigError(
                f"cannot open the event store {path}: {error}; let nobody else write to it, and this user read and "
                "write the file and its folder"
            ) from None
        raise ConfigError(
            f"cannot read {path} as an event store: {error}; move it away, and a new one is made"
        ) from None
