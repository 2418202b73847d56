from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream_i3d.errors import ConfigError
from stream_i3d.messages import ActionEvent, CameraStatus, Recognition
from stream_i3d.publish.jsonl import JsonLinesSink
from stream_i3d.transport.wire import to_json_line
from tests.samples import event, recognition, status


def test_each_message_is_one_line_and_can_be_read_back(tmp_path: Path) -> None:
    path, messages = tmp_path / "out.jsonl", [recognition(), event(), status(detail="two\nlines")]
    sink = JsonLinesSink(str(path))
    for message in messages:
        sink.write(message)
    sink.close()
    lines = path.read_bytes().splitlines()
    kinds = (Recognition, ActionEvent, CameraStatus)
    assert [msgspec.json.decode(line, type=kind) for line, kind in zip(lines, kinds, strict=True)] == messages


def test_a_line_can_be_read_as_soon_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonLinesSink(str(path))
    sink.write(recognition(seq=15))
    assert json.loads(path.read_text())["seq"] == 15
    sink.close()


def test_what_the_file_held_before_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("from before\n")
    sink = JsonLinesSink(str(path))
    sink.write(recognition())
    sink.close()
    assert path.read_text().startswith("from before\n{")


def test_a_dash_is_standard_output_which_stays_open(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    sink = JsonLinesSink("-")
    sink.write(recognition(seq=15))
    sink.close()
    print("and more", flush=True)
    first, second = capsysbinary.readouterr().out.splitlines()
    assert json.loads(first)["seq"] == 15
    assert second == b"and more"


@pytest.mark.parametrize("target", ["missing/out.jsonl", "."])
def test_a_file_that_cannot_be_opened_is_told_with_what_to_give(tmp_path: Path, target: str) -> None:
    with pytest.raises(ConfigError, match=r"^cannot write JSON lines to .*; give a file in a folder that exists$"):
        JsonLinesSink(str(tmp_path / target))


def test_a_full_file_becomes_the_first_of_those_that_are_kept(tmp_path: Path) -> None:
    path, line = tmp_path / "out.jsonl", len(to_json_line(event(id="0")))
    sink = JsonLinesSink(str(path), max_bytes=2 * line, keep=2)
    for number in range(9):
        sink.write(event(id=str(number)))
    sink.close()
    held = {one.name: [json.loads(text)["id"] for text in one.read_text().splitlines()] for one in tmp_path.iterdir()}
    assert held == {"out.jsonl": ["8"], "out.jsonl.1": ["6", "7"], "out.jsonl.2": ["4", "5"]}


def test_where_none_is_kept_a_full_file_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonLinesSink(str(path), max_bytes=1, keep=0)
    for number in range(3):
        sink.write(event(id=str(number)))
    sink.close()
    assert [one.name for one in tmp_path.iterdir()] == ["out.jsonl"]
    assert [json.loads(text)["id"] for text in path.read_text().splitlines()] == ["2"]


def test_what_was_there_before_counts_as_well(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("from before\n")
    sink = JsonLinesSink(str(path), max_bytes=20)
    sink.write(event())
    sink.close()
    assert (tmp_path / "out.jsonl.1").read_text() == "from before\n"


def test_a_line_that_was_cut_off_is_closed_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('whole\n{"half')
    sink = JsonLinesSink(str(path))
    sink.write(event(id="next"))
    sink.close()
    assert [line[:8] for line in path.read_text().splitlines()] == ["whole", '{"half', '{"schema']


class FullFile(io.FileIO):
    """A file on a disk that has room for so many more bytes."""

    room = 10

    def write(self, data: Any, /) -> int:
        part = bytes(data)[: self.room]
        if not part:
            raise OSError(28, "No space left on device")
        self.room -= len(part)
        return super().write(part)


def test_a_line_that_a_full_disk_cut_off_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonLinesSink(str(path))
    sink.write(event(id="1"))
    sink._file, whole = FullFile(path, "ab"), sink._file
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            sink.write(event(id="lost"))
    sink._file.close()
    sink._file = whole
    sink.write(event(id="2"))
    sink.close()
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["1", "2"]


def test_a_file_of_another_kind_is_refused_and_stays_as_it_was(tmp_path: Path) -> None:
    video = b"\0\0\0\x20ftypisom" + bytes(600)
    path = tmp_path / "film.mp4"
    path.write_bytes(video)
    with pytest.raises(
        ConfigError, match=r"film\.mp4 is no file of JSON lines, and would be damaged; give another file"
    ):
        JsonLinesSink(str(path))
    assert path.read_bytes() == video


@pytest.mark.parametrize("left", [bytes(64), b'{"schema": 1}\n' + bytes(64)])
def test_what_a_power_cut_left_is_appended_to(tmp_path: Path, left: bytes) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(left)
    sink = JsonLinesSink(str(path))
    sink.write(event(id="1"))
    sink.close()
    assert json.loads(path.read_bytes().rstrip(b"\n").split(b"\n")[-1])["id"] == "1"
