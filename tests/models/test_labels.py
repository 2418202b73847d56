from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stream_i3d.errors import LabelsError
from stream_i3d.models.labels import CARRIED_LABELS, check_labels, load_labels


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("kinetics400", 400, "abseiling", "zumba"),
        ("kinetics600", 600, "abseiling", "zumba"),
        ("ucf101", 101, "ApplyEyeMakeup", "YoYo"),
        ("hmdb51", 51, "brush_hair", "wave"),
    ],
)
def test_carried_lists(name: str, count: int, first: str, last: str) -> None:
    labels = load_labels(name)
    assert (len(labels), labels[0], labels[-1]) == (count, first, last)
    assert name in CARRIED_LABELS
    check_labels(labels, count)


def test_a_text_file_is_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffcut bread\r\n  Brötchen backen \r\nwave\r\n\r\n \n".encode())
    assert load_labels(path) == load_labels(str(path)) == ("cut bread", "Brötchen backen", "wave")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\na\n", "'a' is on lines 1 and 3"),
        (b"a\n\nb\n", "line 2 is blank"),
        (b"\n\na\n", "line 1 is blank"),
        (b"a\n\x1b[31mb\n", "line 2 is blank or not printable"),
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"a\n\xff\xfe\n", r"not UTF-8 \(byte 2\)"),
    ],
)
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(LabelsError, match=message) as caught:
        load_labels(path)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(LabelsError, match=r"'kinetic400' \(did you mean 'kinetics400'\?\).*ucf101"):
        load_labels("kinetic400")


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 5000, "/dev/zero"])
def test_a_name_that_can_be_no_file_is_refused(name: str) -> None:
    with pytest.raises(LabelsError):
        load_labels(name)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="not a label list"):
        load_labels(tmp_path)


def test_lengths_are_both_stated() -> None:
    with pytest.raises(LabelsError, match="2 labels do not fit a network of 3 classes"):
        check_labels(["a", "b"], 3)


def test_labels_and_specs_do_not_import_torch() -> None:
    code = "import sys, stream_i3d.models.spec, stream_i3d.models.labels; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0


@pytest.mark.parametrize("text", ["1 ApplyEyeMakeup\r\n2 Archery\r\n", "0,ApplyEyeMakeup\n1,Archery\n"])
def test_numbers_before_the_names_are_no_part_of_them(tmp_path: Path, text: str) -> None:
    (tmp_path / "classInd.txt").write_text(text)
    assert load_labels(tmp_path / "classInd.txt") == ("ApplyEyeMakeup", "Archery")


@pytest.mark.parametrize("lines", [("1 a", "3 b"), ("2 a", "3 b"), ("1 a", "b"), ("1 a",), ("7", "8")])
def test_numbers_that_do_not_count_are_part_of_the_names(tmp_path: Path, lines: tuple[str, ...]) -> None:
    (tmp_path / "labels.txt").write_text("\n".join(lines))
    assert load_labels(tmp_path / "labels.txt") == lines
