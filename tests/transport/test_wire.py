from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_i3d.errors import WireError
from stream_i3d.messages import ActionEvent, CameraReport, CameraStatus, Frame, LabelScore, Recognition
from stream_i3d.transport.wire import (
    MAX_HEADER_BYTES,
    MAX_PUBLISHED_BYTES,
    ReceivedFrame,
    decode_capture,
    decode_published,
    encode_frame,
    encode_published,
    encode_report,
    to_json_line,
)
from tests.samples import event, frame, number_of, recognition, report, segment, stamp, status

PUBLISHED = {"prediction": recognition(), "event": event(), "status": status()}


def on_the_wire(sent: Frame) -> list[bytes]:
    """A frame's parts as the bytes that ZeroMQ carries."""
    header, body = encode_frame(sent)
    return [header, body.tobytes()]


def header(**changes: Any) -> list[bytes]:
    """The parts of a 32 x 32 frame, with fields of its header changed (None: left out)."""
    first, body = on_the_wire(frame(7))
    fields = {**json.loads(first), **changes}
    return [json.dumps({key: value for key, value in fields.items() if value is not None}).encode(), body]


# --- frames and reports


@pytest.mark.parametrize(
    "given_stamp",
    [
        stamp(),
        stamp(7, epoch=1_700_000_000_000, camera="a.b_c-D9"),
        stamp(2**30, media_time=12.48, repeat=True),
        stamp(3, media_time=0.0, wall_time=-1.5, capture_ns=2**62),
    ],
)
def test_a_frame_comes_back_as_it_was_sent(given_stamp):
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    received = decode_capture(on_the_wire(Frame(given_stamp, picture)))
    assert isinstance(received, ReceivedFrame)
    assert all(getattr(received.stamp, name) == getattr(given_stamp, name) for name in given_stamp.__struct_fields__)
    assert received.pixels.dtype == np.uint8
    assert np.array_equal(received.pixels, picture)


def test_a_picture_that_is_not_contiguous_comes_back_right():
    wide = np.random.default_rng(0).integers(0, 256, (32, 64, 6), dtype=np.uint8)
    received = decode_capture(on_the_wire(Frame(stamp(), wide[:, ::-2, ::2])))
    assert isinstance(received, ReceivedFrame)
    assert np.array_equal(received.pixels, wide[:, ::-2, ::2])


def test_pixels_are_sent_and_received_without_a_copy():
    sent = frame(5)
    parts = encode_frame(sent)
    assert np.shares_memory(np.asarray(parts[1]), sent.pixels)
    body = memoryview(parts[1].tobytes())
    received = decode_capture([parts[0], body])
    assert isinstance(received, ReceivedFrame)
    assert np.shares_memory(received.pixels, np.frombuffer(body, np.uint8))


def test_received_pixels_cannot_be_written_to():
    received = decode_capture(on_the_wire(frame()))
    assert isinstance(received, ReceivedFrame)
    assert not received.pixels.flags.writeable


def test_a_report_comes_back_as_it_was_sent():
    for sent in (report(), report(state="stopped", final=True, detail="das Ende: ü")):
        assert decode_capture([encode_report(sent)]) == sent


def test_a_header_of_the_longest_name_is_well_within_its_limit():
    first, _ = on_the_wire(frame(2**62, camera="x" * 64, epoch=2**62))
    assert len(first) < MAX_HEADER_BYTES / 4


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([], "0 parts"),
        ([b"{}", b"", b""], "3 parts"),
        ([b"", b""], "not a header of version 1"),
        ([b"{", b""], "not a header of version 1"),
        ([b"\xff\xfe", b""], "not a header of version 1"),
        ([b"[]", b""], "not a header of version 1"),
        ([b"null", b""], "not a header of version 1"),
        ([b"{}", b""], "not a header of version 1"),
        ([b"[" * 4000, b""], "not a header of version 1"),
        ([b" " * 5000 + encode_report(report())], "header of"),
        ([encode_report(report()), b""], "second part"),
        (header()[:1], "without pixels"),
        (header(kind="picture"), "not a header of version 1"),
        (header(kind=None), "not a header of version 1"),
        (header(version=2), "not a header of version 1"),
        (header(dtype="float32"), "not a header of version 1"),
        (header(camera=None), "not a header of version 1"),
        (header(camera=""), "not a header of version 1"),
        (header(camera="a/b"), "not a header of version 1"),
        (header(camera="door\n"), "not a header of version 1"),
        (header(camera="x" * 65), "not a header of version 1"),
        (header(seq=-1), "not a header of version 1"),
        (header(seq=1.5), "not a header of version 1"),
        (header(seq="1"), "not a header of version 1"),
        (header(epoch=-1), "not a header of version 1"),
        (header(capture_ns=-1), "not a header of version 1"),
        (header(wall_time="now"), "not a header of version 1"),
        (header(repeat=1), "not a header of version 1"),
        (header(password="x"), "not a header of version 1"),
        (header(shape=[32, 32]), "not a header of version 1"),
        (header(shape=[32, 32, 3, 1]), "not a header of version 1"),
        (header(shape=[32.0, 32, 3.5]), "not a header of version 1"),
        (header(shape=[32, 32, 4]), "shape (32, 32, 4)"),
        (header(shape=[32, 96, 1]), "shape (32, 96, 1)"),
        (header(shape=[0, 32, 3]), "shape (0, 32, 3)"),
        (header(shape=[32, 0, 3]), "shape (32, 0, 3)"),
        (header(shape=[1, 8193, 3]), "from 1 to 8192"),
        (header(shape=[-32, -32, 3]), "shape (-32, -32, 3)"),
        (header(shape=[8193, 1, 3]), "from 1 to 8192"),
        (header(shape=[2**63, 2**63, 3]), "shape"),
        (header(shape=[32, 31, 3]), "3072 bytes of pixels; shape (32, 31, 3) needs 2976"),
        (header(shape=[8192, 8192, 3]), "needs 201326592"),
        ([header()[0], b""], "0 bytes of pixels"),
        ([header()[0], header()[1] + b"x"], "3073 bytes of pixels"),
    ],
)
def test_a_malformed_frame_message_is_refused_with_the_reason(parts, problem):
    with pytest.raises(WireError) as caught:
        decode_capture(parts)
    assert problem in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 1), (8192, 1), (1, 8192)])
