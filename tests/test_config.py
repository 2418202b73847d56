from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_i3d.config import (
    LIVE_SETTINGS,
    CameraConfig,
    Config,
    EventsConfig,
    change_settings,
    convert,
    live_settings,
    load_config,
)
from stream_i3d.errors import ConfigError
from stream_i3d.settings import to_yaml

VARIABLES = ("CAMERA_PASSWORD", "CAMERA_URL", "CAMERA_USER", "MQTT_PASSWORD", "WEBHOOK_SECRET")
CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.fixture
def write(tmp_path: Path):
    def write_yaml(text: str | bytes) -> Path:
        path = tmp_path / "camera.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write_yaml


def refusal(data: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        convert(data)
    return str(caught.value)


# --- where values come from


def test_without_a_file_everything_has_its_default():
    config = load_config(None, {})
    assert config == Config()
    assert (config.window.stride, config.window.clip_len, config.publish.address) == (8, None, "tcp://127.0.0.1:5556")


def test_yaml_goes_over_the_defaults_and_leaves_the_rest(write):
    config = load_config(write("window: {stride: 4}\ncameras: [{source: '0', name: desk}]"), {})
    assert config.window.stride == 4
    assert config.window.max_span_ratio == Config().window.max_span_ratio
    assert (config.cameras[0].source, config.cameras[0].name) == ("0", "desk")


def test_flags_go_over_yaml_key_by_key(write):
    path = write("window: {stride: 4, sample_fps: 10}\nmodel: {device: cpu}")
    config = load_config(path, {"window.stride": 2, "publish.top_k": 3})
    assert (config.window.stride, config.window.sample_fps, config.publish.top_k) == (2, 10, 3)
    assert config.model.device == "cpu"


def test_flags_that_were_not_given_leave_yaml_alone(write):
    assert load_config(write("window: {stride: 4}"), {"window.stride": None}).window.stride == 4


def test_flags_of_nothing_but_false_and_zero_still_count(write):
    config = load_config(
        write("capture: {retry: true}\nidle: {min_motion: 2}"), {"capture.retry": False, "idle.min_motion": 0}
    )
    assert (config.capture.retry, config.idle.min_motion) == (False, 0)


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "---\n", "{}"])
def test_an_empty_file_is_all_defaults(write, text):
    assert load_config(write(text), {}) == Config()


def test_a_flag_may_stand_over_a_section_left_empty(write):
    assert load_config(write("window:\n"), {"window.stride": 3}).window.stride == 3


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_example_configurations_are_valid(path):
    config = load_config(path, {}, environ=dict.fromkeys(VARIABLES, "rtsp://h/x"))
    assert config.cameras


def test_the_commented_example_shows_the_defaults():
    shown = load_config(CONFIGS[-1].with_name("webcam.yaml"), {})
    assert msgspec.structs.replace(shown, cameras=[]) == Config()


def test_there_are_example_configurations():
    assert len(CONFIGS) >= 3


# --- streaming mode


@pytest.mark.parametrize("stride", [4, 8])
def test_streaming_mode_has_two_strides(stride):
    window = convert({"window": {"mode": "streaming", "stride": stride, "averaging": 3, "frame_interval": 1}}).window
    assert (window.mode, window.stride, window.averaging) == ("streaming", stride, 3)


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ({"mode": "streaming", "stride": 5}, "stride 5 is not possible in streaming mode: give 8, or 4"),
        ({"mode": "streaming", "frame_interval": 2}, "frame_interval 2 is not possible in streaming mode"),
        ({"averaging": 2}, "averaging 2 is of no use to single windows: give mode streaming"),
        ({"mode": "stream"}, "window.mode: expected one of window, streaming, got 'stream'"),
        ({"mode": "streaming", "averaging": 0}, "window.averaging"),
    ],
)
def test_what_a_mode_cannot_do_is_said(window, said):
    message = refusal({"window": window})
    assert said in message
    assert "\n" not in message


def test_the_stride_of_streaming_mode_changes_to_one_it_has():
    config = convert({"window": {"mode": "streaming"}})
    assert change_settings(config, {"window.stride": 4}).window.stride == 4
    with pytest.raises(ConfigError, match="stride 16 is not possible in streaming mode"):
        change_settings(config, {"window.stride": 16})


# --- unknown keys


