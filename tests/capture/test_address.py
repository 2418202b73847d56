from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.capture.address import SyntheticOptions, parse_source, parse_synthetic
from stream_i3d.errors import ConfigError

CAMERA_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


# --- what a text means


@pytest.mark.parametrize(
    ("text", "kind", "target", "live", "name"),
    [
        ("0", "webcam", "0", True, "webcam0"),
        (" 12 ", "webcam", "12", True, "webcam12"),
        ("/dev/video2", "webcam", "/dev/video2", True, "video2"),
        ("/dev/v4l/by-id/usb-046d:0825", "webcam", "/dev/v4l/by-id/usb-046d:0825", True, "usb-046d-0825"),
        ("rtsp://10.0.0.9:554/live", "url", "rtsp://10.0.0.9:554/live", True, "10.0.0.9"),
        ("RTSP://Camera/Live", "url", "RTSP://Camera/Live", True, "camera"),
        ("rtsps://camera.example.org", "url", "rtsps://camera.example.org", True, "camera.example.org"),
        ("rtmp://h/app", "url", "rtmp://h/app", True, "h"),
        ("http://h/a.m3u8", "url", "http://h/a.m3u8", True, "h"),
        ("https://[2001:db8::7]/x", "url", "https://[2001:db8::7]/x", True, "2001-db8-7"),
        ("a/b/walk through.mp4", "file", "a/b/walk through.mp4", False, "walk-through"),
        ("/abs/clip.avi", "file", "/abs/clip.avi", False, "clip"),
        ("file:///abs/clip.avi", "file", "/abs/clip.avi", False, "clip"),
        (f"{'x' * 99}.mp4", "file", f"{'x' * 99}.mp4", False, "x" * 64),
        ("-.mp4", "file", "-.mp4", False, "camera"),
        ("日本.mp4", "file", "日本.mp4", False, "camera"),
        ("synthetic://", "synthetic", "", False, "synthetic"),
        ("synthetic://?seed=3", "synthetic", "?seed=3", False, "synthetic"),
        ("0.mp4", "file", "0.mp4", False, "0"),
        ("-1", "file", "-1", False, "1"),
    ],
)
def test_a_source_text_says_what_opens_it_and_how_the_camera_is_called(text, kind, target, live, name):
    address = parse_source(text)
    assert (address.kind, address.target, address.live, address.default_name) == (kind, target, live, name)


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_no_source_at_all_says_what_may_be_given(text):
    with pytest.raises(ConfigError, match="give a webcam index, a device path, a URL, a video file or synthetic://"):
        parse_source(text)


@pytest.mark.parametrize(("text", "meant"), [("rstp://h", "rtsp"), ("htp://h", "http"), ("synthetc://", "synthetic")])
def test_a_misspelt_kind_of_url_is_asked_about(text, meant):
    with pytest.raises(ConfigError, match=rf"did you mean '{meant}'\?\); allowed are rtsp, .*, synthetic"):
        parse_source(text)


def test_an_unreadable_kind_of_url_is_refused_without_showing_its_password():
    with pytest.raises(ConfigError, match="unknown kind") as caught:
        parse_source("ftp://root:hunter2@host/x.mp4")
    assert "hunter2" not in str(caught.value) and "root" not in str(caught.value)


# --- names


@pytest.mark.parametrize(
    "userinfo",
    [
        "USER:SECRET",
        "USER",
        ":SECRET",
        "USER:SECRET@x",
        "USER:a@SECRET",
        "USER:%40SECRET",
        "USER:a/SECRET",
        "USER:a#SECRET",
        "USER:a?SECRET",
        "USER:[SECRET",
        "USER:SECRET]",
        "USER:554/SECRET",
    ],
)
def test_a_cameras_name_is_its_host_and_nothing_of_its_user_name_or_password(userinfo):
    name = parse_source(f"rtsp://{userinfo}@camera:554/live").default_name
    assert name == "camera"


@pytest.mark.parametrize("url", ["http://h]/", "rtsp://[/x", "rtsp://", "rtsp:///x", "rtsp://@/", "rtsp://:554/x"])
def test_a_url_without_a_readable_host_still_has_a_name(url):
    assert CAMERA_NAME.fullmatch(parse_source(url).default_name)


@settings(deadline=None, max_examples=300)
@given(
    st.text(max_size=90)
    | st.text(max_size=90).map("rtsp://{}".format)
    | st.text(st.characters(categories=["N"]), min_size=1, max_size=3)
    | st.from_regex(r"/dev/[a-z0-9:/ .]{0,90}", fullmatch=True)
)
def test_any_source_is_refused_in_one_line_or_has_a_name_fit_for_a_topic(text):
    try:
        address = parse_source(text)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert CAMERA_NAME.fullmatch(address.default_name)


@settings(deadline=None, max_examples=300)
@given(*[st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=10)] * 3)
def test_no_password_is_ever_part_of_a_name(before, middle, after):
    name = parse_source(f"rtsp://{before}USER:{middle}SECRET{after}@camera/live").default_name
    assert "user" not in name.lower() and "secret" not in name.lower()


def test_digits_that_are_no_index_are_a_file():
    assert parse_source("²").kind == "file"  # str.isdigit() is True of it; int() refuses it


# --- synthetic://


