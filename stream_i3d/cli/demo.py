"""`stream-i3d demo`: recognises synthetic scenes with the model of the package, and compares with their labels."""

from __future__ import annotations

import importlib.util
import os
import sys

import click

from stream_i3d.cli.options import CARRIED_MODEL_NOTE
from stream_i3d.cli.output import say

_DURATION_S = 40.0


@click.command()
@click.option(
    "--duration", type=click.FloatRange(min=2), help="Seconds to run (default: 40; in a window, until it is closed)."
)
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Which scenes are shown.")
@click.option("--gui/--no-gui", default=None, help="Show it in a window (default: where there is a screen).")
def demo(duration: float | None, seed: int, gui: bool | None) -> None:
    """Show live labels beside the true ones, then how often they were right."""
    if _has_screen() if gui is None else gui:
        from stream_i3d.cli.gui import open_window
        from stream_i3d.service.demo_settings import demo_config

        open_window(config=demo_config(seed), duration_s=duration)
        return

    from stream_i3d.config import LoggingConfig
    from stream_i3d.logs import configure_logging
    from stream_i3d.messages import Recognition
    from stream_i3d.service.demo import STILL, run_demo
    from stream_i3d.service.terminal.summary import describe

    configure_logging(LoggingConfig(level="warning"))
    duration = duration or _DURATION_S
    say(f"stream-i3d demo: ten motions in synthetic scenes, recognised live for {duration:g} s (Ctrl-C ends it)")
    say(CARRIED_MODEL_NOTE)
    shown = 0

    def show(seen: Recognition, truth: str | None) -> None:
        nonlocal shown
        shown += 1
        if shown % 3 and not sys.stdout.isatty():
            return  # about one line a second in a log
        label = seen.label or STILL
        mark = " " if truth is None else ("=" if label == truth else "x")
        bar = "#" * round(20 * seen.confidence)
        say(
            f"{seen.window.end_time:6.1f} s  truth {truth or '(changing)':<18} {mark} seen {label:<18} "
            f"{seen.confidence:4.2f} {bar:<20} {seen.latency_ms.total:5.0f} ms"
        )

    score, summary = run_demo(seed, duration, show)
    say(describe(summary))
    for (truth, seen), number in sorted(score.confusions.items(), key=lambda item: -item[1])[:5]:
        say(f"  {truth} taken for {seen}: {number} windows")
    say(score.describe())


def _has_screen() -> bool:
    """Return whether a window can be opened: PyQt6 is installed, and there is a display."""
    if importlib.util.find_spec("PyQt6") is None:
        return False
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
