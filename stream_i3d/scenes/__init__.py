"""Moving scenes whose truth is known: what the demo shows and what the carried model `motion` was trained on.

    Schedule -> (label, time in segment) -> Motion -> poses -> Scene -> (H, W, 3) uint8 BGR

Everything is a function of a seed and a time; nothing here reads a clock, a file or a socket, and nothing
knows of networks, clips as tensors, or training. Directions are as seen in the picture, not mirrored.

`schedule` says which motion is shown when, `draws` how many things of which size move how fast, `motions` where each
is then. `noise`, `leaves`, `shapes` and `textures` are what they look like, `sprites` puts them together, `occluders`
stand in front. `camera` and `compression` are what stands between a scene and its pixels. `render` shows a schedule,
`clips` one label, for training; both draw with the same code.
"""

from stream_i3d.scenes.clips import GENERATOR_VERSION, render_clip
from stream_i3d.scenes.motions import LABELS
from stream_i3d.scenes.render import SceneRenderer
from stream_i3d.scenes.schedule import Schedule, Segment

__all__ = ["GENERATOR_VERSION", "LABELS", "SceneRenderer", "Schedule", "Segment", "render_clip"]
