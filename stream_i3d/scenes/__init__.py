"""Moving scenes whose truth is known: what the demo shows and what the carried model `motion` was trained on.

    Schedule -> (label, time in segment) -> Motion -> poses -> Scene -> (H, W, 3) uint8 BGR

Everything is a function of a seed and a time; nothing here reads a clock, a file or a socket, and nothing
knows of networks, clips as tensors, or training. Directions are as seen in the picture, not mirrored.

`schedule` says which motion is shown when, `motions` where each object is then, `textures` what it looks
like, `render` puts the picture together as a camera would deliver it.
"""

from stream_i3d.scenes.motions import LABELS
from stream_i3d.scenes.render import GENERATOR_VERSION, SceneRenderer, render_clip
from stream_i3d.scenes.schedule import Schedule, Segment

__all__ = ["GENERATOR_VERSION", "LABELS", "SceneRenderer", "Schedule", "Segment", "render_clip"]