@pytest.mark.parametrize(
    ("data", "key", "meant", "allowed"),
    [
        ({"windw": {}}, "windw", "window", "smoothing"),
        ({"window": {"strid": 4}}, "window.strid", "stride", "clip_len"),
        ({"cameras": [{"sorce": "0"}]}, "cameras[0].sorce", "source", "name"),
        ({"cameras": [{"source": "0"}, {"source": "1", "nme": "x"}]}, "cameras[1].nme", "name", "source"),
        ({"publish": {"adress": "x"}}, "publish.adress", "address", "jsonl"),
    ],
)
def test_an_unknown_key_is_named_with_the_one_that_was_meant(data, key, meant, allowed):
    message = refusal(data)
    assert f"unknown key {key!r}" in message
    assert f"did you mean {meant!r}?" in message
    assert allowed in message.partition("allowed here: ")[2]


def test_an_unknown_key_like_nothing_known_gets_no_guess_but_the_list():
    message = refusal({"window": {"xyzzy": 1}})
    assert "did you mean" not in message
    assert "allowed here: mode, stride, clip_len, frame_interval, sample_fps, view, max_span_ratio" in message


def test_keys_that_are_no_text_are_unknown_too():
    assert "unknown key '7'" in refusal({7: 1})
    assert "unknown key 'events.True'" in refusal({"events": {True: 0.5}})  # what YAML makes of `on: 0.5`


def test_an_unknown_key_in_a_file_names_the_file(write):
    path = write("window: {strid: 4}")
    with pytest.raises(ConfigError, match="did you mean 'stride'") as caught:
        load_config(path, {})
    assert str(path) in str(caught.value)


def test_an_unknown_flag_is_refused_like_an_unknown_key():
    with pytest.raises(ConfigError, match=r"unknown key 'window.strid' \(did you mean 'stride'\?\)"):
        load_config(None, {"window.strid": 4})


# --- wrong types and ranges


