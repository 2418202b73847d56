"""Cameras, files and synthetic scenes in; sampled and prepared frames out. Imports no torch."""
