"""What can be set of each sink: the entries of the `sinks:` section, told apart by their `type` (docs/sinks.md).

Knows nothing of how they work (publish/); what one sink demands of the rest of the configuration is config.py's.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from stream_i3d.settings import Section, setting

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
    """Base of all sinks."""

    name: Annotated[
        SinkName | None, setting("Tells several sinks of a type apart: in logs, metrics and the event store.")
    ] = None


class JsonLinesSettings(SinkSection, frozen=True, kw_only=True, tag="jsonl"):
    """JSON lines in a file, which can be rotated."""

    path: Annotated[str, setting("The file; '-' is standard output.")]
    what: Annotated[tuple[What, ...], setting("Which messages are written.")] = ("predictions", "events", "status")
    max_bytes: Annotated[int, Meta(ge=0, le=2**50), setting("The file is rotated at this size; 0: never.")] = 0
    keep: Annotated[int, Meta(ge=0, le=1000), setting("Full files that are kept, as PATH.1, PATH.2, ...")] = 5
    queue: Annotated[Queue, setting("Messages that may wait; then the oldest are dropped, and counted.")] = 1000

    def __post_init__(self) -> None:
        """Check that what is rotated is a file, and that something is written."""
        if self.path == "-" and self.max_bytes:
            raise ValueError("standard output ('-') cannot be rotated: leave max_bytes out, or give a file")
        if not self.what:
            raise ValueError("what is empty: give some of predictions, events, status, or leave it out")


class StoreSettings(SinkSection, frozen=True, kw_only=True, tag="store"):
    """The event store, an SQLite file, from which mqtt and webhook deliver."""

    path: Annotated[str, setting("The SQLite file.")]
    max_age_days: Annotated[
        float, Meta(gt=0, le=36500), setting("Older events are deleted, once every sink has delivered them.")
    ] = 90.0
    max_rows: Annotated[int, Meta(ge=1, le=10**9), setting("More events are deleted likewise, the oldest first.")] = (
        1_000_000
    )
    max_undelivered: Annotated[
        int,
        Meta(ge=1, le=10**9),
        setting("Events that wait for one sink at most; then the oldest are deleted in any case."),
    ] = 100_000
    queue: Annotated[Queue, setting("Events that may wait to be written.")] = 10_000


class TlsSettings(Section, frozen=True, kw_only=True):
    """TLS to a broker."""

    ca: Annotated[str | None, setting("Certificate authorities to trust, a PEM file; null: the system's.")] = None
    cert: Annotated[str | None, setting("The client's own certificate, a PEM file.")] = None
    key: Annotated[str | None, setting("The key of `cert`, a PEM file.")] = None

    def __post_init__(self) -> None:
        """Check that a certificate comes with its key."""
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key belong together: give both files, or neither")


class MqttSettings(SinkSection, frozen=True, kw_only=True, tag="mqtt"):
    """An MQTT broker."""

    host: Annotated[str, setting("The broker.")]
    port: Annotated[Port | None, setting("Its port; null: 1883, with TLS 8883.")] = None
    base_topic: Annotated[str, setting("First part of all topics.")] = "stream-i3d"
    username: Annotated[str | None, setting("User name at the broker.")] = None
    password: Annotated[str | None, setting("Its password; write `${NAME}` and give it in the environment.")] = None
    tls: Annotated[TlsSettings | None, setting("Connect by TLS; `{}` for the system's authorities.")] = None
    client_id: Annotated[
        str | None, setting("The client's name at the broker; null: made from the host, `base_topic` and `name`.")
    ] = None
    keepalive_s: Annotated[int, Meta(ge=5, le=65535), setting("Seconds between signs of life.")] = 30
    predictions: Annotated[bool, setting("Whether predictions are published, beside events and states.")] = False
    discovery: Annotated[str | None, setting("Home Assistant's discovery prefix; null: cameras are not announced.")] = (
        "homeassistant"
    )
    queue: Annotated[Queue, setting("Messages that may wait; then the oldest predictions are dropped.")] = 1000
    backoff_first_s: Annotated[Delay, setting("Seconds before the first new attempt to connect.")] = 1.0
    backoff_limit_s: Annotated[Delay, setting("Seconds between attempts, at most.")] = 60.0

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
    """A URL to which each event is posted."""

    url: Annotated[str, setting("Where events are posted, http or https.")]
    secret: Annotated[str | None, setting("Signs each request (HMAC-SHA256); null: not signed.")] = None
    headers: Annotated[dict[str, str], setting("More headers of each request.")] = {}
    timeout_s: Annotated[Delay, setting("Seconds for a whole request, from connecting to the answer.")] = 10.0
    backoff_first_s: Annotated[Delay, setting("Seconds before the first new attempt.")] = 1.0
    backoff_limit_s: Annotated[Delay, setting("Seconds between attempts, at most.")] = 300.0
    give_up_s: Annotated[
        Annotated[float, Meta(gt=0, le=10**8)] | None,
        setting("An event that cannot be delivered for so many seconds is given up; null: never."),
    ] = None
    queue: Annotated[Queue, setting("Events that may wait, without a store.")] = 1000

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
    """Clips of events, H.264 in MP4. The oldest are deleted where they take more than `quota_mb`."""

    folder: Annotated[str, setting("Where clips are written.")]
    before_s: Annotated[Span, setting("Seconds of a clip before the event.")] = 5.0
    after_s: Annotated[Span, setting("Seconds of a clip after the event.")] = 3.0
    max_s: Annotated[float, Meta(ge=1, le=3600), setting("Seconds of a clip, at most.")] = 60.0
    fps: Annotated[float, Meta(gt=0, le=60), setting("Pictures a second, at most those of the previews.")] = 10.0
    max_side: Annotated[
        int, Meta(ge=64, le=4096), setting("Pixels of the longer side, at most those of the previews.")
    ] = 1280
    crf: Annotated[int, Meta(ge=0, le=51), setting("Quality of H.264: lower is better and larger.")] = 26
    labels: Annotated[list[str] | None, setting("Only events with these labels; null: all.")] = None
    quota_mb: Annotated[
        float, Meta(gt=0, le=10**9), setting("Size of all clips (MB); beyond it the oldest are deleted.")
    ] = 2000.0
    min_free_mb: Annotated[
        float, Meta(ge=0, le=10**9), setting("Nothing is recorded when the disk has less room (MB).")
    ] = 500.0
    mode: Annotated[
        str,
        Meta(pattern=r"^0?[0-7]{3}$(?!\n)", extra={"expected": "three octal digits, such as 0600"}),
        setting("Access rights of the files, octal."),
    ] = "0600"
    ring_mb: Annotated[
        float, Meta(gt=0, le=4096), setting("Memory for the pictures before an event, of each camera (MB).")
    ] = 32.0
    at_once: Annotated[int, Meta(ge=1, le=64), setting("Clips that are written at the same time.")] = 4
    queue: Annotated[Queue, setting("Messages that may wait.")] = 1000


SinkSettings = JsonLinesSettings | StoreSettings | MqttSettings | WebhookSettings | RecorderSettings
