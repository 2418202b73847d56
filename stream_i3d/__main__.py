"""`python -m stream_i3d` is `stream-i3d`."""

from stream_i3d.cli import main

if __name__ == "__main__":
    main()