def test_every_option_of_a_synthetic_scene_is_read():
    given_options = parse_synthetic("?seed=7&fps=12.5&size=640x480&duration=60")
    assert given_options == SyntheticOptions(seed=7, fps=12.5, width=640, height=480, duration_s=60)
    assert parse_synthetic("") == parse_synthetic("?") == SyntheticOptions()


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("?sed=1", "unknown option 'sed' (did you mean 'seed'?)"),
        ("?Seed=1", "unknown option 'Seed'"),
        ("?seed=1&colour=red", "unknown option 'colour'"),
        ("?seed=x", "no number"),
        ("?seed=", "no number"),
        ("?seed=1.5", "no number"),
        ("?fps=fast", "no number"),
        ("?size=320", "no number"),
        ("?size=320x240x3", "no number"),
        ("?size=320*240", "no number"),
        ("?duration=1min", "no number"),
        ("?seed=-1", "out of range"),
        ("?fps=0", "out of range"),
        ("?fps=0.09", "out of range"),
        ("?fps=241", "out of range"),
        ("?fps=nan", "out of range"),
        ("?fps=inf", "out of range"),
        ("?size=63x240", "out of range"),
        ("?size=320x63", "out of range"),
        ("?size=4097x240", "out of range"),
        ("?size=320x4097", "out of range"),
        ("?size=-320x-240", "out of range"),
        ("?duration=-1", "out of range"),
        ("?duration=nan", "out of range"),
        ("?duration=1e400", "out of range"),
    ],
)
def test_a_wrong_option_of_a_synthetic_scene_is_named_with_what_is_allowed(query, problem):
    for parse, text in ((parse_synthetic, query), (parse_source, f"synthetic://{query}")):
        with pytest.raises(ConfigError) as caught:
            parse(text)
        message = str(caught.value)
        assert problem in message
        assert "allowed are ?seed=0..&fps=0.1..240&size=WxH (64 to 4096)&duration=SECONDS (0: endless)" in message


@pytest.mark.parametrize("query", ["?fps=0.1", "?fps=240", "?size=64x4096", "?seed=0", "?duration=0"])
def test_the_ends_of_the_ranges_are_allowed(query):
    assert parse_source(f"synthetic://{query}").kind == "synthetic"


def test_options_without_their_question_mark_are_not_silently_ignored():
    with pytest.raises(ConfigError, match="seed"):
        parse_source("synthetic://seed=1")


def test_what_a_source_holds_cannot_make_a_second_line_of_a_log():
    with pytest.raises(ConfigError) as caught:
        parse_source("synthetic://a\r\nERROR forged")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("blank", [" ", "\t", "\u00a0"])
def test_a_url_with_a_blank_is_refused_without_showing_it(blank):
    with pytest.raises(ConfigError) as caught:
        parse_source(f"rtsp://admin:ge{blank}heim@camera/1")
    assert str(caught.value) == "source rtsp://...: there is a blank in it; write %20 in its place"


@pytest.mark.parametrize(
    "text", ["admin:geheim@camera", "rtsp:/admin:geheim@camera", "admin:x/geheim@camera", "http://camera/?pwd=x@geheim"]
)
def test_a_mistaken_url_does_not_give_its_password_away_as_a_name(text):
    assert "geheim" not in parse_source(text).default_name


@pytest.mark.parametrize("text", ["clip-\udcff.mp4", "rtsp://user:geheim\udcff@camera/", "/dev/\ud800"])
def test_a_source_that_is_no_text_is_refused_as_no_message_could_hold_it(text):
    with pytest.raises(ConfigError, match="is no text") as refused:
        parse_source(text)
    assert "geheim" not in str(refused.value)
    str(refused.value).encode()


# --- names of files


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("http:video.mp4", "http:video.mp4"),
        ("concat:a|b", "concat:a|b"),
        ("-i.mp4", "-i.mp4"),
        ("C:\\x.mp4", "C:\\x.mp4"),
        ("C://x.mp4", "C://x.mp4"),
        ("/dev/shm/clip.mp4", "/dev/shm/clip.mp4"),
        ("clip.mp4 ", "clip.mp4 "),
        ("file:///a%20b/c%25.mp4", "/a b/c%.mp4"),
        ("file://localhost/a.mp4", "/a.mp4"),
        ("FILE:///a.mp4", "/a.mp4"),
        ("file:///C:/x.mp4", "C:/x.mp4"),
        ("file://clip.mp4", "clip.mp4"),
        ("file:x", "file:x"),
    ],
)
def test_a_files_name_is_taken_as_it_is_and_a_file_urls_is_decoded(text, target):
    address = parse_source(text)
    assert (address.kind, address.target) == ("file", target)
    assert CAMERA_NAME.fullmatch(address.default_name)


def test_a_path_under_dev_that_is_a_file_is_no_camera(monkeypatch):
    monkeypatch.setattr("stream_i3d.capture.address.kind_of", lambda path: "file" if path == "/dev/clip.mp4" else None)
    assert parse_source("/dev/clip.mp4").kind == "file"
    assert parse_source("/dev/video7").kind == "webcam"


def test_the_home_folder_may_be_written_as_in_a_shell(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert parse_source("~/clip.mp4").target == "/home/ada/clip.mp4"
    assert parse_source("~clip.mp4").target == "~clip.mp4"


@pytest.mark.parametrize("text", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/3", "/dev/stdout"])
def test_an_open_file_of_this_process_is_refused(text):
    with pytest.raises(ConfigError, match="cannot be read by another; give the path of a video file"):
        parse_source(text)


@pytest.mark.parametrize("text", ["file://", "file:///", "file://localhost/", "file:///%ff.mp4"])
def test_a_file_url_that_names_no_file_is_refused(text):
    with pytest.raises(ConfigError, match=r"^source file://"):
        parse_source(text)
