"""What `stream-i3d doctor` looks at: the machine, or all that one configuration needs of it. Starts no service."""