@pytest.mark.parametrize(
    ("data", "key", "allowed", "got"),
    [
        ({"window": {"stride": 0}}, "window.stride", ">= 1", "got 0"),
        ({"window": {"stride": 10001}}, "window.stride", "<= 10000", "got 10001"),
        ({"window": {"stride": 10**30}}, "window.stride", "<= 10000", f"got {10**30}"),
        ({"window": {"stride": "8"}}, "window.stride", "int", "got str"),
        ({"window": {"stride": 2.5}}, "window.stride", "int", "got float"),
        ({"window": {"stride": True}}, "window.stride", "int", "got bool"),
        ({"window": {"clip_len": 5}}, "window.clip_len", ">= 8", "got 5"),
        ({"window": {"max_span_ratio": 1}}, "window.max_span_ratio", "> 1", "got 1"),
        ({"window": {"sample_fps": math.nan}}, "window.sample_fps", ">= 1", "got nan"),
        ({"window": {"sample_fps": math.inf}}, "window.sample_fps", "<= 240", "got inf"),
        ({"smoothing": {"time_constant_s": 0}}, "smoothing.time_constant_s", "> 0", "got 0"),
        ({"smoothing": {"time_constant_s": math.nan}}, "smoothing.time_constant_s", "> 0", "got nan"),
        ({"idle": {"min_confidence": 1.01}}, "idle.min_confidence", "<= 1", "got 1.01"),
        ({"idle": {"min_confidence": math.nan}}, "idle.min_confidence", ">= 0", "got nan"),
        ({"publish": {"address": 5556}}, "publish.address", "str", "got int"),
        ({"capture": {"retry": "no"}}, "capture.retry", "bool", "got str"),
        ({"model": {"precision": "fp8"}}, "model.precision", "auto, fp32, bf16, fp16", "got 'fp8'"),
        ({"smoothing": {"method": "median"}}, "smoothing.method", "ema, mean, vote, none", "got 'median'"),
        ({"model": []}, "model", "object", "got array"),
        ({"cameras": {"source": "0"}}, "cameras", "array", "got object"),
        ({"cameras": ["0"]}, "cameras[0]", "object", "got str"),
        (
            {"cameras": [{"source": "0", "name": "front door"}]},
            "cameras[0].name",
            "1 to 64 letters",
            "got 'front door'",
        ),
        ({"cameras": [{"source": "0", "name": "x" * 65}]}, "cameras[0].name", "1 to 64 letters", "got 'xxx"),
        ({"cameras": [{"source": "0", "name": "door\n"}]}, "cameras[0].name", "1 to 64 letters", r"got 'door\n'"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_is_allowed(data, key, allowed, got):
    message = refusal(data)
    assert message.startswith(f"{key}: ")
    assert allowed in message
    assert got in message and message.count("got ") == 1


def test_a_camera_without_a_source_is_refused():
    message = refusal({"cameras": [{"source": "0"}, {"name": "x"}]})
    assert message.startswith("cameras[1]: ")
    assert "source" in message


def test_a_password_in_a_wrong_value_is_not_shown():
    message = refusal({"cameras": [{"source": "0", "name": "rtsp://root:hunter2@camera/x"}]})
    assert "hunter2" not in message
    assert "***@camera" in message


@pytest.mark.parametrize("data", [None, 3, "window", [], [{"window": {}}]])
def test_what_is_no_mapping_is_refused(data):
    assert "expected object" in refusal(data)


def test_a_wrong_value_in_a_file_names_the_file(write):
    path = write("window: {stride: 0}")
    with pytest.raises(ConfigError, match=r"^window\.stride: expected int >= 1, got 0") as caught:
        load_config(path, {})
    assert str(path) in str(caught.value)


def test_a_flag_below_a_value_that_is_no_section_is_refused(write):
    with pytest.raises(ConfigError, match="window: expected a mapping"):
        load_config(write("window: [1]"), {"window.stride": 4})


def test_an_action_may_not_end_above_the_threshold_at_which_it_starts():
    message = refusal({"events": {"on_threshold": 0.4, "off_threshold": 0.6}})
    assert message.startswith("events: ")
    assert "0.6" in message and "0.4" in message
    assert convert({"events": {"on_threshold": 0.4, "off_threshold": 0.4}}).events == EventsConfig(
        on_threshold=0.4, off_threshold=0.4
    )


def test_raising_only_the_lower_threshold_above_the_default_upper_one_is_refused():
    assert "0.5" in refusal({"events": {"off_threshold": 0.9}})


# --- the environment


def test_variables_are_taken_from_the_environment(write):
    path = write("cameras: [{source: 'rtsp://${USER_NAME}:${PW_2}@camera/live'}]")
    config = load_config(path, {}, environ={"USER_NAME": "root", "PW_2": "p@ss"})
    assert config.cameras[0].source == "rtsp://root:p@ss@camera/live"


def test_a_missing_variable_is_named_with_the_key_that_wants_it(write):
    with pytest.raises(ConfigError, match=r"^cameras\[0\]\.source: the environment has no PW; set it"):
        load_config(write("cameras: [{source: 'rtsp://a:${PW}@camera'}]"), {}, environ={"PWD": "x"})


def test_an_empty_variable_is_not_a_missing_one(write):
    assert load_config(write("model: {checkpoint: 'a${X}b'}"), {}, environ={"X": ""}).model.checkpoint == "ab"


@pytest.mark.parametrize("text", ["$HOME", "${}", "${1A}", "$ {A}", "${A B}", "{A}", "100 $"])
def test_what_only_looks_like_a_variable_stays(write, text):
    path = write(yaml.safe_dump({"model": {"checkpoint": text}}))
    assert load_config(path, {}, environ={"A": "no", "HOME": "no"}).model.checkpoint == text


def test_what_a_variable_holds_is_not_looked_up_again(write):
    config = load_config(write("model: {checkpoint: '${A}'}"), {}, environ={"A": "${B}", "B": "no"})
    assert config.model.checkpoint == "${B}"


def test_flags_are_not_looked_up_in_the_environment():
    assert load_config(None, {"model.checkpoint": "${A}"}, environ={"A": "no"}).model.checkpoint == "${A}"


# --- files


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("window: {stride: 4", 1, ""),
        ("window:\n\tstride: 4", 2, "character"),
        ("a: !!python/object/apply:os.getcwd []", 1, "constructor"),
        ("a: 1\n---\nb: 2", 2, "another document"),
        ("? [a]\n: b", 1, "unhashable"),
        ("<<: 3", 1, "merging"),
    ],
)
def test_what_is_not_yaml_is_said_with_its_line(write, text, line, problem):
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    message = str(caught.value)
    assert f"{path}, line {line}" in message and "not valid YAML" in message
    assert problem in message
    assert len(message.splitlines()) == 1


def test_yaml_nested_too_deeply_is_refused(write):
    with pytest.raises(ConfigError, match="nested too deeply"):
        load_config(write("[" * 1500), {})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("cameras: &a [*a]", "refers to itself"),
        ("publish: {jsonl: 2026-13-45}", "month must be in 1..12"),
        ("window: {stride: 0b_}", "base 2"),
        (f"window: {{stride: {'1' * 5000}}}", "digits"),
        ("model: {name: a\x07b}", "special characters are not allowed"),
    ],
)
def test_yaml_that_cannot_be_read_as_data_is_one_line(write, text, problem):
    path = write(text)
    with pytest.raises(ConfigError, match="not valid YAML") as caught:
        load_config(path, {})
    assert problem in str(caught.value) and str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("text", "kind"), [("- 1", "list"), ("hello", "str"), ("7", "int"), ("2026-01-02", "date")])
