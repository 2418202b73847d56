"""What the demo runs. Apart from the demo itself, since the window's process may import this and no OpenCV."""

from __future__ import annotations

from stream_i3d.config import CameraConfig, Config, IdleConfig, PublishConfig, SmoothingConfig


def demo_config(seed: int) -> Config:
    """Return what the demo runs: one synthetic camera, all ten labels in every message, a free port."""
    return Config(
        cameras=[CameraConfig(source=f"synthetic://?seed={seed}&fps=30&size=320x240", name="demo")],
        publish=PublishConfig(address="tcp://127.0.0.1:*", top_k=10),
        smoothing=SmoothingConfig(time_constant_s=0.3),
        # "still" is one of the labels to be recognised, not a reason to say nothing.
        idle=IdleConfig(min_confidence=0.0, min_motion=0.0),
    )
