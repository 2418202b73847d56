"""Key files in a temporary folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq
import zmq.auth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_i3d.errors import ConfigError, TransportError
from stream_i3d.redact import redact
from stream_i3d.transport.keys import (
    AllowList,
    default_folder,
    fingerprint,
    read_key_file,
    read_public_key,
    read_secret_key,
    write_new_keys,
)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def one_line(error: pytest.ExceptionInfo[ConfigError]) -> str:
    assert str(error.value).count("\n") == 0
    return str(error.value)


# --- made


def test_new_keys_are_what_pyzmq_reads_and_fit_each_other(tmp_path):
    secret_file, public_file = write_new_keys(tmp_path / "new" / "folder", "me")
    public, secret = zmq.auth.load_certificate(secret_file)
    assert zmq.auth.load_certificate(public_file) == (public, None)
    assert zmq.curve_public(secret) == public
    assert read_secret_key(secret_file) == (public, secret)
    assert read_public_key(public_file) == public
    assert sorted(path.name for path in secret_file.parent.iterdir()) == ["me.key", "me.key_secret"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX's")
def test_a_pipe_or_a_large_file_is_no_key_and_holds_nobody_up(tmp_path):
    os.mkfifo(tmp_path / "pipe.key")
    (tmp_path / "large.key").write_bytes(b"\n" * 70_000 + b'    public-key = "x"')
    for name in ("pipe.key", "large.key"):
        with pytest.raises(ConfigError, match="is no key file"):
            read_key_file(tmp_path / name)


@pytest.mark.skipif(os.name != "posix", reason="modes are for POSIX")
def test_only_the_owner_can_read_a_new_secret_key_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        secret, public = write_new_keys(tmp_path / "keys", "me")
    finally:
        os.umask(before)
    assert (mode(secret), mode(public), mode(tmp_path / "keys")) == (0o600, 0o644, 0o700)


@pytest.mark.parametrize("left", ["me.key", "me.key_secret"])
def test_keys_are_never_overwritten(tmp_path, left):
    (tmp_path / left).write_text("mine")
    with pytest.raises(ConfigError, match=f"{left} exists, and keys are never overwritten") as error:
        write_new_keys(tmp_path, "me")
    one_line(error)
    assert [path.name for path in tmp_path.iterdir()] == [left]
    assert (tmp_path / left).read_text() == "mine"


@pytest.mark.parametrize("name", ["", "a/b", "../me", "a b", "a\n", "x" * 65, "ä"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="is no name for keys: give 1 to 64 letters"):
        write_new_keys(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write keys into .*file/keys: Not a directory") as error:
        write_new_keys(tmp_path / "file" / "keys", "me")
    one_line(error)


def test_keys_stand_in_the_users_settings_unless_said_otherwise(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_folder().parts[-2:] == ("stream-i3d", "keys")


def test_a_zeromq_without_curve_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(zmq, "has", lambda what: what != "curve")
    with pytest.raises(TransportError, match="built without CURVE"):
        write_new_keys(tmp_path, "me")


# --- read


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the key .*none.key: No such file or directory; .*keys new"):
        read_key_file(tmp_path / "none.key")
    with pytest.raises(ConfigError, match="Is a directory"):
        read_key_file(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="modes are for POSIX")
@pytest.mark.parametrize("readable", [0o644, 0o640, 0o604, 0o620])
def test_a_secret_key_that_others_can_read_is_refused_with_the_command_that_mends_it(tmp_path, readable):
    secret, _ = write_new_keys(tmp_path / "my keys", "me")
    secret.chmod(readable)
    with pytest.raises(
        ConfigError, match=rf"can be read by others \(mode {readable:o}\): chmod 600 '.*my keys"
    ) as error:
        read_key_file(secret)
    one_line(error)


def test_the_two_kinds_are_not_taken_for_each_other(tmp_path):
    secret, public = write_new_keys(tmp_path, "me")
    with pytest.raises(ConfigError, match="holds only a public key; here the secret one is needed"):
        read_secret_key(public)
    with pytest.raises(ConfigError, match="holds a secret key, which should never be given away"):
        read_public_key(secret)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: b"", "is no key file: it has no line 'public-key = ...'"),
        (lambda text: b"\xff\xd8\xff\xe0" * 100, "is no key file"),
        (lambda text: b"public-key", "is no key file"),
        (lambda text: text.replace(b'public-key = "', b'public-key = "x'), "is damaged: a key is 40 characters of Z85"),
        (lambda text: b'public-key = "' + b"~" * 40 + b'"', "is damaged"),
        (lambda text: b'public-key = "' + b"#" * 40 + b'"', "is damaged"),  # Z85, but of more than 32 bits a group
        (lambda text: b'public-key = ""', "is damaged"),
        (lambda text: text.replace(b'secret-key = "', b'secret-key = "x'), "is damaged"),
        (lambda text: text.replace(*keys_of(text)[1:], 1), "its public key does not belong to its secret one"),
    ],
)
def test_a_damaged_file_is_one_line_without_the_secret(tmp_path, change: Callable[[bytes], bytes], said):
    file, _ = write_new_keys(tmp_path, "me")
    text = file.read_bytes()
    file.write_bytes(change(text))
    with pytest.raises(ConfigError, match=said) as error:
        read_key_file(file)
    assert keys_of(text)[1].decode() not in one_line(error)


def keys_of(text: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the public and the secret key of a file's text, and another secret."""
    public, secret = (line.split(b'"')[1] for line in text.splitlines() if b"-key = " in line)
    return public, secret, zmq.curve_keypair()[1]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda end: b"public-key = " + end))
