"""Callers of one account that wait until the network has their message."""

from __future__ import annotations

import asyncio

from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import NotOwner
from mesh_session_node.outbound.outgoing import Outgoing


class Waiters:
    """Futures by message. Most accounts have none most of the time: telling them then costs nothing."""

    __slots__ = ("_by_message",)

    def __init__(self) -> None:
        self._by_message: dict[UUID, list[asyncio.Future[Outgoing | None]]] | None = None

    def add(self, message: UUID) -> asyncio.Future[Outgoing | None]:
        """Answered when the network has acknowledged the message (None), or it ended otherwise."""
        waiter: asyncio.Future[Outgoing | None] = asyncio.get_running_loop().create_future()
        if self._by_message is None:
            self._by_message = {}
        self._by_message.setdefault(message, []).append(waiter)
        return waiter

    def remove(self, message: UUID, waiter: asyncio.Future[Outgoing | None]) -> None:
        """The caller is gone, or has been told."""
        if self._by_message is None or waiter not in self._by_message.get(message, ()):
            return
        self._by_message[message].remove(waiter)
        if not self._by_message[message]:
            self._forget(message)

    def tell(self, message: UUID, outcome: Outgoing | None) -> None:
        """The message is acknowledged (None), or ended as `outcome`."""
        if self._by_message is None:
            return
        for waiter in self._by_message.get(message, ()):
            if not waiter.done():
                waiter.set_result(outcome)
        self._forget(message)

    def drop(self, shard: int) -> None:
        """The account is no longer this node's: the callers ask its owner."""
        waiting, self._by_message = self._by_message, None
        for waiters in (waiting or {}).values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(NotOwner(shard=shard))
                    waiter.exception()  # its caller may be gone

    def _forget(self, message: UUID) -> None:
        if self._by_message is not None:
            self._by_message.pop(message, None)
            self._by_message = self._by_message or None
