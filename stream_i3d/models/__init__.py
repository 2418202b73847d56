"""The networks, their weights and their labels."""
