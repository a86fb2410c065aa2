"""How much memory the messages on their way out may take: those of an account, of a tenant, and of the node.

Each counts from the moment when it is handed to the journal until nothing more of it is to be sent.
"""

from __future__ import annotations

from collections import Counter

from asyncpg.pgproto.pgproto import UUID

from mesh_session_node.outbound.outgoing import Outgoing

OVERHEAD = 1024
"""Bytes that a message takes beside what is stored of it."""


class NodeRoom:
    """`limit` bytes for all accounts. A tenant gets more while it has less than is free: one alone fills
    half, two fill a third each, and a newcomer finds room.
    """

    __slots__ = ("_limit", "_taken", "_tenants")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._tenants: Counter[UUID] = Counter()

    def has(self, tenant: UUID, size: int) -> bool:
        """Whether the tenant may have so many bytes more."""
        return self._tenants[tenant] + size <= self._limit - self._taken

    def take(self, tenant: UUID, size: int) -> None:
        """They are taken, whatever there is: what another node has accepted is taken over in any case."""
        self._taken += size
        self._tenants[tenant] += size

    def give_back(self, tenant: UUID, size: int) -> None:
        """They are free again."""
        self._taken -= size
        self._tenants[tenant] -= size
        if not self._tenants[tenant]:
            del self._tenants[tenant]


class AccountRoom:
    """At most `limit` bytes of one account, within its node's room."""

    __slots__ = ("_limit", "_node", "_taken", "_tenant")

    def __init__(self, node: NodeRoom, tenant: UUID, limit: int) -> None:
        self._node = node
        self._tenant = tenant
        self._limit = limit
        self._taken = 0

    def lacks(self, size: int) -> tuple[str, str] | None:
        """What there is too little of for a message of `size` bytes, and the name of that limit; None where
        it finds room.
        """
        size += OVERHEAD
        if self._taken + size > self._limit:
            return f"the account's outbox has {self._limit:,} bytes at most", "outbox_bytes"
        if not self._node.has(self._tenant, size):
            return (
                "the outboxes of the tenant take all the room of the node that they may",
                "node_outbox_bytes",
            )
        return None

    def take(self, out: Outgoing) -> None:
        """A message is on its way out, until it leaves; nothing happens for one that has room."""
        if out.room is not None:
            return
        size = out.size + OVERHEAD
        out.room = self
        self._taken += size
        self._node.take(self._tenant, size)

    def give_back(self, out: Outgoing) -> None:
        """A message has ended."""
        size = out.size + OVERHEAD
        self._taken -= size
        self._node.give_back(self._tenant, size)
