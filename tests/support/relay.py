"""A TCP relay with a fixed address before a server that moves, or that some are to be cut off from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ssl import SSLContext


class Relay:
    """Forwards to `target` (host:port); while it is cut, connections are gone and new ones refused.

    While it holds, connections stay open, new ones are accepted, and nothing is passed on.
    """

    def __init__(self, target: str, host: str = "127.0.0.1", tls: SSLContext | None = None) -> None:
        self.target = target
        self._tls = tls
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._address = (host, 0)
        self._going = asyncio.Event()
        self._going.set()

    @property
    def url(self) -> str:
        host, port = self._address
        return f"{host}:{port}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, *self._address, ssl=self._tls)
        self._address = self._server.sockets[0].getsockname()[:2]

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def hold(self) -> None:
        self._going.clear()

    def go_on(self) -> None:
        self._going.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._forward(reader, writer)
        except (OSError, asyncio.CancelledError):  # asyncio's streams log a cancelled handler as an error
            writer.transport.abort()
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._going.wait()
        host, _, port = self.target.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        self._writers.add(far_writer)
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            far_writer.transport.abort()
            self._writers.discard(far_writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._going.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()


@asynccontextmanager
async def relay_to(target: str, tls: SSLContext | None = None) -> AsyncIterator[Relay]:
    """With `tls` callers speak TLS to it."""
    relay = Relay(target, tls=tls)
    await relay.open()
    try:
        yield relay
    finally:
        await relay.cut()
