"""What stands where pictures would: why there are none, and what would help. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .translation import translate

_ABOUT_THE_MODEL = re.compile(r"checkpoint|weights|model|labels", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Offer:
    """A button: the id of what it does, its words, what it means."""

    id: str
    text: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Emptiness:
    """A title, a few words, and what would help; the first offer is the one that is meant."""

    title: str
    text: str
    offers: tuple[Offer, ...]


def emptiness(state: str, address: str, failure: str, found: int) -> Emptiness:
    """Return the message shown where there is no camera.

    Args:
        state: Of the session: none, starting, searching, loading, up, lost, failed.
        address: Of the service that is looked for.
        failure: Its last message, if it failed.
        found: Number of cameras found on this machine.
    """
    camera, video, demo = _camera(), _video(), _demo()
    offers = (camera, video, demo) if found else (demo, video, camera)
    if state in ("starting", "loading"):
        return _starting()
    if state == "searching":
        text = translate(
            "FirstRun",
            "Nothing answers at {address}. Start `stream-i3d run` and this window connects to it, or begin here.",
        )
        return Emptiness(translate("FirstRun", "No service yet"), text.format(address=address), offers)
    if state == "up":
        text = translate("FirstRun", "The service runs and waits for its first camera.")
        return Emptiness(translate("FirstRun", "No camera yet"), _with_hint(text, found), offers)
    if state == "lost":
        text = translate(
            "FirstRun", "The service at {address} does not answer. This window goes on as soon as it is back."
        )
        return Emptiness(translate("FirstRun", "The service is gone"), text.format(address=address), offers)
    if state == "failed":
        return _failed(failure, offers)
    text = translate("FirstRun", "Choose a camera, open a video, or play the demo.")
    return Emptiness(translate("FirstRun", "Nothing to watch yet"), _with_hint(text, found), offers)


def _with_hint(text: str, found: int) -> str:
    if found:
        return text
    hint = translate("FirstRun", "No camera was found on this machine, but a stream's address works too.")
    return f"{text} {hint}"


def _starting() -> Emptiness:
    return Emptiness(
        translate("FirstRun", "Starting"),
        translate("FirstRun", "The model is being loaded. This takes a few seconds."),
        (
            Offer(
                "cancel",
                translate("FirstRun", "Cancel"),
                translate("FirstRun", "Give up and choose something else"),
            ),
        ),
    )


def _failed(failure: str, offers: tuple[Offer, ...]) -> Emptiness:
    if _ABOUT_THE_MODEL.search(failure):
        carried = Offer(
            "carried",
            translate("FirstRun", "Use the carried model"),
            translate("FirstRun", "The small model that comes with the program: ten plain motions"),
        )
        return Emptiness(translate("FirstRun", "No model to recognise with"), failure, (carried, *offers[:2]))
    again = Offer("again", translate("FirstRun", "Try again"), translate("FirstRun", "Start the service as before"))
    return Emptiness(translate("FirstRun", "The service could not go on"), failure, (again, *offers[:2]))


def _camera() -> Offer:
    return Offer(
        "camera",
        translate("FirstRun", "Choose a camera…"),
        translate("FirstRun", "One of the cameras found on this machine, or a stream's address"),
    )


def _video() -> Offer:
    return Offer(
        "video",
        translate("FirstRun", "Open a video…"),
        translate("FirstRun", "Recognise what happens in a video file"),
    )


def _demo() -> Offer:
    return Offer(
        "demo",
        translate("FirstRun", "Play the demo"),
        translate("FirstRun", "Ten plain motions in made scenes; needs no camera"),
    )
