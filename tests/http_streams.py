"""Videos over HTTP for tests: a live HLS playlist that grows, endless streams, files with and without ranges."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import av
import numpy as np

from stream_i3d.preprocess import Image

Draw = Callable[[float], Image]
Handle = Callable[[BaseHTTPRequestHandler], None]


def moving_box(time_s: float) -> Image:
    """(120, 160, 3) uint8 BGR: a bright box that goes round; no two pictures of ten seconds are alike."""
    picture = np.full((120, 160, 3), 40, np.uint8)
    column = int(time_s * 40) % 130
    picture[40:80, column : column + 30] = 220
    picture[:8, : int(time_s * 25) % 160] = 120
    return picture


def encode(
    path: Path,
    seconds: float,
    fps: int = 25,
    container: str | None = None,
    draw: Draw = moving_box,
    options: dict[str, str] | None = None,
    gop: int | None = None,
) -> None:
    """Write `seconds` of H.264 without B pictures to `path`, as `container` (default: by the suffix)."""
    with av.open(str(path), "w", format=container, options=options or {}) as output:
        stream = output.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "tune": "zerolatency"})
        first = draw(0.0)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = gop or fps
        for number in range(round(seconds * fps)):
            frame = av.VideoFrame.from_ndarray(draw(number / fps), format="bgr24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


def encode_hls(folder: Path, seconds: float, segment_s: float, draw: Draw = moving_box) -> list[Path]:
    """Write MPEG-TS segments of `segment_s` seconds each; return them in order."""
    options = {"hls_time": str(segment_s), "hls_list_size": "0"}
    options |= {"hls_segment_filename": str(folder / "seg%04d.ts")}
    encode(folder / "all.m3u8", seconds, container="hls", draw=draw, options=options, gop=round(segment_s * 25))
    return sorted(folder.glob("seg*.ts"))


@dataclass
class LivePlaylist:
    """A live playlist: a segment appears once it is over, as with a camera behind a packager.

    Attributes:
        segments: The files.
        segment_s: Seconds of each.
        kept: Segments in the playlist at most.
        ready: Segments that are over when the server starts.
        discontinuities: Whether every segment is marked as one.
    """

    segments: list[Path]
    segment_s: float
    kept: int = 5
    ready: int = 3
    discontinuities: bool = False

    def text(self, elapsed_s: float) -> str:
        """The playlist `elapsed_s` seconds after the start."""
        over = min(len(self.segments), self.ready + int(elapsed_s / self.segment_s))
        first = max(0, over - self.kept)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{max(1, round(self.segment_s))}"]
        lines.append(f"#EXT-X-MEDIA-SEQUENCE:{first}")
        for segment in self.segments[first:over]:
            lines += ["#EXT-X-DISCONTINUITY"] if self.discontinuities else []
            lines += [f"#EXTINF:{self.segment_s:.3f},", segment.name]
        return "\n".join(lines) + "\n"


class HttpStreams:
    """Serves on a free port of loopback for as long as the context lasts.

    `routes` maps a path to a handler, which is given the request and answers it.
    """

    def __init__(self, routes: dict[str, Callable[[BaseHTTPRequestHandler], None]]) -> None:
        self.started_at = 0.0
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.requests.append(f"{self.command} {self.path}")
                handler = routes.get(self.path.split("?")[0])
                if handler is None:
                    self.send_error(404)
                    return
                try:
                    handler(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    def url(self, path: str) -> str:
        """Address of a path."""
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def __enter__(self) -> Self:
        self.started_at = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def whole(data: bytes, kind: str, ranges: bool = True, length: bool = True, at_most: int | None = None) -> Handle:
    """A handler for a file: with ranges or without, with its length or chunked, breaking off after `at_most` bytes."""

    def handle(request: BaseHTTPRequestHandler) -> None:
        first, last = 0, len(data) - 1
        asked = request.headers.get("Range") if ranges else None
        if asked is not None:
            low, _, high = asked.removeprefix("bytes=").partition("-")
            first, last = int(low), int(high or last)
        request.send_response(200 if asked is None else 206)
        request.send_header("Content-Type", kind)
        request.send_header("Connection", "close")  # as FFmpeg asks for; it takes nothing for granted
        request.close_connection = True
        if ranges:
            request.send_header("Accept-Ranges", "bytes")
        if asked is not None:
            request.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        if length:
            request.send_header("Content-Length", str(last + 1 - first))
        else:
            request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        if request.command == "HEAD":
            return
        stop = last + 1 if at_most is None else min(last + 1, at_most)
        for start in range(first, max(first, stop), 65536):
            piece = data[start : min(stop, start + 65536)]
            request.wfile.write(piece if length else b"%x\r\n%s\r\n" % (len(piece), piece))
        if at_most is None and not length:
            request.wfile.write(b"0\r\n\r\n")

    return handle


def endless(pieces: Callable[[], Iterator[bytes]], kind: str) -> Handle:
    """A handler for a stream without a length, of the pieces as they come."""

    def handle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Connection", "close")
        request.end_headers()
        request.close_connection = True
        if request.command == "HEAD":
            return
        for piece in pieces():
            request.wfile.write(piece)
            request.wfile.flush()

    return handle


def text(read: Callable[[], str], kind: str = "application/vnd.apple.mpegurl") -> Handle:
    """A handler for a text that may be another one each time."""

    def handle(request: BaseHTTPRequestHandler) -> None:
        whole(read().encode(), kind, ranges=False)(request)

    return handle
