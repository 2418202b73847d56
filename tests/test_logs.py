"""What reaches standard error, of a process of its own: logging, hooks and warnings are one to a process."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

SECRET = "geheim"
URL = f"rtsp://user:{SECRET}@camera/x"

SETUP = """
import logging, sys, threading, warnings
from stream_i3d.config import LoggingConfig
from stream_i3d.logs import configure_logging
configure_logging(LoggingConfig(format={format!r}), "worker")
log = logging.getLogger("stream_i3d.test")
URL = {url!r}
"""


def stderr_of(code: str, form: str = "text") -> str:
    """Run `code` in a process that logs; return what it wrote to standard error."""
    whole = SETUP.format(format=form, url=URL) + code
    return subprocess.run([sys.executable, "-c", whole], stderr=subprocess.PIPE, text=True, check=False).stderr


def objects_of(code: str) -> list[dict[str, object]]:
    """The same, of a process that logs JSON: every line must be an object."""
    return [json.loads(line) for line in stderr_of(code, "json").splitlines()]


def test_a_line_for_people_has_date_level_process_and_message() -> None:
    [line] = stderr_of('log.info("door: %s", "live")').splitlines()
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d INFO    \[worker\] door: live", line)


def test_a_line_for_machines_is_one_object() -> None:
    [said] = objects_of('log.warning("door: %s", URL)')
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", str(said.pop("time")))
    assert isinstance(said.pop("pid"), int)
    assert said == {
        "level": "warning",
        "process": "worker",
        "logger": "stream_i3d.test",
        "message": "door: rtsp://***@camera/x",
    }


EVERY_WAY = {
    "message": 'log.info("cannot open " + URL)',
    "argument": 'log.info("cannot open %s", URL)',
    "object": 'log.info("cannot open %s", {"source": URL})',
    "wrong arguments": 'log.info("cannot open %d", URL)',
    "too many arguments": 'log.info("cannot open", URL)',
    "traceback": """
try:
    raise RuntimeError("no " + URL)
except RuntimeError:
    log.exception("failed")
""",
    "chained traceback": """
try:
    try:
        raise RuntimeError("no " + URL)
    except RuntimeError as error:
        raise ValueError("with " + URL) from error
except ValueError:
    log.exception("failed")
""",
    "warning": 'warnings.warn("do not use " + URL)',
    "other library": 'logging.getLogger("paho").warning("connecting to %s", URL)',
    "uncaught": 'raise RuntimeError("no " + URL)',
    "thread": """
def fail():
    raise RuntimeError("no " + URL)
thread = threading.Thread(target=fail, name="sink")
thread.start()
thread.join()
""",
    "destructor": """
class Dies:
    def __del__(self):
        raise RuntimeError("no " + URL)
Dies()
""",
}


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("way", EVERY_WAY)
def test_no_password_is_written_in_any_way(way: str, form: str) -> None:
    written = stderr_of(EVERY_WAY[way], form)
    assert "***@camera/x" in written
    assert SECRET not in written


def test_an_error_that_nobody_caught_is_logged_with_its_traceback_and_where() -> None:
    [said] = objects_of(EVERY_WAY["thread"])
    assert said["level"] == "critical" and said["message"] == "thread 'sink' ended by an error of the program"
    assert str(said["error"]).startswith("Traceback (most recent call last):\n")
    assert str(said["error"]).endswith("RuntimeError: no rtsp://***@camera/x")


def test_a_message_cannot_pass_for_two() -> None:
    [line] = stderr_of('log.info("%s", "door\\n2026-01-01 00:00:00 INFO    [worker] all is well\\x1b[2J")').splitlines()
    assert line.endswith("door\\n2026-01-01 00:00:00 INFO    [worker] all is well\\x1b[2J")


def test_levels_are_kept_and_libraries_speak_from_warnings_on() -> None:
    code = 'log.debug("a"); log.info("b"); logging.getLogger("zmq").info("c"); logging.getLogger("zmq").warning("d")'
    assert [said["message"] for said in objects_of(code)] == ["b", "d"]


def test_the_same_message_is_written_five_times_and_then_summed_up_at_the_end() -> None:
    said = objects_of('for _ in range(42): log.warning("door: lost %s", URL)\nlog.warning("hall: lost")\n')
    messages = [str(one["message"]) for one in said]
    assert messages[:6] == ["door: lost rtsp://***@camera/x"] * 5 + ["hall: lost"]
    assert messages[6:] == ["door: lost rtsp://***@camera/x … 37 times more in the last 60 s"]
    assert (said[6]["level"], said[6]["logger"]) == ("warning", "stream_i3d.test")


def test_what_was_held_back_is_told_also_where_nothing_else_is_logged() -> None:
    code = """
[handler] = logging.getLogger().handlers
handler._repeats.period_s = 0.1
for _ in range(7): log.warning("lost")
handler._timer.join(30)
print("asked", file=sys.stderr)
"""
    assert stderr_of(code).splitlines()[5].endswith("lost … 2 times more in the last 0.1 s")


def test_what_was_held_back_after_that_is_told_likewise() -> None:
    code = """
[handler] = logging.getLogger().handlers
for _ in range(7): log.warning("lost")
first = handler._timer
first.cancel()
handler._tell_late()  # as the timer would, for a message whose period began earlier
second = handler._timer
print(second is not None and second is not first and second.is_alive(), file=sys.stderr)
handler._repeats.period_s = 0.0
handler._tell_late()
print(handler._timer, file=sys.stderr)
"""
    said = stderr_of(code).splitlines()[5:]
    assert (said[0], said[2:]) == ("True", ["None"])
    assert said[1].endswith("lost … 2 times more in the last 0 s")


def test_a_closed_standard_error_is_no_error() -> None:
    code = SETUP.format(format="text", url=URL) + 'sys.stderr.close(); log.warning("lost"); print(1)'
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "1\n"


def test_a_stage_that_crashes_logs_its_error_and_what_was_held_back_and_ends_with_its_code() -> None:
    code = """
import multiprocessing
from stream_i3d.stage import StageLink
from stream_i3d.stage_entry import enter_stage
def main(stage, job):
    for _ in range(8):
        log.warning("lost")
    raise RuntimeError("no " + job)
link = StageLink(multiprocessing.get_context("spawn"))
try:
    enter_stage("capture door", main, URL, link.child_side(), LoggingConfig(format="json"))
except SystemExit as ended:
    print(json.dumps({"code": ended.code}), file=sys.stderr)
"""
    *said, code_line = objects_of("import json" + code)
    assert code_line == {"code": 1}
    assert {one["process"] for one in said} == {"capture door"}
    crash, held_back = said[5:]
    assert crash["message"] == "capture door ended by an error of the program"
    assert str(crash["error"]).endswith("RuntimeError: no rtsp://***@camera/x")
    assert held_back["message"] == "lost … 3 times more in the last 60 s"


def test_the_command_line_shows_an_error_of_the_program_without_passwords() -> None:
    code = f"""
from stream_i3d.cli import app, main
def fails(**_):
    raise RuntimeError("no {URL}")
app.app.main = fails
main([])
"""
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback") and done.stderr.endswith("RuntimeError: no rtsp://***@camera/x\n")
    assert SECRET not in done.stderr
