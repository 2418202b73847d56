"""The command line. Each command parses its options, calls the packages below, and prints.

This module imports little: every spawned process imports it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import TracebackType


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `stream-i3d`; an error of the user is one line and exit code 2."""
    _open_standard_streams()
    import click

    from stream_i3d.cli.app import app
    from stream_i3d.display_text import clean_text
    from stream_i3d.errors import StreamI3DError
    from stream_i3d.redact import redact
    from stream_i3d.service.process_limits import tighten_umask

    sys.excepthook = _print_unexpected_error
    tighten_umask()
    try:
        code = app.main(args=arguments, prog_name="stream-i3d", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        sys.exit(2)
    except click.ClickException as error:
        print(f"error: {clean_text(' '.join(redact(error.format_message()).split()))}", file=sys.stderr)
        sys.exit(2)
    except StreamI3DError as error:
        print(f"error: {clean_text(redact(str(error)))}", file=sys.stderr)
        sys.exit(2)
    except UnicodeEncodeError as error:
        if not "\ud800" <= error.object[error.start] <= "\udfff":  # bytes of an argument that are not UTF-8
            raise
        print("error: an argument or a file's name is no text (UTF-8): give another, or rename it", file=sys.stderr)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        # The reader of the output has closed it (`stream-i3d watch | head`), which is not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


def _open_standard_streams() -> None:
    """Open the null device where standard input, output or error is closed (`>&-`, some service managers).

    Python has None for such a stream, and the next file that is opened would take its number and get what is printed.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 (as long as the process)


def _print_unexpected_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an unexpected error as Python does, without passwords."""
    import traceback

    from stream_i3d.display_text import clean_lines
    from stream_i3d.redact import redact

    text = redact("".join(traceback.format_exception(kind, error, trace)))
    print(clean_lines(text), end="", file=sys.stderr)
