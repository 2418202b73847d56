from __future__ import annotations

from pathlib import Path

import pytest

from stream_i3d.errors import ConfigError
from stream_i3d.training.list_file import ListLine, read_list_file


def read(folder: Path, text: str) -> list[tuple[str, str, int | None]]:
    path = folder / "list.txt"
    path.write_text(text, encoding="utf-8")
    return [(line.path, line.label, line.frames) for line in read_list_file(path)]


@pytest.mark.parametrize("separator", [" ", "   ", "\t", ",", ", "])
def test_words_are_separated_by_blanks_tabs_or_commas(tmp_path: Path, separator: str) -> None:
    lines = [separator.join(words) for words in (("a.mp4", "wave"), ("b/c.mp4", "clap"))]
    assert read(tmp_path, "\n".join(lines)) == [("a.mp4", "wave", None), ("b/c.mp4", "clap", None)]


@pytest.mark.parametrize("separator", [" ", "\t", ","])
def test_a_number_of_frames_may_stand_between_path_and_label(tmp_path: Path, separator: str) -> None:
    assert read(tmp_path, separator.join(("a.mp4", "163", "7"))) == [("a.mp4", "7", 163)]


def test_comments_and_empty_lines_are_skipped_and_lines_keep_their_number(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# mine\n\na.mp4 wave\n   \n  # more\nb.mp4 clap\n")
    assert read_list_file(path) == [ListLine(3, "a.mp4", "wave", None), ListLine(6, "b.mp4", "clap", None)]


def test_with_commas_paths_and_labels_may_hold_blanks(tmp_path: Path) -> None:
    assert read(tmp_path, "my clips/a b.mp4,arm wrestling\n") == [("my clips/a b.mp4", "arm wrestling", None)]


def test_quotes_keep_what_separates(tmp_path: Path) -> None:
    assert read(tmp_path, '"a, b.mp4",wave\n') == [("a, b.mp4", "wave", None)]
    assert read(tmp_path, '"a b.mp4" wave\n') == [("a b.mp4", "wave", None)]


def test_a_path_with_a_comma_does_not_make_a_list_with_blanks_a_csv(tmp_path: Path) -> None:
    assert [path for path, *_ in read(tmp_path, "a,b.mp4 wave\nc.mp4 clap\n")] == ["a,b.mp4", "c.mp4"]


def test_a_header_tells_the_columns(tmp_path: Path) -> None:
    assert read(tmp_path, "path,label\na.mp4,wave\n") == [("a.mp4", "wave", None)]
    assert read(tmp_path, "Label,fps,Path,frames\nwave,25,a.mp4,\nclap,30,b.mp4,9\n") == [
        ("a.mp4", "wave", None),
        ("b.mp4", "clap", 9),
    ]


def test_a_video_may_be_called_path(tmp_path: Path) -> None:
    assert read(tmp_path, "path wave\nother clap\n") == [("path", "wave", None), ("other", "clap", None)]


def test_a_byte_order_mark_and_windows_lines_are_no_part_of_a_word(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeffa.mp4,wave\r\nb.mp4,clap\r\n") == [("a.mp4", "wave", None), ("b.mp4", "clap", None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"list\.txt names no video; give a line `path label`"),
        ("# only this\n", r"list\.txt names no video"),
        ("path,label\n", "has a header and no line after it"),
        ("a.mp4 wave\n\nb.mp4\n", "line 3: 1 words separated by blanks"),
        ("my clip one.mp4 wave\n", "line 1: 4 words .* separate by commas"),
        ("a b.mp4 wave\n", r"line 1: 'b\.mp4' stands where the number of frames does"),
        ("a.mp4,wave\nb.mp4,1,2,3\n", "line 2: 4 words separated by commas"),
        ("a.mp4,wave\n,clap\n", "line 2: the path or the label is missing"),
        ("a.mp4,wave\nb.mp4,\n", "line 2: the path or the label is missing"),
        ("frames,path,label\n3,a.mp4\n", "line 2: the path or the label is missing"),
        ("path,frames,label\na.mp4,many,wave\n", "line 2: 'many' stands where the number of frames does"),
        (f"path,frames,label\na.mp4,{'9' * 5000},wave\n", "line 2: '9+' stands where the number of frames does"),
        ('"a.mp4,wave\nb.mp4,clap\n', "line 1: .*mend the quotes"),
    ],
)
def test_a_mistake_is_one_line_with_its_number(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"a.mp4 \xff\xfe\n")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        read_list_file(path)


@pytest.mark.parametrize("separator", [";", "; "])
def test_semicolons_separate_as_well(tmp_path: Path, separator: str) -> None:
    lines = [separator.join(words) for words in (("my clips/a b.mp4", "arm wrestling"), ("c.mp4", "clap"))]
    assert read(tmp_path, "\n".join(lines)) == [("my clips/a b.mp4", "arm wrestling", None), ("c.mp4", "clap", None)]
    assert read(tmp_path, "Video_Name;Class\na.mp4;wave\n") == [("a.mp4", "wave", None)]


@pytest.mark.parametrize("header", ["where,what", "a;b", "clip what", "what,when,where"])
def test_a_header_of_unknown_names_is_an_error(tmp_path: Path, header: str) -> None:
    separator = next((each for each in ",;" if each in header), " ")
    rest = separator.join(["x/a.mp4", *["wave"] * (len(header.replace(separator, "\n").splitlines()) - 1)])
    with pytest.raises(ConfigError, match=r"line 1: .* looks like a header, .* call the columns so, or remove it"):
        read(tmp_path, f"{header}\n{rest}\n")


def test_lines_of_a_path_alone_are_of_their_folders_class(tmp_path: Path) -> None:
    assert read(tmp_path, "Archery/v_1.avi\r\nYoYo/v_2.avi\r\n") == [
        ("Archery/v_1.avi", "Archery", None),
        ("YoYo/v_2.avi", "YoYo", None),
    ]
    with pytest.raises(ConfigError, match="line 1: 1 words"):
        read(tmp_path, "v_1.avi\nv_2.avi\n")


def test_the_kinetics_columns_name_a_part_of_a_video(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("label,youtube_id,time_start,time_end,split,is_cc\nair drumming,-Abc,7,17,train,0\n")
    assert read_list_file(path) == [ListLine(2, "-Abc_000007_000017.mp4", "air drumming", None, searched=True)]
    path.write_text("label,youtube_id,time_start,time_end\nwave,abc,soon,17\n")
    with pytest.raises(ConfigError, match="line 2: time_start and time_end are seconds"):
        read_list_file(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_text_of_spreadsheets_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text("path\tlabel\r\nü.mp4\twave\r\n", encoding=encoding)
    assert read_list_file(path) == [ListLine(2, "ü.mp4", "wave", None)]


def test_characters_that_end_no_line_are_part_of_a_path(tmp_path: Path) -> None:
    assert read(tmp_path, "a\x0bb\u2028c.mp4,wave\n")[0][1] == "wave"
