"""Moves frames from capture to worker, and results to the world: wire format, addresses, sockets."""
