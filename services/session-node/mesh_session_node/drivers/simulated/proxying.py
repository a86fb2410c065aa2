"""A connection to the simulated network through an account's proxy: HTTP's CONNECT, over TLS or not, and
SOCKS 5 with or without a user and a password.
"""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from typing import cast
from urllib.parse import urlsplit

from mesh_session_node.drivers.interface.device import Proxy


class ProxyRefused(OSError):
    """The proxy does not connect us, or speaks something else."""


class _Talk(asyncio.Protocol):
    """What is said with the proxy before it connects us."""

    def __init__(self) -> None:
        self._came = bytearray()
        self._gone = False
        self._changed = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._came += data
        self._changed.set()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._gone = True
        self._changed.set()

    def say(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def take(self, size: int) -> bytes:
        """The next so many bytes."""
        while len(self._came) < size:
            await self._more()
        taken = bytes(self._came[:size])
        del self._came[:size]
        return taken

    async def take_until(self, end: bytes) -> bytes:
        """What comes until `end`, with it."""
        while (at := self._came.find(end)) < 0:
            await self._more()
        return await self.take(at + len(end))

    async def _more(self) -> None:
        if self._gone or len(self._came) > _MAX_ANSWER:
            raise ProxyRefused("the proxy does not answer as one")
        self._changed.clear()
        await self._changed.wait()


async def connect_through(proxy: Proxy, host: str, port: int, protocol: asyncio.Protocol) -> None:
    """Connect `protocol` with what is at `host` and `port`. Raises `OSError`, and waits for as long as its
    caller does.
    """
    parts = urlsplit(proxy.url)
    user, password = proxy.login
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    name = parts.hostname if tls is not None else None
    transport, talk = await asyncio.get_running_loop().create_connection(
        _Talk, proxy.host, proxy.port, ssl=tls, server_hostname=name
    )
    try:
        if parts.scheme == "socks5":
            await _socks(talk, host, port, user, password)
        else:
            await _connect(talk, host, port, user, password)
    except BaseException:  # a cancellation, too: nobody else knows the connection
        transport.abort()
        raise
    # Nothing came behind the proxy's answer: the network speaks only when it is spoken to
    transport.set_protocol(protocol)
    protocol.connection_made(transport)


async def _connect(talk: _Talk, host: str, port: int, user: str, password: str) -> None:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if user or password:
        lines.append(f"Proxy-Authorization: Basic {b64encode(f'{user}:{password}'.encode()).decode()}")
    talk.say("\r\n".join([*lines, "", ""]).encode())
    head = await talk.take_until(b"\r\n\r\n")
    version, _, rest = head.split(b"\r\n", 1)[0].partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest.startswith(b"2"):
        raise ProxyRefused("the proxy refused to connect")


async def _socks(talk: _Talk, host: str, port: int, user: str, password: str) -> None:
    method = _BY_PASSWORD if user else _FREELY
    talk.say(bytes([_VERSION, 1, method]))
    if await talk.take(2) != bytes([_VERSION, method]):
        raise ProxyRefused("the proxy takes no such login")
    if user:
        name, secret = user.encode(), password.encode()
        talk.say(bytes([1, len(name)]) + name + bytes([len(secret)]) + secret)
        if (await talk.take(2))[1]:
            raise ProxyRefused("the proxy refused the login")
    target = host.encode()
    talk.say(bytes([_VERSION, 1, 0, _NAME, len(target)]) + target + port.to_bytes(2, "big"))
    _, status, _, kind = await talk.take(4)
    if status or kind not in _LENGTHS:
        raise ProxyRefused("the proxy refused to connect")
    length = _LENGTHS[kind] or (await talk.take(1))[0]
    await talk.take(length + 2)


_VERSION, _FREELY, _BY_PASSWORD = 5, 0, 2
_NAME = 3
_LENGTHS = {1: 4, _NAME: 0, 4: 16}
"""Bytes of an address of each kind; a name says its own."""
_MAX_ANSWER = 16 * 1024
