"""How `make docs` builds the site: Sphinx, MyST for Markdown, the furo theme."""

from __future__ import annotations

from stream_i3d import __version__

project = "stream-i3d"
version = release = __version__
html_title = f"stream-i3d {__version__}"
html_theme = "furo"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["schemas/**"]

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
autodoc_member_order = "alphabetical"
autodoc_typehints = "signature"
napoleon_google_docstring = True
nitpicky = False
