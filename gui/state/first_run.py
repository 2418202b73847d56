"""What stands where pictures would: why there are none, and what would help. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

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


CAMERA = Offer("camera", "Choose a camera…", "One of the cameras found on this machine, or a stream's address")
VIDEO = Offer("video", "Open a video…", "Recognise what happens in a video file")
DEMO = Offer("demo", "Play the demo", "Ten plain motions in made scenes; needs no camera")
CARRIED = Offer("carried", "Use the carried model", "The small model that comes with the program: ten plain motions")
AGAIN = Offer("again", "Try again", "Start the service as before")
CANCEL = Offer("cancel", "Cancel", "Give up and choose something else")


def emptiness(state: str, address: str, failure: str, found: int) -> Emptiness:
    """Return what is said where no camera can be shown.

    Args:
        state: Of the session: none, starting, searching, loading, up, lost, failed.
        address: Of the service that is looked for.
        failure: Its last words, where it failed.
        found: Number of cameras found on this machine.
    """
    offers = (CAMERA, VIDEO, DEMO) if found else (DEMO, VIDEO, CAMERA)
    seen = "" if found else " No camera was found on this machine, but a stream's address works too."
    if state in ("starting", "loading"):
        return Emptiness("Starting", "The model is being loaded. This takes a few seconds.", (CANCEL,))
    if state == "searching":
        text = f"Nothing answers at {address}. Start `stream-i3d run` and this window connects to it, or begin here."
        return Emptiness("No service yet", text, offers)
    if state == "up":
        return Emptiness("No camera yet", f"The service runs and waits for its first camera.{seen}", offers)
    if state == "lost":
        text = f"The service at {address} does not answer. This window goes on as soon as it is back."
        return Emptiness("The service is gone", text, offers)
    if state == "failed":
        if _ABOUT_THE_MODEL.search(failure):
            return Emptiness("No model to recognise with", failure, (CARRIED, *offers[:2]))
        return Emptiness("The service could not go on", failure, (AGAIN, *offers[:2]))
    return Emptiness("Nothing to watch yet", f"Choose a camera, open a video, or play the demo.{seen}", offers)