def test_a_file_that_is_no_mapping_says_what_it_is_and_what_is_allowed(write, text, kind):
    with pytest.raises(ConfigError, match=rf"holds a {kind}; allowed is a mapping of cameras, model, window"):
        load_config(write(text), {})


def test_a_missing_file_is_one_line_with_a_remedy(tmp_path):
    path = tmp_path / "none.yaml"
    with pytest.raises(ConfigError, match="No such file") as caught:
        load_config(path, {})
    assert str(path) in str(caught.value)
    assert "configs/webcam.yaml" in str(caught.value)


def test_a_folder_is_no_configuration(tmp_path):
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config(tmp_path, {})


def test_a_file_that_is_not_utf8_is_said(write):
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(write(b"model: {name: \xff\xfe}"), {})


# --- showing


def test_the_shown_yaml_holds_no_password():
    config = convert({"cameras": [{"source": "rtsp://root:hunter2@camera/live?token=abc"}, {"source": "0"}]})
    shown = to_yaml(config)
    assert "hunter2" not in shown and "root" not in shown and "abc" not in shown
    assert "rtsp://***@camera/live" in shown
    assert list(yaml.safe_load(shown)) == list(Config.__struct_fields__)  # in the order of the documentation


def test_the_shown_yaml_reads_back_as_the_same_configuration(write):
    config = convert({"cameras": [{"source": "Eingang Süd.mp4"}], "window": {"stride": 4, "sample_fps": 12.5}})
    assert load_config(write(to_yaml(config)), {}) == config
    assert "Eingang Süd.mp4" in to_yaml(config)


def test_a_configuration_cannot_be_changed_after_it_was_checked():
    with pytest.raises(AttributeError):
        Config().window.stride = 0  # type: ignore[misc]


@pytest.mark.parametrize("password", ["hunter'2", 'hunter"2'])
def test_the_shown_yaml_holds_no_password_with_a_quote_in_it(password):
    assert "hunter" not in to_yaml(convert({"cameras": [{"source": f"rtsp://root:{password}@camera"}]}))


# --- anything at all

_SECTIONS = {
    section: list(kind.__struct_fields__)
    for section, kind in msgspec.structs.asdict(Config()).items()
    if isinstance(kind, msgspec.Struct)
}
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["auto", "ema", "fp32", "0", "rtsp://u:p@h"])
)
_KEYS = st.sampled_from(
    ["cameras", "source", "name", *_SECTIONS, *(field for fields in _SECTIONS.values() for field in fields)]
) | st.text(max_size=8)
_ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(_KEYS | st.integers() | st.none() | st.booleans(), inner, max_size=4)
    ),
    max_leaves=12,
)
_NEARLY_RIGHT = st.fixed_dictionaries(
    {},
    optional={
        "cameras": st.lists(st.fixed_dictionaries({"source": _SCALARS}, optional={"name": _ANYTHING}), max_size=3),
        **{
            section: st.fixed_dictionaries({}, optional=dict.fromkeys(fields, _SCALARS | _ANYTHING))
            for section, fields in _SECTIONS.items()
        },
    },
)


@settings(deadline=None, max_examples=300)
@given(_ANYTHING | _NEARLY_RIGHT)
def test_any_data_is_a_valid_configuration_or_one_clear_line(data):
    try:
        config = convert(data)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert convert(msgspec.to_builtins(config)) == config


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60) | st.text("{}[]:,-&*!|>'\"%@`#?~<= \n\tab01.$", max_size=40))
def test_any_text_in_a_file_is_a_valid_configuration_or_one_clear_line(write, text):
    path = write(text.encode("utf-8", errors="surrogatepass"))
    try:
        assert isinstance(load_config(path, {}, environ={}), Config)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1


# --- two streams


