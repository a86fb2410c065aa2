"""A proxy that speaks HTTP's CONNECT and SOCKS 5, and remembers who came with which login."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ssl import SSLContext


class ProxyServer:
    """`url()` is what an account connects through."""

    def __init__(self, login: str = "", tls: SSLContext | None = None) -> None:
        """`login` is `user:password`; empty: everybody may."""
        self.targets: list[str] = []
        """Host and port of each connection that was made, in order."""
        self.refused = 0
        self.port = 0
        self._login = login
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    def url(self, scheme: str, login: str | None = None, host: str = "127.0.0.1") -> str:
        said = self._login if login is None else login
        return f"{scheme}://{said + '@' if said else ''}{host}:{self.port}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            first = await reader.readexactly(1)
            target = await (self._socks if first == b"\x05" else self._connect)(first, reader, writer)
            if target is None:
                self.refused += 1
            else:
                self.targets.append(f"{target[0]}:{target[1]}")
                await self._relay(target, reader, writer)
        self._writers.discard(writer)
        writer.close()

    async def _socks(
        self, _first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[str, int] | None:
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        method = 2 if self._login else 0
        if method not in methods:
            writer.write(b"\x05\xff")
            return None
        writer.write(bytes([5, method]))
        if method:
            await reader.readexactly(1)
            user = await reader.readexactly((await reader.readexactly(1))[0])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            taken = f"{user.decode()}:{password.decode()}" == self._login
            writer.write(bytes([1, not taken]))
            if not taken:
                return None
        kind = (await reader.readexactly(4))[3]
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = ".".join(str(byte) for byte in await reader.readexactly(4))
        port = int.from_bytes(await reader.readexactly(2), "big")
        writer.write(b"\x05\x00\x00\x01" + bytes(6))
        return host, port

    async def _connect(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[str, int] | None:
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode()
        login = ""
        for line in head.splitlines():
            if line.lower().startswith("proxy-authorization: basic "):
                login = b64decode(line.rpartition(" ")[2]).decode()
        if login != self._login:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return None
        host, _, port = head.split(" ")[1].rpartition(":")
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return host, int(port)

    async def _relay(
        self, target: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection(*target)
        self._writers.add(far_writer)
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


@asynccontextmanager
async def proxy_server(login: str = "", tls: SSLContext | None = None) -> AsyncIterator[ProxyServer]:
    server = ProxyServer(login, tls)
    await server.open()
    try:
        yield server
    finally:
        server.close()
