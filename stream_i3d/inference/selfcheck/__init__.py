"""The check that every engine makes when it is loaded: fixed clips, compared with float32 of the same weights."""
