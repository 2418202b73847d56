"""What `make fuzz` runs for minutes, for seconds: all that reads what strangers wrote, on mutated valid inputs."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from _fuzz_targets import TARGETS, Target, in_order
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_i3d import stage
from stream_i3d.errors import WireError
from stream_i3d.transport import control

PIECES = (
    b"", b"\0", b"\xff", b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"{", b"}", b"[", b'"', b",", b":", b"\n", b"\r", b"-1",
    b"1e999", b"NaN", b"null", b"true", b"99999999999999999999", b"\\ud800", b"\\r\\n", b"../", b"\x80\x02",
    b"PK\x03\x04",
)  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_valid_inputs_pass(name: str) -> None:
    corpus = TARGETS[name].corpus()
    assert {seed[0] for seed in corpus} == set(range(len(TARGETS[name].readers)))  # a reader without one is not fuzzed
    for seed in corpus:
        refusal = TARGETS[name].refusal(seed)
        assert in_order(refusal)
        assert refusal is None or name != "wire"  # files may name what is not there, or hold too little


@pytest.mark.parametrize("refusal", ["", "two\nlines", "much " * 1000])
def test_what_is_not_one_short_line_is_a_finding(refusal: str) -> None:
    def refuse(data: bytes) -> None:
        raise WireError(refusal)

    with pytest.raises(AssertionError, match="not one short line"):
        Target([refuse], list).run(b"\0")


@pytest.mark.parametrize("union", [control.Request, control.Reply, stage.StageMessage, stage.Order])
def test_every_kind_of_message_is_there_to_begin_with(union: Any) -> None:
    corpus = TARGETS["wire"].corpus()
    for kind in get_args(union):
        made = kind.__struct_config__
        said = f'"{made.tag_field}":"{made.tag}"'.encode()
        assert any(said in seed for seed in corpus), kind


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    """A valid input with a few pieces of it overwritten, put in, taken out, said again, or cut off."""
    content = bytearray(draw(st.sampled_from(TARGETS[name].corpus())))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(1, min(len(content), 4000)) | st.integers(1, len(content)))
        length = draw(st.integers(0, 8))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=6))
        how = draw(st.sampled_from(["overwrite", "insert", "repeat", "cut"]))
        if how == "cut" and draw(st.integers(0, 9)):
            how = "overwrite"
        match how:
            case "overwrite":
                content[start : start + length] = piece
            case "insert":
                content[start:start] = piece
            case "repeat":
                content[start:start] = content[start : start + length * 8] * draw(st.integers(1, 20))
            case _:
                del content[start:]
    return bytes(content)


@settings(max_examples=500)
@given(mutated("wire"))
def test_messages(data: bytes) -> None:
    assert in_order(TARGETS["wire"].refusal(data))


@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@given(mutated("config"))
def test_texts(data: bytes) -> None:
    assert in_order(TARGETS["config"].refusal(data))


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(mutated("checkpoint"))
@pytest.mark.filterwarnings("ignore")  # torch's own, about what it finds in pickles
def test_checkpoints(data: bytes) -> None:
    assert in_order(TARGETS["checkpoint"].refusal(data))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=40)
@given(data=st.binary(max_size=200))
@pytest.mark.filterwarnings("ignore")
def test_random_bytes(name: str, data: bytes) -> None:
    assert in_order(TARGETS[name].refusal(data))
