"""From features to what is published: heads, smoothing, events. Pure: no socket, file, thread or clock."""
