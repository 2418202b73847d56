from __future__ import annotations

from stream_i3d.capture.key_frames import KeyFrameGate


def opened(kinds: str, gate: KeyFrameGate | None = None) -> str:
    """Return a '1' for every picture that can be trusted; '!' stands for damage."""
    gate = gate or KeyFrameGate()
    seen = ""
    for kind in kinds:
        if kind == "!":
            gate.damage()
            continue
        gate.picture(ord(kind))
        seen += str(int(gate.open))
    return seen


def test_pictures_are_trusted_from_the_first_key_picture_on():
    assert opened("PPBIPPB") == "0001111"


def test_after_damage_the_next_key_picture_is_waited_for():
    assert opened("IPP!PPIP") == "1110011"


def test_pictures_of_no_known_kind_are_trusted():
    assert opened("?\0") == "11"


def test_key_pictures_that_are_far_apart_are_waited_for_again_after_the_next_damage():
    assert opened("I" + "!" + "P" * 400 + "I" + "!" + "PP" + "I")[-4:] == "1001"


def test_a_stream_without_key_pictures_is_trusted_in_the_end_and_stays_so():
    seen = opened("P" * 400 + "!" + "P" * 5)
    assert seen.index("1") == 300
    assert "0" not in seen[300:]
