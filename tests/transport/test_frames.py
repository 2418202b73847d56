"""Frame channels over ipc. Nothing is waited for by the clock: where a message is under way, a poll waits."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import zmq

from stream_i3d.messages import CameraReport
from stream_i3d.transport.frames import FRAME_HWM, FrameReceivers, FrameSender
from stream_i3d.transport.wire import ReceivedFrame, decode_capture
from tests.samples import frame, number_of, report
from tests.transport.test_sockets import FULL_S, SOON_S, returns


@pytest.fixture
def channel(tmp_path: Path) -> str:
    return f"ipc://{tmp_path / 'frames'}"


def next_message(receivers: FrameReceivers, index: int = 0) -> ReceivedFrame | CameraReport:
    assert receivers.poll(SOON_S, [index]) == [index]
    parts = receivers.receive(index)
    assert parts is not None
    return decode_capture(parts)


def next_seq(receivers: FrameReceivers, index: int = 0) -> int:
    """Return the seq of the next frame, whose picture must be its number."""
    message = next_message(receivers, index)
    assert isinstance(message, ReceivedFrame)
    assert number_of(message.pixels) == message.stamp.seq
    return message.stamp.seq


def fill(sender: FrameSender, size: int) -> int:
    """Send until the channel takes no more; return how many frames it took."""
    taken = 0
    while sender.send(frame(taken, size), FULL_S):
        taken += 1
        assert taken < 1000, "the channel is not bounded"
    return taken


def test_frames_sent_before_a_worker_is_there_are_dropped_and_counted(channel):
    with FrameSender(channel) as sender:
        assert not sender.connected(0)
        assert [sender.send(frame(seq)) for seq in range(3)] == [False] * 3
        assert sender.dropped == 3
        assert not sender.report(report())
        with FrameReceivers([channel]) as receivers:
            assert sender.connected(SOON_S)
            assert sender.send(frame(3))
            assert next_seq(receivers) == 3  # nothing of before it
        assert sender.dropped == 3


def test_frames_and_reports_arrive_whole_and_in_order(channel):
    with FrameReceivers([channel]) as receivers, FrameSender(channel) as sender:
        sender.connected(SOON_S)
        for seq in range(20):
            assert sender.send(frame(seq, epoch=3, media_time=seq / 25), SOON_S)
            message = next_message(receivers)
            assert isinstance(message, ReceivedFrame)
            assert (message.stamp.seq, message.stamp.epoch, message.stamp.media_time) == (seq, 3, seq / 25)
            assert number_of(message.pixels) == seq
        sent = report(state="stopped", final=True)
        assert sender.report(sent, SOON_S)
        assert next_message(receivers) == sent
        assert receivers.poll(0, [0]) == []
        assert receivers.receive(0) is None


def test_a_channel_nobody_reads_takes_few_frames_and_then_no_more(channel):
    with FrameReceivers([channel]) as receivers, FrameSender(channel) as sender:
        sender.connected(SOON_S)
        taken = fill(sender, size=224)
        # Both high-water marks, and what the kernel holds of a local socket.
        assert FRAME_HWM <= taken <= 2 * FRAME_HWM + 8
        assert not sender.connected(0)
        dropped = sender.dropped
        assert not sender.send(frame(taken, 224))
        assert sender.dropped == dropped + 1
        assert not sender.report(report())
        assert [next_seq(receivers) for _ in range(taken)] == list(range(taken))  # what was taken is not lost
        assert sender.send(frame(taken, 224), SOON_S)
        assert next_seq(receivers) == taken


def test_channels_are_told_apart_and_only_wanted_ones_are_polled(tmp_path):
    addresses = [f"ipc://{tmp_path / name}" for name in ("one", "two", "three")]
    with contextlib.ExitStack() as stack:
        receivers = stack.enter_context(FrameReceivers(addresses))
        senders = [stack.enter_context(FrameSender(address)) for address in addresses]
        for index in (0, 2):
            assert senders[index].send(frame(index), SOON_S)
        assert receivers.poll(SOON_S, [1, 2]) == [2]
        assert receivers.poll(SOON_S, [0]) == [0]
        assert receivers.poll(0, [1]) == []
        assert receivers.receive(1) is None
        assert [next_seq(receivers, index) for index in (2, 0)] == [2, 0]


def test_a_full_channel_does_not_hold_up_another(tmp_path):
    addresses = [f"ipc://{tmp_path / name}" for name in ("one", "two")]
    with FrameReceivers(addresses) as receivers, FrameSender(addresses[0]) as full, FrameSender(addresses[1]) as free:
        fill(full, size=224)
        for seq in range(20):
            assert free.send(frame(seq), SOON_S)
            assert next_seq(receivers, 1) == seq


def test_a_worker_that_was_started_again_is_found_again(channel):
    with FrameSender(channel) as sender:
        for seq in range(2):
            with FrameReceivers([channel]) as receivers:
                assert sender.send(frame(seq), SOON_S)
                assert next_seq(receivers) == seq
            while sender.connected(0):  # until it has noticed that this one is gone: what it sends before is lost
                pass


def test_a_message_larger_than_any_frame_is_not_taken_in(channel):
    context = zmq.Context()
    stranger = context.socket(zmq.PUSH)
    stranger.setsockopt(zmq.LINGER, 0)
    try:
        with FrameReceivers([channel]) as receivers, FrameSender(channel) as sender:
            stranger.connect(channel)
            stranger.send(bytes(65 * 2**20))
            assert sender.send(frame(1), SOON_S)
            assert next_seq(receivers) == 1
            assert receivers.poll(FULL_S, [0]) == []
    finally:
        stranger.close()
        context.term()


def test_closing_a_sender_with_unsent_frames_returns(channel):
    with FrameReceivers([channel]):
        sender = FrameSender(channel)
        assert fill(sender, size=224) > 0
        assert returns(sender.close)


def test_closing_a_worker_with_unread_frames_returns(channel):
    with FrameSender(channel) as sender:
        receivers = FrameReceivers([channel])
        assert sender.connected(SOON_S)
        assert fill(sender, size=224) > 0
        assert returns(receivers.close)