def test_any_bytes_are_a_key_file_or_refused(tmp_path, content: bytes):
    file = tmp_path / "any.key"
    file.write_bytes(content)
    with pytest.raises(ConfigError):
        read_key_file(file)


def test_a_secret_key_does_not_show(tmp_path):
    keys = read_key_file(write_new_keys(tmp_path, "me")[0])
    assert keys.secret is not None and keys.secret.decode() not in repr(keys)


# --- the list of those who are let in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the keys of "one"; "two" is made elsewhere."""
    write_new_keys(tmp_path / "elsewhere", "two")
    write_new_keys(tmp_path / "clients", "one")
    return tmp_path / "clients"


def test_public_keys_of_folders_and_files_are_let_in_and_no_others(folder):
    other = folder.parent / "elsewhere" / "two.key"
    one, two = read_public_key(folder / "one.key"), read_public_key(other)
    assert one in AllowList([folder]) and two not in AllowList([folder])
    both = AllowList([folder, other])
    assert one in both and two in both and len(both) == 2
    assert zmq.curve_keypair()[0] not in both


def test_a_key_that_is_added_or_taken_away_counts_from_then_on(folder):
    allowed = AllowList([folder])
    file = folder.parent / "elsewhere" / "two.key"
    two = read_public_key(file)
    assert two not in allowed
    file.rename(folder / "two.key")
    assert two in allowed
    (folder / "two.key").unlink()
    assert two not in allowed
    assert read_public_key(folder / "one.key") in allowed


def test_a_key_that_was_replaced_in_its_file_counts_no_more(folder):
    file = folder / "one.key"
    old, new = read_public_key(file), zmq.curve_keypair()[0]
    allowed = AllowList([folder])
    status = file.stat()
    file.write_bytes(file.read_bytes().replace(old, new))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert new in allowed and old not in allowed


@pytest.mark.parametrize("damage", ["broken", "folder gone", "unreadable"])
def test_what_cannot_be_read_any_more_lets_nobody_in_and_breaks_nothing(folder, damage, caplog):
    allowed = AllowList([folder])
    one = read_public_key(folder / "one.key")
    assert one in allowed
    if damage == "broken":
        (folder / "one.key").write_text("public-key = nothing")
    elif damage == "unreadable":
        (folder / "one.key").unlink()
        (folder / "one.key").mkdir()
    else:
        folder.rename(folder.parent / "gone")
    assert one not in allowed and one not in allowed
    assert len(caplog.messages) == (0 if damage == "folder gone" else 1)  # said once


def test_a_broken_or_secret_key_among_others_is_refused_at_the_start(folder):
    (folder / "half.key").write_text("public-key")
    with pytest.raises(ConfigError, match=r"half.key is no key file"):
        AllowList([folder])
    (folder / "half.key").unlink()
    secret = folder / "one.key_secret"
    assert len(AllowList([folder])) == 1  # beside its public one it is let lie
    secret.rename(folder / "secret.key")
    with pytest.raises(ConfigError, match="holds a secret key"):
        AllowList([folder])


def test_a_place_that_is_not_there_is_refused_at_the_start(tmp_path):
    with pytest.raises(ConfigError, match=r"no client keys at .*nowhere: No such file or directory; give a folder"):
        AllowList([tmp_path / "nowhere"])


def test_a_fingerprint_stays_readable_in_a_log_where_its_key_would_be_hidden_as_a_password():
    key = ":BV[l2K)U]fI0)XQ@BHgmKtDft:]6BTdIJ?k!W<s"
    assert redact(key) != key
    assert redact(fingerprint(key.encode())) == "5ac34a5e6a17e86d"  # of sha256sum


@pytest.mark.parametrize("changed", [False, True])
def test_a_client_that_was_known_is_let_in_while_no_file_can_be_opened(tmp_path, monkeypatch, changed):
    """Else a service with too many open files would refuse its own clients, who then never try again."""
    folder = tmp_path / "clients"
    public, _ = read_secret_key(write_new_keys(folder, "one")[0])
    allowed = AllowList([folder])
    if changed:
        write_new_keys(folder, "two")

    def no_more_files(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("os.open", no_more_files)
        patched.setattr(Path, "iterdir", no_more_files)
        assert public in allowed
    assert public in allowed and len(allowed) == 1 + changed
