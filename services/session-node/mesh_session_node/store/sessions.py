"""Sessions of all nodes as Postgres has them, for listings."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.reads import Reads, searched


class SessionStore:
    """Reads sessions. Everything here raises what `mesh_core.database.UNAVAILABLE` names, and what looks
    through all of a tenant's `DeadlineExceeded` SEARCH_TOO_LONG.
    """

    def __init__(self, pool: Reads) -> None:
        self._pool = pool

    async def page(
        self,
        tenant: UUID | None,
        after: UUID | None,
        *,
        states: Sequence[int],
        node: str,
        accounts: Collection[UUID] | None,
        limit: int,
    ) -> list[Record]:
        """Accounts with their sessions behind account `after`, in creation order.

        `tenant=None`: every tenant. No `states`: in every state. `node=""`: on every node. `accounts=None`:
        all of them. A session that its owner has not stored yet is in state NEW, and its `node` is null.
        """
        return await searched(
            self._pool,
            _SESSIONS,
            tenant,
            after,
            [*states] or None,
            node or None,
            limit,
            accounts,
        )

    async def counts(self, tenant: UUID | None, accounts: Collection[UUID] | None) -> list[Record]:
        """How many of these accounts are in which state: state, count. `tenant=None`: of every tenant,
        `accounts=None`: all of them.
        """
        return await searched(self._pool, _COUNTS, tenant, accounts)

    async def disconnects(self, account: UUID, before: UUID | None, limit: int) -> list[Record]:
        """Ends of an account's connections, the latest first, from the one before `before` on."""
        return await self._pool.fetch(_DISCONNECTS, account, before, limit)


_SESSIONS = """
SELECT a.id, a.tenant, coalesce(s.state, 1) AS state, s.cause, s.detail, s.phone, s.network_user_id,
       s.hidden_id, s.push_name, s.restrictions, s.paired, s.node, s.epoch, s.recent_failures, s.sent,
       s.received, s.failed, s.connects, s.connect_time, s.last_heard_time, s.last_inbound_time,
       s.next_connect_time, s.update_time,
       (SELECT count(*) FROM outbox o WHERE o.shard = a.shard AND o.account = a.id) AS queued
FROM account a LEFT JOIN session s ON s.account = a.id
WHERE a.delete_time IS NULL AND ($1::uuid IS NULL OR a.tenant = $1) AND ($2::uuid IS NULL OR a.id > $2)
  AND ($3::int[] IS NULL OR coalesce(s.state, 1) = ANY ($3)) AND ($4::text IS NULL OR s.node = $4)
  AND ($6::uuid[] IS NULL OR a.id = ANY ($6))
ORDER BY a.id LIMIT $5
"""
_COUNTS = """
SELECT coalesce(s.state, 1) AS state, count(*) AS count
FROM account a LEFT JOIN session s ON s.account = a.id
WHERE a.delete_time IS NULL AND ($1::uuid IS NULL OR a.tenant = $1)
  AND ($2::uuid[] IS NULL OR a.id = ANY ($2)) GROUP BY 1 ORDER BY 1
"""
_DISCONNECTS = """
SELECT id, cause, detail, node, connect_time, disconnect_time FROM disconnect
WHERE account = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
"""
