"""What the window shows, worked out without Qt: pure, and time is an argument (seconds of one monotonic clock)."""
