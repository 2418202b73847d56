"""YAML of strangers: within bounds of memory, and refused in one line."""

from __future__ import annotations

import os
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.config import Config, load_config
from stream_i3d.errors import ConfigError
from stream_i3d.yaml_text import MAX_BYTES, MAX_VALUES, parse_yaml


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "it")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 300
    return str(caught.value)


def doubled(first: str, line: str, levels: int) -> str:
    """Each level names the one before twice."""
    return "\n".join([first, *(line.format(level, level - 1) for level in range(1, levels))])


BOMBS = {
    "aliases in lists": doubled("x0: &x0 [a]", "x{0}: &x{0} [*x{1}, *x{1}]", 40),
    "aliases in mappings": doubled("x0: &x0 {a: 1}", "x{0}: &x{0} {{a: *x{1}, b: *x{1}}}", 40),
    "merges": doubled("x0: &x0 {a: 1, b: 2}", "x{0}: &x{0} {{<<: [*x{1}, *x{1}]}}", 40),
    "merges of much": "x: &x {" + ", ".join(f"a{i}: 1" for i in range(1000)) + "}\ny: {<<: [" + "*x," * 6000 + "]}",
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_what_grows_without_bounds_is_refused_in_little_memory(text: str) -> None:
    tracemalloc.start()
    try:
        said = refusal(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "values" in said or "merges" in said
    assert peak < 64 * 2**20


def test_as_many_values_as_are_allowed_are_read() -> None:
    text = "[" + "1," * (MAX_VALUES - 1) + "]"
    assert len(parse_yaml(text, "it")) == MAX_VALUES - 1
    assert "more than" in refusal(text.replace("1", "[2]", 1))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("window: {stride: 4}\nwindow: {stride: 8}", "line 2 is not valid YAML: the key 'window' is there twice"),
        ("a: {b: 1, c: 2, b: 3}", "the key 'b' is there twice"),
        ("[" * 2000, "nested too deeply"),
        ("a: &a {b: *a}", "refers to itself"),
        ("a: !!int ''", "not of the kind that its tag"),
        ("a: !!float ''", "not of the kind that its tag"),
        ("a: !!bool x", "not of the kind that its tag"),
        ("a: !!timestamp x", "not of the kind that its tag"),
        ("a: 0x" + "f" * 9000, "more than 20 digits"),
        ("a: " + ":".join(["1"] * 3000), "more than 20 digits"),
        ("? 0x" + "f" * 100 + "\n: 1", "more than 20 digits"),
        ('a: "\\ud800"', "half a character"),
        ('"\\udfff": 1', "half a character"),
        ("a\0b", "special characters"),
        ("a: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("!" * 5000, "could not determine a constructor"),
        ("x" * (MAX_BYTES + 1), "larger than 256 KiB"),
    ],
    ids=range(17),
)
def test_what_no_setting_can_be_is_one_short_line(text: str, problem: str) -> None:
    assert problem in refusal(text)


def test_a_key_may_stand_beside_the_same_one_of_a_merge_and_be_merged_twice() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b}\nd: {<<: [*a, *b], z: 4}\n1: one\n'1': text"
    assert parse_yaml(text, "it") == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 3, "y": 2},
        "c": {"x": 3, "y": 2},
        "d": {"x": 1, "y": 2, "z": 4},
        1: "one",
        "1": "text",
    }


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-7", "latin-1", "cp037"])
def test_a_file_of_another_encoding_is_refused_or_read_as_what_its_bytes_say(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes("window: {stride: 4} # ä".encode(encoding))
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
        raise ConfigError("read")  # UTF-7 is ASCII
    assert len(str(caught.value).splitlines()) == 1


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbfwindow: {stride: 4}")
    assert load_config(path, {}).window.stride == 4


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no device that never ends")
def test_a_device_that_never_ends_is_refused() -> None:
    with pytest.raises(ConfigError, match="larger than 256 KiB"):
        load_config(Path("/dev/zero"), {})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX's")
def test_a_pipe_can_be_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("window: {stride: 4}",))
    writer.start()
    assert load_config(pipe, {}).window.stride == 4
    writer.join()


_PIECES = st.sampled_from(
    ["&a ", "*a", "<<: ", "{", "}", "[", "]", ",", "? ", ": ", "- ", "!!int ", "!!set ", "!!binary ", "!!omap ", "|\n",
     "window", "stride", "cameras", "source", "'", '"', "\n", "  ", "1e999", ".nan", "0x1", "1:2", "2026-01-01", "~",
     "${HOME}", "%YAML 1.1\n", "---\n", "...", "\ufeff", "\x85", "\\u2028"]
)  # fmt: skip


@settings(max_examples=400)
@given(st.lists(_PIECES | st.text(max_size=3), max_size=25).map("".join))
def test_any_pieces_of_yaml_are_settings_or_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "pieces.yaml"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    try:
        assert isinstance(load_config(path, {}, environ={"HOME": "x"}), Config)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
        assert len(str(error)) < 1000
