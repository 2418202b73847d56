"""The worker process: reads cameras' channels, runs the windows that are due, says what it finds."""
