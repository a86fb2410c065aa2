"""A DNS server that knows one thing: which addresses every name has."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

HEADER_BYTES = 12
ADDRESS_QUERY = 1
ANSWER = bytes.fromhex("c00c 0001 0001 00000001 0004")
"""The name asked for, type A, class IN, to be kept for a second, 4 bytes."""


class NameServer(asyncio.DatagramProtocol):
    """Answers each query for IPv4 addresses with `addresses`, any other with nothing; those about names that
    begin with `dead` never.
    """

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.asked = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str | object, int]) -> None:
        name_end = data.index(0, HEADER_BYTES) + 1
        question = data[HEADER_BYTES : name_end + 4]
        kind = int.from_bytes(data[name_end : name_end + 2])
        found = self.addresses if kind == ADDRESS_QUERY else []
        self.asked += 1
        if data[HEADER_BYTES + 1 :].startswith(b"dead"):
            return
        counts = (1).to_bytes(2) + len(found).to_bytes(2) + bytes(4)
        answers = b"".join(ANSWER + socket.inet_aton(each) for each in found)
        assert self._transport is not None
        self._transport.sendto(data[:2] + b"\x81\x80" + counts + question + answers, address)


@asynccontextmanager
async def name_server(*addresses: str) -> AsyncIterator[tuple[NameServer, str]]:
    """A running one, and its address."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: NameServer([*addresses]), local_addr=("127.0.0.1", 0)
    )
    try:
        host, port = transport.get_extra_info("sockname")
        yield server, f"{host}:{port}"
    finally:
        transport.close()
