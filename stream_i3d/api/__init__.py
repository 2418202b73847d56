"""The public Python API; users import its names from `stream_i3d` itself (docs/library.md)."""
