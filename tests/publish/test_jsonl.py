from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from stream_i3d.errors import ConfigError
from stream_i3d.messages import ActionEvent, CameraStatus, Recognition
from stream_i3d.publish.jsonl import JsonLinesSink
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
