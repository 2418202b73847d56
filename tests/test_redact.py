from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.redact import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://admin:s3cret@10.0.0.9/live", "rtsp://***@10.0.0.9/live"),
        ("rtsp://admin:p@ss@10.0.0.9/live", "rtsp://***@10.0.0.9/live"),
        ("rtsp://admin:pa/ss@10.0.0.9:554/live", "rtsp://***@10.0.0.9:554/live"),
        ("rtsp://admin:a:b#c?d&e=f@camera", "rtsp://***@camera"),
        ("rtsp://admin:p%40ss@camera", "rtsp://***@camera"),
        ("rtsp://admin:[x]{y}$!*()@camera", "rtsp://***@camera"),
        ("rtsp://token@camera/1", "rtsp://***@camera/1"),
        ("rtsp://:secret@camera", "rtsp://***@camera"),
        ("RTSPS://a:b@camera", "RTSPS://***@camera"),
        ("rtmp+tls://a:b@camera", "rtmp+tls://***@camera"),
        ("http://camera/video?user=bob&password=x&fps=5", "http://camera/video?user=***&password=***&fps=5"),
        ("http://camera/video?fps=5&Token=abc", "http://camera/video?fps=5&Token=***"),
        ("http://camera/?pwd=&x=1", "http://camera/?pwd=***&x=1"),
        ("http://a:b@camera/?key=c", "http://***@camera/?key=***"),
    ],
)
def test_user_names_passwords_and_tokens_are_hidden_and_the_rest_stays(text, shown):
    assert redact(text) == shown


def test_every_url_of_a_text_is_cleaned_and_its_words_stay():
    text = "no rtsp://a:b@one/x, nor 'http://c:d@two/y?token=e' (nor \"rtmp://f:g@three\") for bob@example.org"
    shown = "no rtsp://***@one/x, nor 'http://***@two/y?token=***' (nor \"rtmp://***@three\") for bob@example.org"
    assert redact(text) == shown


def test_urls_on_several_lines_are_each_cleaned():
    assert redact("- rtsp://a:b@one\n- rtsp://c:d@two\n") == "- rtsp://***@one\n- rtsp://***@two\n"


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://camera/live",
        "http://camera/video?fps=5&size=320x240&monkey=1&keyframe=2",
        "tcp://127.0.0.1:5556",
        "ipc:///tmp/stream-i3d/frames-0",
        "user:password@host without a scheme",
        "mail to bob@example.org",
        "monkey=1&passwords=2",
        "",
    ],
)
def test_text_without_secrets_stays_as_it_is(text):
    assert redact(text) == text


# RFC 3986 and what cameras accept beside it: all but blanks and quotes, which end a URL in a text.
_ODD = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="'\""), max_size=12)


@settings(deadline=None, max_examples=300)
@given(_ODD, _ODD, _ODD, _ODD, st.sampled_from(["rtsp", "http", "rtmps"]))
def test_no_part_of_any_user_name_or_password_is_shown(before, middle, after, path, scheme):
    text = f"cannot open {scheme}://{before}USER:{middle}SECRET{after}@camera/{path} now"
    shown = redact(text)
    assert "USER" not in shown and "SECRET" not in shown
    assert shown.startswith(f"cannot open {scheme}://***@")
    assert shown.endswith(" now")


@settings(deadline=None, max_examples=150)
@given(st.text(max_size=60) | st.from_regex(r"(a?[a-z]{2,5}://[a-z:/@?&=' ]{0,20}(\?key=|&token=)?)*", fullmatch=True))
def test_cleaning_twice_is_cleaning_once(text):
    assert redact(redact(text)) == redact(text)


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=80).filter(lambda text: "://" not in text and "=" not in text))
def test_text_without_urls_is_unchanged(text):
    assert redact(text) == text


@pytest.mark.parametrize("password", ["SEC'RET", 'SEC"RET'])
def test_a_password_with_a_quote_in_it_is_hidden(password):
    assert "RET" not in redact(f"cannot open rtsp://root:{password}@camera/live")


@pytest.mark.parametrize("field", ["access_token", "api_key", "apikey", "X-Auth", "sessionid", "Signature"])
def test_other_common_names_of_secrets_in_a_query_are_hidden(field):
    assert redact(f"http://camera/?a=1&{field}=SECRET&b=2") == f"http://camera/?a=1&{field}=***&b=2"