@pytest.mark.parametrize("name", ["two-stream-i3d", "two-stream"])
def test_two_streams_have_the_weights_of_two_networks(name):
    model = convert({"model": {"name": name, "checkpoint": "rgb.pt", "flow_checkpoint": "flow.pt"}}).model
    assert model.two_stream
    assert (model.flow_checkpoint, model.flow, model.fusion) == ("flow.pt", "dis", "probabilities")


def test_two_streams_without_the_flow_networks_weights_are_refused():
    assert refusal({"model": {"name": "two-stream-i3d"}}) == (
        "model: two-stream-i3d needs the weights of two networks: give flow_checkpoint (--flow-checkpoint) for optical "
        "flow beside checkpoint (--checkpoint) for RGB"
    )


def test_flow_weights_without_two_streams_are_refused():
    assert refusal({"model": {"flow_checkpoint": "flow.pt"}}) == (
        "model: flow_checkpoint is of no use to 'i3d': give name two-stream-i3d (--model two-stream-i3d), "
        "or leave it out"
    )


@pytest.mark.parametrize(
    ("key", "allowed"), [("flow", "dis, farneback, tvl1"), ("fusion", "probabilities, logits")], ids=["flow", "fusion"]
)
def test_an_unknown_flow_or_fusion_is_told_with_those_there_are(key, allowed):
    assert refusal({"model": {key: "tvl2"}}) == f"model.{key}: expected one of {allowed}, got 'tvl2'"


def test_a_webcams_index_needs_no_quotes_and_an_empty_section_is_the_default(tmp_path):
    file = tmp_path / "desk.yaml"
    file.write_text("cameras:\n  - source: 0\nmodel:\nwindow:\n")
    config = load_config(file, {})
    assert config.cameras[0].source == "0"
    assert config.model == Config().model


# --- keys


def test_without_keys_nobody_needs_any():
    assert not Config().security.keyed and Config().security.client_places == []


@pytest.mark.parametrize(
    ("clients", "places"), [("folder", ["folder"]), (["a.key", "folder"], ["a.key", "folder"])], ids=["one", "several"]
)
def test_a_key_and_clients_make_a_service_keyed(clients, places):
    security = convert({"security": {"key": "service.key_secret", "clients": clients}}).security
    assert security.keyed and security.client_places == places


@pytest.mark.parametrize(
    "data", [{"key": "a"}, {"clients": "a"}, {"key": "a", "clients": []}, {"key": "a", "clients": ""}]
)
def test_a_key_without_clients_or_clients_without_a_key_are_refused(data):
    assert refusal({"security": data}).startswith(
        "security: key and clients belong together: give the service's secret key (--key NAME.key_secret)"
    )


def test_keys_cannot_be_changed_while_it_runs():
    with pytest.raises(ConfigError, match="cannot be changed at run time"):
        change_settings(Config(), {"security.key": "other.key_secret"})


# --- what may be changed while it runs


def test_live_settings_are_the_values_of_the_configuration():
    config = convert({"window": {"stride": 3}, "smoothing": {"method": "vote"}})
    shown = live_settings(config)
    assert tuple(shown) == LIVE_SETTINGS
    assert (shown["window.stride"], shown["smoothing.method"], shown["idle.min_confidence"]) == (3, "vote", 0.3)


def test_a_change_leaves_all_else_as_it_was():
    config = convert({"cameras": [{"source": "0"}], "window": {"stride": 3, "clip_len": 32}})
    changed = change_settings(config, {"window.stride": 5, "idle.min_motion": 0})
    assert (changed.window.stride, changed.window.clip_len, changed.idle.min_motion) == (5, 32, 0)
    assert change_settings(changed, {"window.stride": 3, "idle.min_motion": 2.0}) == config


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"window.stride": 0}, "window.stride: expected int >= 1, got 0"),
        ({"window.strid": 4}, "did you mean 'window.stride'?"),
        ({"model.checkpoint": "/etc/passwd"}, "cannot be changed at run time"),
        ({"smoothing.method": "median"}, "expected one of ema, mean, vote, none, got 'median'"),
        ({"idle.min_confidence": None}, "expected float"),
        ({"idle.min_confidence": 1.5}, "<= 1.0, got 1.5"),
        ({"window.stride": 4, "publish.top_k": 0}, "publish.top_k"),
    ],
)
def test_a_change_that_is_not_allowed_is_one_line(changes, said):
    with pytest.raises(ConfigError) as caught:
        change_settings(Config(), changes)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(LIVE_SETTINGS) | st.text(max_size=12), _JSON, max_size=3))
