"""What the commands show of a service, as text for people: `watch`, `ctl`, and the end of `run`. Pure."""
