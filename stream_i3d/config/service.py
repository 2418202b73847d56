"""Settings of the service: where results go, how cameras are opened and watched, who may connect, what is logged."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from stream_i3d.config.recognition import Megabytes, Seconds
from stream_i3d.settings import Section, setting

LogFormat = Literal["text", "json"]


class PublishConfig(Section, frozen=True, kw_only=True):
    """Where results go. More: `sinks`."""

    address: Annotated[str, setting("Address of the PUB socket.", flag="--publish", group="service")] = (
        "tcp://127.0.0.1:5556"
    )
    jsonl: Annotated[
        str | None,
        setting(
            "Also write messages as JSON lines to this file; '-' is standard output.",
            flag="--jsonl",
            group="service",
            completes="files",
        ),
    ] = None
    top_k: Annotated[
        int, Meta(ge=1, le=1000), setting("Labels listed in each prediction.", flag="--top-k", live=True)
    ] = 5
    status_interval_s: Annotated[Seconds, setting("Seconds between a camera's regular statuses.")] = 5.0
    max_memory_mb: Annotated[
        Megabytes | None,
        setting(
            "A publisher process that holds more memory (MiB) than this and its recorders' pictures is started again, "
            "in order; null: no limit."
        ),
    ] = 500.0


class CaptureConfig(Section, frozen=True, kw_only=True):
    """How cameras are opened and watched (docs/cameras.md)."""

    open_timeout_s: Annotated[Seconds, setting("Seconds that a camera may take to be opened.")] = 5.0
    read_timeout_s: Annotated[Seconds, setting("A camera that sends nothing for so many seconds is opened again.")] = (
        8.0
    )
    stall_timeout_s: Annotated[Seconds, setting("A camera without a new frame for so many seconds is stalled.")] = 5.0
    frozen_timeout_s: Annotated[
        Seconds | None, setting("A camera with the same picture for so many seconds is stalled; null: never.")
    ] = 30.0
    retry: Annotated[
        bool,
        setting("Try again when a camera cannot be reached.", flag="--retry/--no-retry", group="service"),
    ] = True
    backoff_first_s: Annotated[Seconds, setting("Seconds before the first new attempt.")] = 1.0
    backoff_limit_s: Annotated[Seconds, setting("Seconds between attempts, at most.")] = 60.0
    max_memory_mb: Annotated[
        Megabytes | Literal["auto"] | None,
        setting(
            "A camera's capture process that holds more memory (MiB) is started again, in order, a file's is ended; "
            "null: no limit. `auto` is 500 for pictures up to 4K and grows with larger ones. Pictures that would take "
            "more are refused before they are decoded; with `auto`, those above 35.7 million pixels (8192 x 4352)."
        ),
    ] = "auto"
    fast: Annotated[bool, setting("Read files at full speed, dropping nothing.", flag="--fast", group="service")] = (
        False
    )
    loop: Annotated[
        bool, setting("Begin video files again at their end.", flag="--loop/--no-loop", group="sources")
    ] = False


class PreviewConfig(Section, frozen=True, kw_only=True):
    """Pictures for whoever watches, made only while somebody does."""

    enabled: Annotated[bool, setting("Whether pictures can be asked for.")] = True
    fps: Annotated[float, Meta(gt=0, le=240), setting("Pictures a second, at most.")] = 30.0
    max_side: Annotated[int, Meta(ge=64, le=8192), setting("Pixels of the longer side, at most.")] = 1280
    quality: Annotated[int, Meta(ge=1, le=100), setting("JPEG quality.")] = 80


class ControlConfig(Section, frozen=True, kw_only=True):
    """How the service is asked and changed while it runs."""

    address: Annotated[
        str | None,
        setting(
            "Address that takes requests: `auto` is one port above publish.address; 'off' or null for none.",
            flag="--control",
            group="service",
        ),
    ] = "auto"
    stay: Annotated[
        bool,
        setting("Go on when all cameras have ended; start without one.", flag="--stay", group="service"),
    ] = False
    state: Annotated[
        Annotated[str, Meta(min_length=1, max_length=4096)] | None,
        setting(
            "File that keeps what is changed at run time, for the next start.",
            flag="--state",
            group="service",
            completes="files",
        ),
    ] = None


class SecurityConfig(Section, frozen=True, kw_only=True):
    """Who may connect (docs/security.md). Without keys nobody needs one, and only this machine can connect."""

    key: Annotated[
        str | None,
        setting(
            "The service's secret key file; with it, only --clients can connect, also from elsewhere.",
            flag="--key",
            group="keys",
            completes="files",
        ),
    ] = None
    clients: Annotated[
        str | list[str] | None,
        setting(
            "Folder of clients' public key files, or such a file; repeatable.",
            flag="--clients",
            group="keys",
            completes="files",
        ),
    ] = None

    def __post_init__(self) -> None:
        """Check that the service has a key if, and only if, it has clients."""
        if (self.key is None) != (not self.clients):
            raise ValueError(
                "key and clients belong together: give the service's secret key (--key NAME.key_secret) and its "
                "clients' public ones (--clients FOLDER)"
            )

    @property
    def keyed(self) -> bool:
        """Whether clients need keys."""
        return self.key is not None

    @property
    def client_places(self) -> list[str]:
        """`clients` as a list."""
        return [self.clients] if isinstance(self.clients, str) else self.clients or []


class LoggingConfig(Section, frozen=True, kw_only=True):
    """What is logged, to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], setting("The least level that is logged; --quiet is warning.")
    ] = "info"
    format: Annotated[
        LogFormat, setting("Lines for people, or one JSON object a line.", flag="--log-format", group="service")
    ] = "text"


class MonitoringConfig(Section, frozen=True, kw_only=True):
    """Metrics, health and status over HTTP (docs/monitoring.md). Off loopback, clients must give a token."""

    address: Annotated[
        str | None,
        setting(
            "Serve /metrics, /healthz, /readyz, /status at HOST:PORT; `auto`, or the flag without a value, is "
            "127.0.0.1:8556.",
            flag="--monitor",
            group="service",
            bare_value="auto",
        ),
    ] = None
    token: Annotated[str | None, setting("The token that clients must give.")] = None
    token_file: Annotated[str | None, setting("A file with the token, which only its owner can read.")] = None

    def __post_init__(self) -> None:
        """Check that there is one token at most."""
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file are two ways to give the same: leave one of them out")
