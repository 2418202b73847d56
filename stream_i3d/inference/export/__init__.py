"""Writes a checkpoint as a graph of another library, compared with its source."""
