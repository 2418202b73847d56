"""Each test runs a child: standard error is a process's one and only, and it is taken over for good."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

_PRELUDE = """
import os, sys, threading
from stream_i3d.capture.stderr import CapturedStderr

captured = CapturedStderr()

def written(*lines):
    "Write to descriptor 2 as FFmpeg does, and wait until the reader has taken it in."
    os.write(2, b"".join((line if isinstance(line, bytes) else line.encode()) + b"\\n" for line in lines))
    with changed:
        assert changed.wait_for(lambda: len(seen) >= len(lines), timeout=30), seen
        seen.clear()

changed, seen = threading.Condition(), []

class Watched(type(captured._lines)):
    def append(self, line):
        super().append(line)
        with changed:
            seen.append(line)
            changed.notify_all()

captured._lines = Watched(maxlen=captured._lines.maxlen)
"""


def child(code: str) -> subprocess.CompletedProcess[str]:
    script = _PRELUDE + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False, encoding="utf-8"
    )


def test_what_c_code_writes_is_kept_from_the_terminal_and_passwords_are_taken_out() -> None:
    done = child("""
        written("[rtsp @ 0x55d0c0ffee00] failed to open rtsp://admin:s3cret@10.0.0.9/live")
        print(captured.reason())
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "failed to open rtsp://***@10.0.0.9/live\n"


def test_the_reason_is_the_newest_line_that_explains() -> None:
    done = child("""
        written(
            "[tcp @ 0x1] Connection to tcp://10.0.0.9:554 failed: Connection refused",
            "[rtsp @ 0x55d0c0ffee00] method DESCRIBE failed: 401 Unauthorized",
            "[rtsp @ 0x55d0c0ffee00] Could not find codec parameters",
        )
        print(captured.reason())
    """)
    assert done.stdout == "method DESCRIBE failed: 401 Unauthorized\n"


@pytest.mark.parametrize(
    "line",
    [
        "Server returned 404 Not Found",
        "Server returned 5XX Server Error reply: 503",
        "Invalid data found when processing input",
        "Connection timed out",
        "401 Unauthorised",
    ],
)
def test_lines_that_explain_a_failure_are_known(line: str) -> None:
    done = child(f"""
        written({line!r})
        print(captured.reason())
    """)
    assert done.stdout == f"{line}\n"


def test_idle_chatter_is_no_reason() -> None:
    done = child("""
        written("[h264 @ 0x55d0c0ffee00] nothing of note", "")
        print(captured.reason())
    """)
    assert done.stdout == "None\n"


def test_damage_of_long_ago_is_not_why_a_stream_has_ended() -> None:
    done = child("""
        written("[h264 @ 0x55d0c0ffee00] error while decoding MB 10 6, bytestream -14")
        print(captured.reason())
    """)
    assert done.stdout == "None\n"


def test_a_reason_is_told_once() -> None:
    done = child("""
        written("Connection timed out")
        print(captured.reason(), captured.reason())
    """)
    assert done.stdout == "Connection timed out None\n"


def test_pythons_own_words_still_get_out() -> None:
    done = child("""
        print("café: a word of ours", file=sys.stderr)
        raise SystemExit("and the last one")
    """)
    assert done.stderr == "café: a word of ours\nand the last one\n"
    assert done.returncode == 1


def test_a_traceback_still_gets_out() -> None:
    done = child("raise RuntimeError('seen')")
    assert "RuntimeError: seen" in done.stderr


def test_much_output_neither_blocks_the_writer_nor_grows() -> None:
    done = child("""
        for number in range(200):
            written(*[f"error {number} " + "x" * 1000] * 5)
        print(len(captured._lines), max(len(line) for line in captured._lines), captured.reason()[:9])
    """)
    assert (done.returncode, done.stdout) == (0, "20 300 error 199\n")


def test_bytes_that_are_no_text_do_no_harm() -> None:
    done = child(r"""
        written(b"\xff\xfe nothing \x00", "Connection timed out")
        print(captured.reason())
    """)
    assert (done.returncode, done.stdout) == (0, "Connection timed out\n")


@pytest.mark.parametrize(
    "line",
    [
        "[h264 @ 0x55d0c0ffee00] error while decoding MB 10 6, bytestream -14",
        "[h264 @ 0x55d0c0ffee00] concealing 120 DC, 120 AC, 120 MV errors in P frame",
        "[hevc @ 0x55d0c0ffee00] Could not find ref with POC 48",
        "[mpeg4 @ 0x55d0c0ffee00] ac-tex damaged at 3 5",
        "[rtsp @ 0x55d0c0ffee00] RTP: missed 3 packets",
    ],
)
def test_a_decoder_that_complains_of_damage_is_noticed_once(line: str) -> None:
    done = child(f"""
        written("[h264 @ 0x55d0c0ffee00] no frame!")
        captured.reason()  # what was written has been read by then
        before = captured.damage()
        written({line!r})
        captured.reason()
        print(before, captured.damage(), captured.damage())
    """)
    assert done.stdout == "False True False\n"
