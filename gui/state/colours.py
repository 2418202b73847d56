"""A label's colour and pattern: the same in every session, readable on light and on dark ground. Pure.

Contrast is that of WCAG 2.2 (https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio): text needs 4.5, shapes 3. A colour is
never the only sign: every label also has a pattern, and its name stands beside it wherever there is room.
"""

from __future__ import annotations

import colorsys
import zlib
from dataclasses import dataclass
from functools import lru_cache

HUES = 24
_SALT = 12119
"""Keeps the hues of the ten carried labels two steps apart, all around the circle."""
PATTERNS = ("solid", "diagonal", "horizontal", "dots", "vertical", "cross")
TEXT_CONTRAST = 4.5
"""WCAG AA for text."""
SHAPE_CONTRAST = 3.0
"""WCAG AA for shapes that carry meaning."""

DARK_GROUND = "#14171c"
LIGHT_GROUND = "#ffffff"


@dataclass(frozen=True, slots=True)
class LabelStyle:
    """How a label is drawn: `fill` and the `text` on it as #rrggbb, and one of PATTERNS."""

    fill: str
    text: str
    pattern: str


def luminance(colour: str) -> float:
    """Return the relative luminance of #rrggbb, 0 (black) to 1 (white)."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, 1 (none) to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def blend(over: str, under: str, alpha: float) -> str:
    """Return what is seen where `over` lies on `under` with opacity `alpha` in [0, 1]."""
    pairs = ((int(over[at : at + 2], 16), int(under[at : at + 2], 16)) for at in (1, 3, 5))
    return "#" + "".join(f"{round(alpha * top + (1 - alpha) * bottom):02x}" for top, bottom in pairs)


@lru_cache(maxsize=4096)
def label_style(label: str, dark: bool) -> LabelStyle:
    """Return the style of a label; it depends on the label's text and the ground alone."""
    number = zlib.crc32(label.encode(), _SALT)
    hue = number % HUES / HUES
    pattern = PATTERNS[number // HUES % len(PATTERNS)]
    ground, text, least = (DARK_GROUND, "#000000", 6.5) if dark else (LIGHT_GROUND, "#ffffff", TEXT_CONTRAST)
    step = 0.02 if dark else -0.02
    lightness = 0.5
    fill = _rgb(hue, lightness)
    # On dark ground brighter than need be: bars also lie on a scrim through which a white picture may shine.
    # Towards the text's opposite until both the text on it and the shape on its ground stand out.
    while contrast(fill, text) < TEXT_CONTRAST + 0.5 or contrast(fill, ground) < least:
        lightness += step
        fill = _rgb(hue, lightness)
    return LabelStyle(fill, text, pattern)


def _rgb(hue: float, lightness: float) -> str:
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in colorsys.hls_to_rgb(hue, lightness, 0.62))
