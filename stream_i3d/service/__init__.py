"""The running service: the table of processes, the supervisor that keeps them, and what people ask about it."""
