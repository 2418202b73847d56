"""A TCP relay that holds what it relays back and delivers it in bursts, as some networks and gateways do."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Self


class BurstRelay:
    """Relays connections to a port of this machine; what comes from there is delivered every `every_s` seconds.

    The first `calm_s` seconds are relayed at once, so that a connection can be set up.
    """

    def __init__(self, target: int, every_s: float, calm_s: float = 1.0) -> None:
        self.port = 0
        self._target, self._every_s, self._calm_s = target, every_s, calm_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._relay, "127.0.0.1", 0), self._loop)
        self._server = started.result(5)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        mine = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # at the end; the server would log it
            await self._relay_until_closed(reader, writer)

    async def _relay_until_closed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        ways = [
            asyncio.create_task(self._forward(reader, far_writer)),
            asyncio.create_task(self._hold(far_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for end in (writer, far_writer):
                end.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            writer.write(piece)

    async def _hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held = bytearray()
        begun = due = self._loop.time()
        while True:
            timeout = max(0.001, due - self._loop.time()) if held else None
            try:
                piece = await asyncio.wait_for(reader.read(65536), timeout)
                if not piece:
                    return
                held += piece
            except TimeoutError:
                pass
            if self._loop.time() >= due or self._loop.time() - begun < self._calm_s:
                writer.write(bytes(held))
                held.clear()
                due = self._loop.time() + self._every_s
