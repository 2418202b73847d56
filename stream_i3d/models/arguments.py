"""Checks of the arguments and inputs that all architectures share. Does not import torch."""

from __future__ import annotations

from collections.abc import Sequence

from stream_i3d.errors import ConfigError

MAX_WIDTH = 16.0


def scaled(channels: int, width: float) -> int:
    """Return a published channel count multiplied by `width`, rounded, at least 1."""
    return max(1, round(channels * width))


def check_dimensions(num_classes: int, in_channels: int, width: float) -> None:
    """Check the arguments that all architectures have.

    Raises:
        ConfigError: An argument is outside its range.
    """
    if num_classes < 1 or in_channels < 1:
        raise ConfigError(f"num_classes={num_classes}, in_channels={in_channels}: give whole numbers of at least 1")
    if not 0.0 < width <= MAX_WIDTH:
        raise ConfigError(
            f"width={width} is not allowed: give a factor above 0 and at most {MAX_WIDTH:g}; 1.0 is the published"
        )


def check_keep_prob(dropout_keep_prob: float) -> None:
    """Check the probability of keeping a feature in dropout.

    Raises:
        ConfigError: It is not in (0, 1]. The message says what it means, because other ports take it as the opposite.
    """
    if not 0.0 < dropout_keep_prob <= 1.0:
        raise ConfigError(
            f"dropout_keep_prob={dropout_keep_prob} is not allowed: it is the probability to keep a feature, "
            "above 0 and at most 1"
        )


def check_clips(shape: Sequence[int], in_channels: int, min_frames: int, min_side: int) -> None:
    """Check the shape of a batch of clips.

    Args:
        shape: Must be (B, in_channels, T >= min_frames, H >= min_side, W >= min_side).
        in_channels: Channels of the network's input.
        min_frames: Least number of frames.
        min_side: Least height and width in pixels.

    Raises:
        ConfigError: The shape is another.
    """
    shape = tuple(shape)
    if len(shape) != 5 or shape[1] != in_channels:
        raise ConfigError(
            f"input of shape {shape} does not fit: give (batch, {in_channels}, frames, height, width) floats"
        )
    if shape[2] < min_frames or min(shape[3:]) < min_side:
        raise ConfigError(
            f"clips of {shape[2]} frames of {shape[3]} x {shape[4]} are too small: "
            f"give at least {min_frames} frames of {min_side} x {min_side}"
        )
