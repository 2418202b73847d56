"""Metrics, health and status of the running service, over HTTP (docs/monitoring.md). Watches, and decides nothing."""
