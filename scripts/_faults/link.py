"""A TCP relay that does to a stream what a bad network does to TCP, where the kernel has no netem.

Every piece comes late by the delay; a lost one by a resend more (a round trip), and it holds up what follows. Knows
nothing of RTSP.
"""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Self

_SEGMENT_BYTES = 1448  # of Ethernet's 1500


class SlowLink:
    """Relays connections to a port of this machine for as long as the context lasts.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, target: int, delay_s: float, loss: float) -> None:
        self.port = 0
        self._target, self._delay_s, self._loss = target, delay_s, loss
        self._random = random.Random(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="slow-link", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._relay, "127.0.0.1", 0), self._loop)
        self._server = listening.result(5)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def heal(self) -> None:
        """Relay at once, and lose nothing, from now on."""
        self._delay_s = self._loss = 0.0

    async def _end(self) -> None:
        self._server.close()
        mine = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        ways = [asyncio.create_task(self._way(*way)) for way in ((reader, far_writer), (far_reader, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for end in (writer, far_writer):
            end.close()

    async def _way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sending = asyncio.create_task(_send(pieces, writer))
        loop, due = asyncio.get_running_loop(), 0.0
        try:
            while piece := await reader.read(_SEGMENT_BYTES):
                resend_s = 2 * self._delay_s if self._random.random() < self._loss else 0.0
                # In order, so never before the one in front; resends of one round trip overlap, as TCP's do.
                due = max(due, loop.time() + self._delay_s + resend_s)
                pieces.put_nowait((due, piece))
            pieces.put_nowait((due, b""))
            await sending
        finally:
            sending.cancel()


async def _send(pieces: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    """Send each piece when it is due, until an empty one."""
    while True:
        due, piece = await pieces.get()
        await asyncio.sleep(due - asyncio.get_running_loop().time())
        if not piece or writer.is_closing():
            return
        writer.write(piece)
