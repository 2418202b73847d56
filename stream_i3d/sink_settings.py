"""What can be set of each sink: the entries of the `sinks:` section, told apart by their `type` (docs/sinks.md).

Knows nothing of how they work (publish/); what one sink demands of the rest of the configuration is config.py's.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from stream_i3d.settings import Section

What = Literal["predictions", "events", "status"]
"""The kinds of published messages, as settings name them."""

SinkName = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$(?!\n)", extra={"expected": "1 to 64 letters, digits, '_', '.' or '-'"}),
]
Port = Annotated[int, Meta(ge=1, le=65535)]
Queue = Annotated[int, Meta(ge=1, le=1_000_000)]
Delay = Annotated[float, Meta(gt=0, le=86400)]
Span = Annotated[float, Meta(ge=0, le=600)]

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class SinkSection(Section, frozen=True, kw_only=True, tag_field="type"):
    """Base of all sinks. `name` tells several of a type apart, in logs, figures and the event store's marks."""

    name: SinkName | None = None


class JsonLinesSettings(SinkSection, frozen=True, kw_only=True, tag="jsonl"):
    """JSON lines in a file ('-' is standard output), `path.1` being the last full one; max_bytes 0: no limit."""

    path: str
    what: tuple[What, ...] = ("predictions", "events", "status")
    max_bytes: Annotated[int, Meta(ge=0, le=2**50)] = 0
    keep: Annotated[int, Meta(ge=0, le=1000)] = 5
    queue: Queue = 1000

    def __post_init__(self) -> None:
        """Check that what is rotated is a file, and that something is written."""
        if self.path == "-" and self.max_bytes:
            raise ValueError("standard output ('-') cannot be rotated: leave max_bytes out, or give a file")
        if not self.what:
            raise ValueError("what is empty: give some of predictions, events, status, or leave it out")


class StoreSettings(SinkSection, frozen=True, kw_only=True, tag="store"):
    """The event store, an SQLite file, from which mqtt and webhook deliver.

    Events are deleted when they are older than `max_age_days` or more than `max_rows`, but not before every sink has
    delivered them, or there are more than `max_undelivered` that one has not.
    """

    path: str
    max_age_days: Annotated[float, Meta(gt=0, le=36500)] = 90.0
    max_rows: Annotated[int, Meta(ge=1, le=10**9)] = 1_000_000
    max_undelivered: Annotated[int, Meta(ge=1, le=10**9)] = 100_000
    queue: Queue = 10_000


class TlsSettings(Section, frozen=True, kw_only=True):
    """TLS to a broker: `ca` to trust (None: the system's), and a client's own `cert` and `key` where it wants them."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        """Check that a certificate comes with its key."""
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key belong together: give both files, or neither")


class MqttSettings(SinkSection, frozen=True, kw_only=True, tag="mqtt"):
    """An MQTT broker. `discovery` is Home Assistant's prefix, null where it should not be told of the cameras."""

    host: str
    port: Port | None = None
    base_topic: str = "stream-i3d"
    username: str | None = None
    password: str | None = None
    tls: TlsSettings | None = None
    client_id: str | None = None
    keepalive_s: Annotated[int, Meta(ge=5, le=65535)] = 30
    predictions: bool = False
    discovery: str | None = "homeassistant"
    queue: Queue = 1000
    backoff_first_s: Delay = 1.0
    backoff_limit_s: Delay = 60.0

    def __post_init__(self) -> None:
        """Check topics, and that a password has its user."""
        for key, topic in (("base_topic", self.base_topic), ("discovery", self.discovery)):
            if topic is not None and not re.fullmatch(r"[^\s/+#$][^\s+#]{0,199}(?<!/)", topic):
                raise ValueError(f"{key} {topic[:80]!r}: give a topic without blanks, + and #, or a slash at its ends")
        if self.password is not None and self.username is None:
            raise ValueError("a password without a username: give both, or neither")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port; without a given one 1883, with TLS 8883."""
        return self.host, self.port or (1883 if self.tls is None else 8883)


class WebhookSettings(SinkSection, frozen=True, kw_only=True, tag="webhook"):
    """A URL to which each event is posted; with a `secret`, signed. `give_up_s`: how long one is tried again."""

    url: str
    secret: str | None = None
    headers: dict[str, str] = {}
    timeout_s: Delay = 10.0
    backoff_first_s: Delay = 1.0
    backoff_limit_s: Delay = 300.0
    give_up_s: Annotated[float, Meta(gt=0, le=10**8)] | None = None
    queue: Queue = 1000

    def __post_init__(self) -> None:
        """Check the URL and the headers; neither is shown, as both may hold secrets."""
        try:
            parts = urlsplit(self.url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not (good and self.url.isprintable() and " " not in self.url):
            raise ValueError("url: give an address such as https://host/path")
        for name, value in self.headers.items():
            # Whatever the library would refuse is refused here: it would say the value, which may be a secret.
            good = value.isprintable() and value.isascii() and value == value.strip()
            if not (_HEADER_NAME.fullmatch(name) and good):
                raise ValueError(
                    f"headers: {name[:80]!r} is no name of a header, or its value has odd characters, or blanks at its "
                    "ends"
                )
        if self.secret == "":
            raise ValueError("secret is empty: give one, or leave it out and nothing is signed")


class RecorderSettings(SinkSection, frozen=True, kw_only=True, tag="recorder"):
    """Clips of events, H.264 in MP4, in a folder that holds at most `quota_mb` of them (the oldest go first).

    A clip has `before_s` and `after_s` around the event and at most `max_s`; `fps` and `max_side` are at most those of
    the previews it is made of. `mode` is that of the files.
    """

    folder: str
    before_s: Span = 5.0
    after_s: Span = 3.0
    max_s: Annotated[float, Meta(ge=1, le=3600)] = 60.0
    fps: Annotated[float, Meta(gt=0, le=60)] = 10.0
    max_side: Annotated[int, Meta(ge=64, le=4096)] = 1280
    crf: Annotated[int, Meta(ge=0, le=51)] = 26
    labels: list[str] | None = None
    quota_mb: Annotated[float, Meta(gt=0, le=10**9)] = 2000.0
    min_free_mb: Annotated[float, Meta(ge=0, le=10**9)] = 500.0
    mode: Annotated[
        str, Meta(pattern=r"^0?[0-7]{3}$(?!\n)", extra={"expected": "three octal digits, such as 0600"})
    ] = "0600"
    ring_mb: Annotated[float, Meta(gt=0, le=4096)] = 32.0
    at_once: Annotated[int, Meta(ge=1, le=64)] = 4
    queue: Queue = 1000


SinkSettings = JsonLinesSettings | StoreSettings | MqttSettings | WebhookSettings | RecorderSettings
