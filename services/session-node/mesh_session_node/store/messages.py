"""Messages as Postgres has them, one by one, and pages of an account's; and who the people in them are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.reads import Reads, searched
from mesh_core.database.requests import Method
from mesh_core.paging import MAX_BYTES
from mesh_session_node.store.receipts import ReceiptStore


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages of an account to list; what is None or empty leaves none out.

    From `start` on, before `end`; `after` is the last one of the page before. `labels` is a JSON object.
    """

    chats: Sequence[str] | None = None
    direction: int | None = None
    statuses: Sequence[int] = ()
    start: datetime | None = None
    end: datetime | None = None
    after: UUID | None = None
    oldest_first: bool = False
    ids: Sequence[UUID] | None = None
    external_id: str | None = None
    labels: str | None = None


class MessageStore:
    """Reads messages. Everything here raises what `mesh_core.database.UNAVAILABLE` names."""

    def __init__(self, pool: Reads) -> None:
        self._pool = pool
        self.receipts = ReceiptStore(pool)

    async def message(self, account: UUID, message: UUID) -> Record | None:
        """One message's row."""
        return await self._pool.fetchrow(_MESSAGE, account, message)

    async def accepted(self, account: UUID, method: Method, request_id: str, digest: bytes) -> Record | None:
        """The row of the message that this request was answered with; None when there is none."""
        return await self._pool.fetchrow(_ACCEPTED, account, method, request_id, digest)

    async def messages(self, account: UUID, messages: Collection[UUID]) -> list[Record]:
        """The rows of these messages, without those that do not exist."""
        return await self._pool.fetch(_MESSAGES, account, [*messages])

    async def page(self, account: UUID, wanted: MessageFilter, limit: int) -> list[Record]:
        """At most `limit` rows, newest first unless asked otherwise.

        Fewer when they are more than a page takes: as many as its bytes hold, and one more, so that
        `paging.Page.cut` can tell that there are further ones. Raises `DeadlineExceeded`
        SEARCH_TOO_LONG, too: what a filter leaves out is looked at all the same.
        """
        arguments: list[Any] = [account]
        where = ["account = $1"]

        def add(condition: str, value: object) -> None:
            arguments.append(value)
            where.append(condition.replace("?", f"${len(arguments)}"))

        if wanted.chats is not None:
            add("chat = ANY (?)", [*wanted.chats])
        if wanted.direction:
            add("direction = ?", wanted.direction)
        if wanted.statuses:
            add("status = ANY (?)", [*wanted.statuses])
        if wanted.start is not None:
            add("id >= uuid_at(?)", wanted.start)
        if wanted.end is not None:
            add("id < uuid_at(?)", wanted.end)
        if wanted.ids is not None:
            add("id = ANY (?)", [*wanted.ids])
        if wanted.external_id is not None:
            add("external_id = ? AND external_id <> ''", wanted.external_id)  # as the index says
        if wanted.labels is not None:
            add("labels @> ?::jsonb", wanted.labels)
        if wanted.after is not None:
            add("id > ?" if wanted.oldest_first else "id < ?", wanted.after)
        order = f"ORDER BY id {'ASC' if wanted.oldest_first else 'DESC'}"
        first, count = len(arguments) + 1, len(arguments) + 2
        arguments += [MAX_BYTES, limit]
        # A large content's size is known without reading it, so that what is beyond the page stays on disk.
        return await searched(
            self._pool,
            f"""SELECT * FROM (
              SELECT *, sum(octet_length(content)) OVER ({order} ROWS UNBOUNDED PRECEDING) AS bytes
              FROM (SELECT {_COLUMNS} FROM message WHERE {" AND ".join(where)} {order} LIMIT ${count}) counted
            ) summed WHERE bytes - octet_length(content) < ${first} {order}""",  # noqa: S608 - all values are arguments
            *arguments,
        )

    async def by_network_ids(
        self, account: UUID, network_ids: Collection[str], own: Collection[UUID]
    ) -> dict[str, UUID]:
        """Our ids of the stored messages that the network knows by these. Those of the account's own, whose
        network ids ours are made into, are found by `own`.
        """
        rows = await self._pool.fetch(_BY_NETWORK_IDS, account, [*network_ids], [*own])
        return {row["network_id"]: row["message"] for row in rows}

    async def by_network_id(self, account: UUID, network_id: str) -> UUID | None:
        """Our id of a message whose network id was chosen elsewhere, such as an inbound one."""
        found: UUID | None = await self._pool.fetchval(_BY_NETWORK_ID, account, network_id)
        return found

    async def identities(self, account: UUID, addresses: Sequence[str]) -> list[Record]:
        """The stored people who have one of these addresses, those that were told last first."""
        named = {
            kind: [a.partition(":")[2] for a in addresses if a.startswith(f"{kind}:")] for kind in _NAMED
        }
        return await self._pool.fetch(_IDENTITIES, account, [*addresses], *named.values())


# What strangers once said of their clocks may be stored as times that no program can hold.
_TIMES = ", ".join(
    f"CASE WHEN {column} BETWEEN '0001-01-02' AND '9999-12-30' THEN {column} END AS {column}"
    for column in ("update_time", "network_time", "edit_time")
)
_COLUMNS = f"""id, account, direction, origin, status, chat, network_id, content, traceparent, failure,
  failure_code, failure_detail, {_TIMES}"""
_MESSAGE = f"SELECT {_COLUMNS} FROM message WHERE account = $1 AND id = $2"  # noqa: S608 - constants
_MESSAGES = f"SELECT {_COLUMNS} FROM message WHERE account = $1 AND id = ANY ($2)"  # noqa: S608 - constants
_ACCEPTED = f"""SELECT {_COLUMNS} FROM message WHERE account = $1 AND id = (SELECT result FROM request
  WHERE scope = $1 AND method = $2 AND request_id = $3 AND digest = $4)"""  # noqa: S608 - constants
_BY_NETWORK_ID = "SELECT message FROM network_message WHERE account = $1 AND network_id = $2"
_BY_NETWORK_IDS = """SELECT network_id, message FROM network_message
    WHERE account = $1 AND network_id = ANY ($2::text[])
  UNION SELECT network_id, id FROM message
    WHERE account = $1 AND id = ANY ($3::uuid[]) AND network_id = ANY ($2::text[])"""
_NAMED = ("phone", "hidden", "username")
_IDENTITIES = """SELECT phone, user_id, hidden_id, username, display_name FROM person_identity
  WHERE account = $1 AND (person = ANY ($2) OR phone <> '' AND phone = ANY ($3)
    OR hidden_id <> '' AND hidden_id = ANY ($4) OR username <> '' AND username = ANY ($5))
  ORDER BY update_time DESC LIMIT 5000"""
