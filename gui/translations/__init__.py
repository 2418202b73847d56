"""Translations of the window: `stream_i3d_<language>.ts`, and the `.qm` that lrelease makes of it (docs/gui.md)."""