def test_the_smallest_and_the_longest_pictures_are_allowed(shape):
    received = decode_capture(on_the_wire(Frame(stamp(), np.zeros((*shape, 3), np.uint8))))
    assert isinstance(received, ReceivedFrame) and received.pixels.shape == (*shape, 3)


def test_a_header_may_be_as_long_as_the_limit_and_no_longer():
    report_of_limit = encode_report(report()).ljust(MAX_HEADER_BYTES)
    assert decode_capture([report_of_limit]) == report()
    with pytest.raises(WireError, match="a header of 4097 bytes"):
        decode_capture([report_of_limit + b" "])


# --- what is published


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_message_comes_back_as_it_was_sent(name):
    sent = PUBLISHED[name]
    topic, body = encode_published(sent)
    assert topic == f"v1/door/{name}".encode()
    assert decode_published([topic, body]) == sent


def test_the_json_has_the_fields_of_the_design():
    body = json.loads(encode_published(recognition())[1])
    assert body["schema"] == "stream-i3d/prediction/1"
    assert set(body["window"]) == {"first_frame", "last_frame", "start_time", "end_time"}
    assert set(body["top_k"][0]) == {"index", "label", "probability", "raw_probability"}
    assert set(body["latency_ms"]) == {"queue", "inference", "total"}
    assert set(body["model"]) == {"name", "checkpoint"}
    assert {"camera", "epoch", "seq", "state", "label", "confidence", "frames_dropped", "windows_dropped"} <= set(body)
    assert json.loads(encode_published(event())[1])["schema"] == "stream-i3d/event/1"
    assert json.loads(encode_published(status())[1])["schema"] == "stream-i3d/status/1"


def test_fields_that_a_later_version_adds_are_ignored():
    topic, body = encode_published(status())
    assert decode_published([topic, body[:-1] + b',"later":[1]}']) == status()


def changed(name: str, **fields: Any) -> list[bytes]:
    """A published message with fields changed (None: left out)."""
    topic, body = encode_published(PUBLISHED[name])
    merged = {**json.loads(body), **fields}
    return [topic, json.dumps({key: value for key, value in merged.items() if value is not None}).encode()]


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([], "0 parts"),
        ([b"v1/door/event"], "1 parts"),
        ([*encode_published(event()), b""], "3 parts"),
        ([b"", b"{}"], "topic"),
        ([b"v1/door", b"{}"], "topic"),
        ([b"v2/door/event", encode_published(event())[1]], "topic"),
        ([b"v1/door/frame", encode_published(event())[1]], "topic"),
        ([b"v1/door/event/x", encode_published(event())[1]], "topic"),
        ([b"\xff/\xff/\xff", b"{}"], "topic"),
        ([b"v1/door/event", encode_published(status())[1]], "not a event message"),
        ([b"v1/gate/event", encode_published(event())[1]], "camera 'door' under the topic of 'gate'"),
        ([b"v1/door/event", b""], "not a event message"),
        ([b"v1/door/event", b"\xff"], "not a event message"),
        ([b"v1/door/event", b"[" * 10**5], "not a event message"),
        ([b"v1/door/event", b" " * (MAX_PUBLISHED_BYTES + 1)], "at most"),
        (changed("event", schema="stream-i3d/event/2"), "not a event message"),
        (changed("event", event="middle"), "not a event message"),
        (changed("event", peak_confidence=1.5), "not a event message"),
        (changed("prediction", state="sleeping"), "not a prediction message"),
        (changed("prediction", confidence=-0.1), "not a prediction message"),
        (changed("prediction", window={}), "not a prediction message"),
        (changed("prediction", latency_ms=None), "not a prediction message"),
        (changed("status", state="fine"), "not a status message"),
        (changed("status", fps=-1), "not a status message"),
        (changed("status", frames_dropped=0.5), "not a status message"),
    ],
)
def test_a_malformed_published_message_is_refused_with_the_reason(parts, problem):
    with pytest.raises(WireError) as caught:
        decode_published(parts)
    assert problem in str(caught.value)