def test_any_change_gives_a_valid_configuration_or_an_error_of_ours(changes):
    try:
        changed = change_settings(Config(), changes)
    except ConfigError:
        return
    assert convert(msgspec.to_builtins(changed)) == changed


def test_an_error_in_yaml_does_not_show_what_may_be_a_password(tmp_path):
    file = tmp_path / "settings.yaml"
    for value in ("*geheim", "!geheim x"):
        file.write_text(f"cameras:\n- source: {value}\n")
        with pytest.raises(ConfigError) as caught:
            load_config(file, {})
        assert "geheim" not in str(caught.value) and "is not valid YAML" in str(caught.value)


def test_what_a_url_hides_is_hidden_where_a_mapping_was_expected():
    with pytest.raises(ConfigError) as caught:
        load_config(None, {"model": "rtsp://a:geheim@camera", "model.name": "x"})
    assert str(caught.value) == "model: expected a mapping, got 'rtsp://***@camera'"


def test_a_shown_configuration_hides_a_password_with_a_blank():
    shown = to_yaml(Config(cameras=[CameraConfig(source="rtsp://admin:ge heim@camera/x")]))
    assert "rtsp://***@camera/x" in shown and "heim" not in shown


def test_a_password_in_an_option_comes_from_the_environment_too():
    cameras = {"cameras": [{"source": "rtsp://viewer:${CAMERA_PASSWORD}@camera/x"}]}
    loaded = load_config(None, cameras, {"CAMERA_PASSWORD": "geheim"})
    assert loaded.cameras[0].source == "rtsp://viewer:geheim@camera/x"
    with pytest.raises(ConfigError, match=r"cameras\[0\].source: the environment has no CAMERA_PASSWORD"):
        load_config(None, cameras, {})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({None: 3}, "the configuration: a key that is no text; put it in quotes"),
        (
            {"sinks": [{"type": "webhook", "url": "http://x/y", "headers": {1: "geheim"}}]},
            "sinks[0].headers: a key that is no text; put it in quotes",
        ),
    ],
)
def test_a_key_that_is_no_text_is_said_where_it_stands(data: dict[Any, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        convert(data)
    assert str(refused.value) == said


# --- who is at fault: the file, or the command line


def test_a_mistake_on_the_command_line_is_not_blamed_on_the_file(write):
    path = write("window: {stride: 4}")
    with pytest.raises(ConfigError, match=r"unknown key 'window\.strid'.*\(on the command line, over .*\)$"):
        load_config(path, {"window.strid": 3})
    with pytest.raises(ConfigError, match=r"window\.stride: expected int >= 1, got 0 \(on the command line, over"):
        load_config(path, {"window.stride": 0})


def test_a_mistake_in_the_file_is_the_files_whatever_is_on_the_command_line(write):
    path = write("window: {strid: 4}")
    with pytest.raises(ConfigError) as caught:
        load_config(path, {"window.clip_len": 16})
    assert str(caught.value).endswith(f"(in {path})")


def test_what_the_file_has_wrong_and_the_command_line_mends_is_no_mistake(write):
    assert load_config(write("window: {stride: 0}"), {"window.stride": 4}).window.stride == 4


def test_a_key_under_what_is_no_mapping_in_the_file_is_the_files_mistake(write):
    path = write("window: 5")
    with pytest.raises(ConfigError) as caught:
        load_config(path, {"window.stride": 4})
    assert str(caught.value) == f"window: expected a mapping, got 5 (in {path})"


# --- the threshold


def test_without_a_threshold_of_the_users_the_usual_one_is_in_force():
    assert Config().idle.min_confidence is None
    assert Config().idle.threshold == 0.3
    assert convert({"idle": {"min_confidence": 0.0}}).idle.threshold == 0.0


def test_the_old_name_of_two_streams_is_read_as_the_new_one_and_shown_so():
    model = convert({"model": {"name": "two-stream", "checkpoint": "rgb.pt", "flow_checkpoint": "flow.pt"}}).model
    assert model.name == "two-stream-i3d"


def test_two_stream_by_itself_is_the_2d_network_and_the_refusal_names_both():
    message = refusal({"model": {"name": "two-stream"}})
    assert message.startswith("model: 'two-stream' is the 2D network of that name, which does not run live")
    assert "--model two-stream-i3d" in message and "--flow-checkpoint" in message
