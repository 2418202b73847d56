"""A camera's ring on the GPU: each frame goes up once, when it arrives; windows are gathered there.

The host's ring stays as it is and decides everything: which window, whether it is still whole. Its memory is pinned, so
that a frame goes up from its slot without anybody waiting; the same slot on the GPU gets it. Per camera that is
(window + stride + 64) frames, 13 MB at 224 x 224, once in pinned memory and once on the GPU.

Two threads: the drain thread puts frames in, the main thread gathers. Two queues of the device: uploads, and the one
that the network runs on. Marks order them: a gather waits for the newest upload before it, an upload for the newest
gather before it, and the host for a slot's upload before it writes there again. So a gather reads no frame that is
under way, and none that is being overwritten. That a window was overwritten *before* its gather shows as ever: an
upload is queued before the ring's end moves on, both within the camera's lock, in which `intact` looks at that end.

Written without a GPU at hand: the order is tested on a device played by Python, whose queues lag as they like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_i3d.inference.ring import RingShape, stretches

Mark = Any
"""Something a queue of the device gets to; None where all that was asked for is done at once."""


class Queues(Protocol):
    """A device's two queues of work. What is put into one runs in order, and later."""

    def host(self, *shape: int) -> Tensor:
        """Return uint8 memory that can be uploaded from while the host goes on."""

    def device(self, *shape: int) -> Tensor:
        """Return uint8 memory on the device, whatever is in it."""

    def upload(self, target: Tensor, source: Tensor, after: Mark) -> Mark:
        """Have the first queue copy from the host's memory, once `after` is reached; return the place behind that."""

    def gather(self, copies: Sequence[tuple[Tensor, Tensor]], after: Mark) -> Mark:
        """Have the second queue copy (target, source) pairs, once `after` is reached; return the place behind them."""

    def wait(self, mark: Mark) -> None:
        """Wait, on the host, until a mark is reached."""


class CpuQueues:
    """No device: everything is done at once."""

    def host(self, *shape: int) -> Tensor:  # noqa: D102 (the protocol says it)
        return torch.zeros(shape, dtype=torch.uint8)

    def device(self, *shape: int) -> Tensor:  # noqa: D102
        return torch.zeros(shape, dtype=torch.uint8)

    def upload(self, target: Tensor, source: Tensor, after: Mark) -> Mark:  # noqa: D102
        target.copy_(source)

    def gather(self, copies: Sequence[tuple[Tensor, Tensor]], after: Mark) -> Mark:  # noqa: D102
        for target, source in copies:
            target.copy_(source)

    def wait(self, mark: Mark) -> None:  # noqa: D102
        return


class CudaQueues:
    """A stream of its own for uploads; gathers run on the stream that is current where they are asked for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._uploads = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def host(self, *shape: int) -> Tensor:  # noqa: D102
        return torch.zeros(shape, dtype=torch.uint8, pin_memory=True)

    def device(self, *shape: int) -> Tensor:  # noqa: D102
        # Of the uploads' stream: freed, it is not given to another stream's work before its last upload is through.
        with torch.cuda.stream(self._uploads):
            return torch.empty(shape, dtype=torch.uint8, device=self._device)

    def upload(self, target: Tensor, source: Tensor, after: Mark) -> Mark:  # noqa: D102
        with torch.cuda.stream(self._uploads):
            if after is not None:
                self._uploads.wait_event(after)
            target.copy_(source, non_blocking=True)
            return self._uploads.record_event()

    def gather(self, copies: Sequence[tuple[Tensor, Tensor]], after: Mark) -> Mark:  # noqa: D102
        with torch.cuda.device(self._device):
            stream = torch.cuda.current_stream(self._device)
            if after is not None:
                stream.wait_event(after)
            for target, source in copies:
                target.copy_(source, non_blocking=True)
            return stream.record_event()

    def wait(self, mark: Mark) -> None:  # noqa: D102
        mark.synchronize()


def make_queues(device: torch.device) -> Queues:
    """Return the queues of a device."""
    return CudaQueues(device) if device.type == "cuda" else CpuQueues()


class DeviceRing:
    """A `ring.RingMemory` whose frames are on a device too."""

    frames: NDArray[np.uint8]

    def __init__(self, shape: RingShape, queues: Queues) -> None:
        capacity = shape[0]
        self._host, self._device = queues.host(*shape), queues.device(*shape)
        self.frames = self._host.numpy()
        self._queues, self._capacity = queues, capacity
        self._lock = Lock()  # what is put into the queues, and the marks, from two threads
        self._uploaded: list[Mark] = [None] * capacity  # by slot
        self._newest: Mark = None
        self._gathered: Mark = None

    def before(self, slot: int) -> None:
        """Wait until the slot's last frame is up; that was queued a whole ring ago."""
        if (mark := self._uploaded[slot]) is not None:
            self._queues.wait(mark)

    def written(self, slot: int) -> None:
        """Send the slot's frame up, without waiting."""
        with self._lock:
            mark = self._queues.upload(self._device[slot], self._host[slot], self._gathered)
            self._uploaded[slot] = self._newest = mark

    def device_frames(self, first: int, last: int, interval: int) -> DeviceClip:
        """Return where the frames at these positions are on the device."""
        return DeviceClip(self, tuple(stretches(first, last, interval, self._capacity)))

    def gather(self, slots: Sequence[slice], into: Tensor) -> None:
        """Have the device copy slots, one behind the other, into (T, height, width, channels) of its memory."""
        copies, start = [], 0
        for stretch in slots:
            source = self._device[stretch]
            copies.append((into[start : start + len(source)], source))
            start += len(source)
        with self._lock:
            self._gathered = self._queues.gather(copies, self._newest)


@dataclass(frozen=True, slots=True)
class DeviceClip:
    """A window's place in a ring on the device."""

    ring: DeviceRing
    slots: tuple[slice, ...]

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Height, width and channels of its frames."""
        return self.ring.frames.shape[1:]

    def gather(self, into: Tensor) -> None:
        """Have the device copy the window into (T, height, width, channels) of its memory."""
        self.ring.gather(self.slots, into)