def test_a_json_line_is_one_line_and_ends():
    for message in (recognition(label="a\nb"), event(), status(detail="x\r\ny"), segment()):
        line = to_json_line(message)
        assert line.endswith(b"\n") and line.count(b"\n") == 1
        assert json.loads(line)["schema"].startswith("stream-i3d/")


# --- anything at all


def accepts_or_refuses(decode: Callable[[list[bytes]], Any], parts: list[bytes], kinds: tuple[type, ...]) -> Any:
    """A decoder may give a message or a WireError, and nothing else."""
    try:
        message = decode(parts)
    except WireError as error:
        assert len(str(error)) < 1000
        return None
    assert isinstance(message, kinds)
    return message


CAPTURED = (ReceivedFrame, CameraReport)
WORDS = (Recognition, ActionEvent, CameraStatus)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.binary(max_size=200) | st.text(max_size=50).map(str.encode), max_size=4))
def test_random_bytes_are_no_message_and_no_crash(parts):
    assert accepts_or_refuses(decode_capture, parts, CAPTURED) is None
    assert accepts_or_refuses(decode_published, parts, WORDS) is None


_MUTATIONS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 5000), st.integers(0, 3), st.binary(max_size=4)), min_size=1, max_size=4
)


def mutated(parts: list[bytes], mutations: list[tuple[int, int, int, bytes]]) -> list[bytes]:
    """Bytes overwritten, inserted, deleted, or all after them cut off."""
    for part, place, how, junk in mutations:
        part %= len(parts)
        data = parts[part]
        at = place % (len(data) + 1)
        tail = (data[at + len(junk) :], data[at:], data[at + 1 :], b"")[how]
        parts = [*parts[:part], data[:at] + (b"" if how == 2 else junk) + tail, *parts[part + 1 :]]
    return parts


@settings(deadline=None, max_examples=400)
@given(st.booleans(), _MUTATIONS)
def test_damaged_capture_messages_are_refused_or_still_hold_to_the_rules(is_frame, mutations):
    parts = on_the_wire(frame(7, size=4)) if is_frame else [encode_report(report())]
    message = accepts_or_refuses(decode_capture, mutated(parts, mutations), CAPTURED)
    if isinstance(message, ReceivedFrame):
        assert message.pixels.ndim == 3 and message.pixels.shape[2] == 3
        assert message.stamp.seq >= 0 and isinstance(message.stamp.elapsed, float)


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(sorted(PUBLISHED)), _MUTATIONS)
def test_damaged_published_messages_are_refused_or_still_hold_to_the_rules(name, mutations):
    message = accepts_or_refuses(decode_published, mutated(list(encode_published(PUBLISHED[name])), mutations), WORDS)
    if message is not None:
        assert decode_published(encode_published(message)) == message


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from(["kind", "camera", "epoch", "seq", "capture_ns", "wall_time", "media_time", "shape", "state"]),
        st.none()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=5)
        | st.lists(st.integers(-2, 40), max_size=4)
        | st.integers(2**63, 2**80),
        max_size=3,
    )
)
def test_any_values_in_a_header_are_refused_or_give_a_usable_stamp(changes):
    message = accepts_or_refuses(decode_capture, header(**changes), CAPTURED)
    if isinstance(message, ReceivedFrame):
        assert isinstance(message.stamp.elapsed, float)
        assert number_of(message.pixels) == 7


def test_what_a_message_holds_cannot_make_a_second_line_of_a_log():
    for parts in ([b'{"kind":"frame","a\\r\\nERROR forged":1}'], [b"v1/a/event", b'{"schema":"x\\ny"}']):
        decode = decode_capture if len(parts) == 1 else decode_published
        with pytest.raises(WireError) as caught:
            decode(parts)
        assert len(str(caught.value).splitlines()) == 1


def test_a_clock_of_many_digits_is_refused():
    with pytest.raises(WireError):
        decode_capture(header(capture_ns=10**400))


def test_a_prediction_with_many_labels_fits_the_limit():
    scores = [LabelScore(index=i, label="x" * 100, probability=0.1, raw_probability=0.1) for i in range(1000)]
    topic, body = encode_published(recognition(top_k=scores))
    assert len(body) < MAX_PUBLISHED_BYTES
    assert decode_published([topic, body]) == recognition(top_k=scores)
