"""Keeps the libraries that decode from speaking between our own lines. To be called before OpenCV is imported."""

from __future__ import annotations

import os


def silence_ffmpeg() -> None:
    """Have FFmpeg say nothing; a level that is set in the environment already stays."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def silence_opencv() -> None:
    """Have FFmpeg and OpenCV say nothing: when a disk is full, OpenCV has a word for every frame."""
    silence_ffmpeg()
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
