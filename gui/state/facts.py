"""The details panel's facts in words. Pure."""

from __future__ import annotations

from stream_i3d.transport.control import HelloReply

from .board import Board
from .figures import CameraFigures
from .formats import NOTHING, count


def facts(board: Board, hello: HelloReply | None, address: str, figures: CameraFigures | None) -> dict[str, str]:
    """Return what is known of the service and of this window's own losses, by name."""
    known = {
        "Control address": address or NOTHING,
        "Messages that were not ours": count(board.malformed),
        "Messages lost on the way": count(board.lost_messages),
        "Events forgotten": count(board.history.dropped),
        "Cameras beyond the limit": count(board.refused_cameras),
    }
    if figures is not None:
        known["Frames dropped"] = count(figures.frames_dropped)
        known["Windows dropped"] = count(figures.windows_dropped)
        known["Pictures skipped here"] = count(figures.previews_dropped)
    if hello is not None:
        known["Service"] = f"stream-i3d {hello.version}, process {hello.pid}"
        known["Publishes at"] = hello.publish or NOTHING
        known["Engine"] = hello.engine or NOTHING
        known["Device"] = f"{hello.device or NOTHING}, {hello.precision or NOTHING}"
        known["Labels"] = count(len(hello.labels))
    return known
